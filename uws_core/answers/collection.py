"""The sentence that answers the collection page: what can be compared here, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from uws_core.nouns.models import Collection, Value

# More values than that are names, not groups.
_MOST_VALUES = 100


def answer(collection: Collection, *, members: Sequence[int], layers: Sequence[str]) -> str:
    """How many models and layers can be compared, how much was left out, and how the models are laid out."""
    models = _of(len(members), len(collection), "model")
    shown = _of(len(layers), len(collection.layers), "layer")
    parts = [f"{models} of one architecture, {shown} comparable, {_left_out(collection)}", _base(collection)]
    design = _design(collection)
    return "; ".join([*parts, *([design] if design else [])]) + "."


def _of(chosen: int, total: int, noun: str) -> str:
    plural = noun if total == 1 else f"{noun}s"
    return f"{total} {plural}" if chosen == total else f"{chosen} of {total} {plural}"


def _left_out(collection: Collection) -> str:
    return f"{len(collection.left_out)} left out" if collection.left_out else "nothing left out"


def _base(collection: Collection) -> str:
    if collection.base is None:
        return "no base known"
    lacking = len(collection.layers) - len(collection.base_layers)
    return "one base" if not lacking else f"one base, which lacks {lacking} of the layers"


def _design(collection: Collection) -> str:
    """`10 tasks x 4 seeds` where two attributes tell all models apart, else the attributes with few values."""
    columns = {name: _values(values) for name, values in collection.table.items()}
    counts = {name: len(set(values)) for name, values in columns.items() if None not in values}
    groups = {name: count for name, count in counts.items() if 2 <= count <= min(_MOST_VALUES, len(collection) - 1)}
    for first, second in combinations(groups, 2):
        pairs = set(zip(columns[first], columns[second], strict=True))
        if len(pairs) == len(collection) == groups[first] * groups[second]:
            return f"{groups[first]} {first}s x {groups[second]} {second}s"
    return ", ".join(f"{count} {name}s" for name, count in list(groups.items())[:3])


def _values(column: Sequence[Value]) -> list[Value]:
    return [None if value == "" else value for value in column]
