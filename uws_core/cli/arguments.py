"""Arguments shared by the commands: a collection, its layers, amounts."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from uws_core.collection import architectures, collect
from uws_core.errors import CollectionError, LayerError
from uws_core.nouns.architectures import Architecture
from uws_core.nouns.cost import bytes_from
from uws_core.nouns.hub import HubQuery
from uws_core.nouns.loader import DIALECTS
from uws_core.nouns.models import Collection, LayerKey
from uws_core.run import chosen_layers
from uws_core.sources.formats.pickled import PICKLED_SUFFIXES

_WHERE = (
    "a folder of models, demo:NAME, several files or folders, models of the Hub (owner/name@revision), or a query to "
    "it such as 'finetunes:openai-community/gpt2 limit:50'"
)


def add_where(parser: ArgumentParser, *, optional: bool = False) -> None:
    """Adds the arguments that name a collection and its base, and say how its files are read."""
    parser.add_argument("where", nargs="*" if optional else "+", metavar="WHERE", help=_WHERE)
    parser.add_argument("--base", metavar="PLACE", help="the model they all started from")
    parser.add_argument(
        "--architecture",
        metavar="NAME",
        help="the models of one architecture, where several lie together: an id or a title that `ls` lists (the "
        "commonest)",
    )
    parser.add_argument(
        "--having",
        metavar="LAYER",
        help="only the models that have this layer, one that `ls` lists as in part of the models",
    )
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
    """Adds the option `--layers`."""
    parser.add_argument(
        "--layers",
        action="append",
        metavar="GLOB",
        help="layers by full or short name, such as '*.attn.q.weight'; may be given several times; all but factor "
        "views by default",
    )


def open_collection(options: Namespace) -> Collection:
    """Returns the collection that `where` and `base` name.

    Raises:
        CollectionError: the words are neither paths nor a query.
        UwsError: see `collect`.
    """
    return collect(
        _where(options.where),
        base=options.base,
        common_rows=options.common_rows,
        pickled=options.pickled,
        dialect=options.dialect or None,
        architecture=options.architecture,
        having=options.having,
    )


def open_architectures(options: Namespace) -> tuple[Architecture, ...]:
    """Returns the groups of models that share layers, where `where` points.

    Raises:
        UwsError: see `architectures`.
    """
    return architectures(_where(options.where), pickled=options.pickled, dialect=options.dialect or None)


def paths(options: Namespace) -> Path | list[str] | None:
    """Returns the path or paths on this machine that `where` names, or None."""
    words: list[str] = options.where
    if not all(Path(word).expanduser().exists() for word in words):
        return None
    return Path(words[0]).expanduser().absolute() if len(words) == 1 else words


def choose_layers(collection: Collection, globs: Sequence[str] | None) -> tuple[LayerKey, ...]:
    """Returns the layers whose full or short name matches a glob; without globs all but factor views of adapters.

    Raises:
        LayerError: globs that match nothing; names all of them, with similar layer names.
    """
    if not globs:
        return chosen_layers(collection, None)
    matches = {
        glob: {key.name for key in collection.layers if (fnmatchcase(key.name, glob) or fnmatchcase(key.short, glob))}
        for glob in globs
    }
    empty = [glob for glob, names in matches.items() if not names]
    if empty:
        near = get_close_matches(empty[0], list(collection.by_name), n=3, cutoff=0.3) or list(collection.by_name)[:3]
        raise LayerError(
            f"No layer of {collection.name} matches {', '.join(map(repr, empty))}; "
            f"it has {len(collection.layers)}, among them {', '.join(near)}"
        )
    wanted = set().union(*matches.values())
    return tuple(key for key in collection.layers if key.name in wanted)


def whole_number(what: str, low: int, high: int) -> Callable[[str], int]:
    """Returns the reader of a whole number from `low` to `high` for argparse; `what` names it in the error."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18 or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{what} are a whole number from {low} to {high}; found {text!r}")
        return int(text)

    return read


def amount(text: str) -> int:
    """Returns an amount of bytes, for argparse."""
    try:
        return bytes_from(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def share(text: str) -> float:
    """Returns a share of variance in (0, 1], for argparse; `90%` is 0.9."""
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
    strange = [word for word in words if not Path(word).expanduser().exists()]
    if not strange:
        return words
    alone = [word for word in words if word.startswith("demo:")]
    if alone:
        raise CollectionError(f"{alone[0]} is a collection of its own; name it alone, or choose among its models there")
    mixed = len(strange) < len(words)
    absent = [word for word in strange if mixed and _is_file(word)]
    if absent:
        raise CollectionError(f"{', '.join(absent)}: no such file or folder here; expected {_WHERE}")
    try:
        query = HubQuery.parse(" ".join(strange))
    except ValueError as error:
        if mixed:
            raise CollectionError(
                f"{', '.join(strange)}: no such file or folder here, and no model of the Hub either ({error}); "
                f"expected {_WHERE}"
            ) from error
        raise CollectionError(
            f"{' '.join(words)!r} is no place on this machine, and no query either ({error}); expected {_WHERE}"
        ) from error
    if mixed and query.lists:
        raise CollectionError(f"{', '.join(strange)}: a query to the Hub is taken alone, without files of this machine")
    return words if mixed else query if query.lists else list(query.names)


def _is_file(word: str) -> bool:
    """Whether a word that names nothing here reads as a file: by its ending, or since the folder before it is here."""
    path = Path(word)
    inside = path.parent.name != "" and path.parent.exists()
    return inside or path.suffix in (".safetensors", ".zip", *PICKLED_SUFFIXES)
