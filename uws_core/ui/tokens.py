"""Short texts that name models and layers in an address, and what they mean in a collection.

A *model token* is a label (`parity-0`), a value of an attribute (`task=parity`), or rows picked by hand
(`rows:0-3,7`, counted from 0 in the order of the collection). A *layer token* is a name or a glob
(`blocks.*.attn.q.weight`). Values of one attribute add up, different attributes narrow, single models are
added. No token at all means everything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from uws_core.nouns.models import Collection, LayerKey, Value

ROWS = "rows:"
# An attribute with more values than this is a name or a measurement, not a group.
MOST_GROUPS = 40
# Longer than any layer name; a glob beyond it is noise and costs time to match.
MOST_GLOB = 300
# Up to the first number between dots, the number, and the rest: `blocks.` `2` `attn.q.weight`.
_BLOCK = re.compile(r"((?:[^.]+\.)*?)(\d+)\.(.+)", re.ASCII)
_RUN = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)


def group_columns(collection: Collection) -> tuple[str, ...]:
    """The attributes that form groups: at least two values, fewer than models, at most `MOST_GROUPS`."""
    return tuple(
        name
        for name, column in collection.table.items()
        if 2 <= len(groups_of(column)) <= min(MOST_GROUPS, len(collection) - 1)
    )


def telling_column(collection: Collection, rows: Sequence[int], *, chosen: str = "") -> str:
    """The `chosen` attribute, or the first in words, if it tells at least two groups of these models apart."""
    named = [
        name
        for name in group_columns(collection)
        if name == chosen or all(isinstance(value, str) for value in collection.table[name])
    ]
    telling = [name for name in named if len({collection.table[name][row] for row in rows}) > 1]
    return chosen if chosen in telling else next(iter(telling), "")


def groups_of(column: Iterable[Value]) -> tuple[str, ...]:
    """The distinct values of a column as texts, in the order of first appearance, without the unknown."""
    return tuple(dict.fromkeys(str(value) for value in column if value is not None and value != ""))


def model_options(collection: Collection) -> dict[str, str]:
    """Every token that a person is offered, groups first, then single models, each with what it reads like."""
    options: dict[str, str] = {}
    for name in group_columns(collection):
        counts = Counter(str(value) for value in collection.table[name] if value is not None)
        groups = groups_of(collection.table[name])
        options |= {f"{name}={value}": f"{name}: {value} ({counts[value]})" for value in groups}
    return options | {label: label for label in collection.labels}


def layer_options(collection: Collection) -> tuple[str, ...]:
    """Every token that a person is offered: modules at every depth, whole blocks, then single layers."""
    names = [layer.name for layer in collection.layers]
    families = dict.fromkeys(glob for layer in collection.layers for glob in _families(layer))
    shared = [glob for glob in families if sum(fnmatchcase(name, glob) for name in names) > 1]
    return (*(glob for glob in shared if glob not in names), *names)


def member_indices(collection: Collection, tokens: Sequence[str]) -> tuple[int, ...]:
    """The chosen models as ascending indices: all without tokens, possibly none when attributes exclude each other."""
    if not tokens:
        return tuple(range(len(collection)))
    singles: set[int] = set()
    facets: dict[str, set[int]] = {}
    for token in tokens:
        column, indices = _models_of(collection, token)
        (facets.setdefault(column, set()) if column else singles).update(indices)
    return tuple(sorted(singles.union(set.intersection(*facets.values()) if facets else ())))


def layer_names(collection: Collection, tokens: Sequence[str]) -> tuple[str, ...]:
    """The chosen layers by name, in the order of the collection; without tokens all but factor views, never pooled."""
    if not tokens:
        return tuple(layer.name for layer in collection.layers if not layer.factor)
    names = (layer.name for layer in collection.layers)
    return tuple(name for name in names if any(_names(token, name) for token in tokens))


def known_models(collection: Collection, tokens: Iterable[str]) -> tuple[str, ...]:
    """The tokens that mean at least one model, each once, rows clipped to the collection and written in one way."""
    found: dict[str, None] = {}
    for token in tokens:
        _, indices = _models_of(collection, token)
        if indices:
            found[rows_token(indices) if token not in collection.labels and token.startswith(ROWS) else token] = None
    return tuple(found)


def known_layers(collection: Collection, tokens: Iterable[str]) -> tuple[str, ...]:
    """The tokens that mean at least one layer, each once."""
    return tuple(token for token in dict.fromkeys(tokens) if any(_names(token, key.name) for key in collection.layers))


def rows_token(indices: Iterable[int]) -> str:
    """The rows as one short token: 0, 1, 2, 3 and 7 read `rows:0-3,7`."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ROWS + ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def tokens_for(collection: Collection, indices: Sequence[int]) -> tuple[str, ...]:
    """The shortest tokens for models picked by hand: none for all, labels for a few, one run of rows for many."""
    chosen = sorted(set(indices))
    if len(chosen) in (0, len(collection)):
        return ()
    # Six labels still read as a sentence in the address and as chips in the sidebar; forty do not.
    return tuple(collection.labels[i] for i in chosen) if len(chosen) <= 6 else (rows_token(chosen),)


def model_caption(collection: Collection, token: str) -> str:
    """What a person reads for a model token: `task: parity (4)`, `12 picked rows`, or the label itself."""
    column, indices = _models_of(collection, token)
    if column:
        return f"{column}: {token.partition('=')[2]} ({len(indices)})"
    return token if token in collection.labels else f"{len(indices)} picked rows"


def layer_caption(collection: Collection, token: str) -> str:
    """What a person reads for a layer token: the short name, or the glob shortened alike with the number of layers."""
    key = collection.by_name.get(token)
    if key is not None:
        return key.short
    short = re.sub(r"\.weight$", "", re.sub(r"^.*?(?=(\*|\d+)\.)", "", token))
    return f"{short} ({len(layer_names(collection, (token,)))})"


def _models_of(collection: Collection, token: str) -> tuple[str, frozenset[int]]:
    """The attribute a token speaks of ("" for single models) and the models it means."""
    if token in collection.labels:
        return "", frozenset((collection.labels.index(token),))
    if token.startswith(ROWS):
        return "", frozenset(_rows(token.removeprefix(ROWS), len(collection)))
    column, _, value = token.partition("=")
    cells = collection.table.get(column, ())
    return column, frozenset(i for i, cell in enumerate(cells) if cell is not None and str(cell) == value != "")


def _rows(text: str, n: int) -> set[int]:
    """The row numbers below `n` in `0-3,7`; what is not of that form means nothing."""
    rows: set[int] = set()
    for part in text.split(","):
        run = _RUN.fullmatch(part.strip())
        if run:
            rows.update(range(int(run[1]), min(int(run[2] or run[1]) + 1, n)))
    return {row for row in rows if row < n}


def _names(token: str, name: str) -> bool:
    """Whether a token means this layer: equal, or a glob that matches."""
    if token == name:
        return True
    return len(token) <= MOST_GLOB and any(mark in token for mark in "*?[") and fnmatchcase(name, token)


def _families(layer: LayerKey) -> tuple[str, ...]:
    """The globs a layer belongs to: its module at every depth, and its whole block."""
    block = _BLOCK.match(layer.name)
    return (f"{block[1]}*.{block[3]}", f"{block[1]}{block[2]}.*") if block else ()
