"""What the words on the command line stand for: a collection, its layers, amounts."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from uws_core.collection import collect
from uws_core.errors import CollectionError, LayerError
from uws_core.nouns.hub import HubQuery
from uws_core.nouns.loader import DIALECTS
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.sizes import bytes_from
from uws_core.run import chosen_layers

_WHERE = (
    "a folder of models, demo:NAME, several files or folders, models of the Hub (owner/name@revision), or a query to "
    "it such as 'finetunes:openai-community/gpt2 limit:50'"
)


def add_where(parser: ArgumentParser) -> None:
    """The words that name a collection, its base, and how its files are read."""
    parser.add_argument("where", nargs="+", metavar="WHERE", help=_WHERE)
    parser.add_argument("--base", metavar="PLACE", help="the model they all started from")
    parser.add_argument(
        "--common-rows",
        action="store_true",
        help="compare layers that differ in their number of rows alone, such as vocabularies, in the rows that all "
        "have; they are named so, embed.weight[:32000]",
    )
    parser.add_argument(
        "--pickled",
        action="store_true",
        help="read torch's own .bin and .pt files in a folder too, through its weights-only loader; only files you "
        "trust: opening a pickle can run what its author wrote into it",
    )
    parser.add_argument(
        "--dialect", choices=DIALECTS, default="", help="take only adapters whose names that trainer wrote (any)"
    )


def add_layers(parser: ArgumentParser) -> None:
    """The globs that choose layers."""
    parser.add_argument(
        "--layers",
        action="append",
        metavar="GLOB",
        help="layers by full or short name, such as '*.attn.q.weight'; may be given several times; all but factor "
        "views by default",
    )


def collection(told: Namespace) -> Collection:
    """The collection that `where` and `base` name.

    Raises:
        CollectionError: the words are neither places nor a query.
        UwsError: see `collect`.
    """
    return collect(
        _where(told.where),
        base=told.base,
        common_rows=told.common_rows,
        pickled=told.pickled,
        dialect=told.dialect or None,
    )


def places(told: Namespace) -> Path | list[str] | None:
    """The place or the places on this machine that `where` names; None where it is something else."""
    words: list[str] = told.where
    if not all(Path(word).expanduser().exists() for word in words):
        return None
    return Path(words[0]).expanduser().absolute() if len(words) == 1 else words


def layers(found: Collection, globs: Sequence[str] | None) -> tuple[LayerKey, ...]:
    """The layers whose full or short name matches any glob; without globs all but the factor views of adapters.

    Raises:
        LayerError: a glob that matches nothing; all such are named, with what comes near.
    """
    if not globs:
        return chosen_layers(found, None)
    matches = {glob: {key.name for key in found.layers if _matches(key, glob)} for glob in globs}
    empty = [glob for glob, names in matches.items() if not names]
    if empty:
        near = get_close_matches(empty[0], list(found.by_name), n=3, cutoff=0.3) or list(found.by_name)[:3]
        raise LayerError(
            f"No layer of {found.name} matches {', '.join(map(repr, empty))}; "
            f"it has {len(found.layers)}, among them {', '.join(near)}"
        )
    wanted = set().union(*matches.values())
    return tuple(key for key in found.layers if key.name in wanted)


def amount(text: str) -> int:
    """An amount of bytes, for argparse."""
    try:
        return bytes_from(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def share(text: str) -> float:
    """A share of the variance, for argparse: above 0, at most 1; `90%` is 0.9."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"a share lies above 0 and at most at 1, such as 0.9 or 90%; found {text!r}")
    return value


def _where(words: list[str]) -> str | list[str] | HubQuery:
    if len(words) == 1 and (words[0].startswith("demo:") or Path(words[0]).expanduser().exists()):
        return words[0]
    if all(Path(word).expanduser().exists() for word in words):
        return words
    try:
        query = HubQuery.parse(" ".join(words))
    except ValueError as error:
        raise CollectionError(
            f"{' '.join(words)!r} is no place on this machine, and no query either ({error}); expected {_WHERE}"
        ) from error
    return query if query.lists else list(query.names)


def _matches(key: LayerKey, glob: str) -> bool:
    return fnmatchcase(key.name, glob) or fnmatchcase(key.short, glob)
