"""The answer line of the collection page: models and layers that can be compared, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from uws_core.answers.wording import counted
from uws_core.nouns.left_out import counts
from uws_core.nouns.models import Collection

# A column with more values holds names, not groups.
_MOST_VALUES = 100


def answer(collection: Collection, *, members: Sequence[int], layers: Sequence[str]) -> str:
    """The numbers of models and layers, those that are chosen of a subset, and of what is left out; biases are none."""
    models = _chosen(len(members), len(collection), "model")
    shown = _chosen(len(layers), len(collection.layers), "layer")
    return f"{models} of one architecture, {shown} comparable, {_left_out(collection)}; {_base(collection)}."


def design(collection: Collection) -> str:
    """The crossing of two attributes, as `10 tasks x 4 seeds`, or the attributes with few values; empty without any."""
    columns = {name: [None if value == "" else value for value in values] for name, values in collection.table.items()}
    counts = {name: len(set(values)) for name, values in columns.items() if None not in values}
    groups = {name: count for name, count in counts.items() if 2 <= count <= min(_MOST_VALUES, len(collection) - 1)}
    for first, second in combinations(groups, 2):
        pairs = set(zip(columns[first], columns[second], strict=True))
        if len(pairs) == len(collection) == groups[first] * groups[second]:
            return f"{counted(groups[first], first)} x {counted(groups[second], second)}"
    return ", ".join(counted(count, name) for name, count in list(groups.items())[:3])


def _left_out(collection: Collection) -> str:
    """The models that are left out; where no model is, those of other architectures, or else the matrices."""
    lost = counts(collection.left_out)
    if lost.models:
        return f"{lost.models} {'model or file' if lost.models == 1 else 'models or files'} left out"
    if lost.others:
        noun = "model of another architecture" if lost.others == 1 else "models of other architectures"
        return f"{lost.others} {noun} beside"
    if lost.matrices:
        return f"{lost.matrices} {'matrix' if lost.matrices == 1 else 'matrices'} left out"
    return "nothing left out but biases and other vectors" if lost.vectors else "nothing left out"


def _chosen(chosen: int, total: int, noun: str) -> str:
    return counted(total, noun) if chosen == total else counted(chosen, f"chosen {noun}")


def _base(collection: Collection) -> str:
    if collection.base is None:
        return "no base known"
    # Factor views of adapters exist only in the models.
    lacking = [key for key in collection.layers if not key.factor and key.name not in collection.base_layers]
    return "one base" + (" without some of the layers" if lacking else "")
