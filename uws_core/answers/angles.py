"""The sentence that answers the angles page: whether two of these use the same directions, against chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.nouns.angles import Angles, AngleTable, ChanceLevel, TableBand
from uws_core.nouns.arrays import Floats

LEVEL = 0.05
# Where random directions overlap so much, nothing can overlap more.
ALL = 0.999


def answer(
    table: AngleTable, *, place: str, side: str, level: ChanceLevel, band: TableBand | None = None, by: str = ""
) -> str:
    """The answer for a table of models, groups or layers.

    `place` is the layer (or the layers) in words, `side` the axis, `level` the chance level of `chance_level`, `by`
    the attribute that makes the groups. With a `band` groups are judged against shuffled labels, else against
    random directions.
    """
    apart = np.triu_indices(table.g, 1)
    overlap, chance = table.overlap[apart], table.chance[apart]
    overlap, chance = overlap[~np.isnan(overlap)], chance[~np.isnan(overlap)]
    if table.g < 2 or not overlap.size:
        return _cannot(table, by)
    head = f"{_who(table, place, side, by)} overlap by {number(float(np.median(overlap)))}"
    if overlap.size > 1:
        head += f" (median of {overlap.size} pairs)"
    if band is not None:
        return f"{head}; {_shuffled(band, by)}."
    verdict = _verdict(overlap, chance, level)
    return f"{head}; random directions overlap by {number(level.overlap)}: {verdict}."


def answer_halves(splits: Sequence[Angles], *, place: str, side: str, level: ChanceLevel, by: str = "") -> str:
    """The answer for random halves: whether the shared directions of one half are those of the other."""
    overlaps = [one.overlap for one in splits if one.k]
    if not overlaps:
        return "One cannot tell: halves of these models have no shared directions about their means."
    middle, k = float(np.median(overlaps)), splits[0].k
    kept = f", each {by} in one half" if by else ""
    said = (
        f"In {place}, the {_directions(k, side)} shared by one random half of the models and those of the other half "
        f"overlap by {number(middle)} (median of {len(overlaps)} splits{kept}); random directions overlap by "
        f"{number(level.overlap)}"
    )
    if middle <= level.high:
        return f"{said}: the halves share no more than chance."
    if middle > 0.5:
        return f"{said}: most of the subspace is the same whichever half is looked at."
    return f"{said}: some of the subspace is the same in both halves, most is each half's own."


def _who(table: AngleTable, place: str, side: str, by: str) -> str:
    alive = table.kept[table.kept > 0]
    k = _span(alive)
    if table.what == "models":
        return f"In {place}, the {k} leading {side_text(side)} of two of these {alive.size} models"
    if table.what == "groups":
        values = f"two of the {alive.size} values of {by or 'the attribute'}"
        return f"In {place}, the {k} leading shared {side_text(side)} of {values}"
    return f"The {k} leading shared {side_text(side)} of two of these {alive.size} layers"


def _cannot(table: AngleTable, by: str) -> str:
    if table.what == "groups":
        return (
            f"One cannot tell: {by or 'the attribute'} must give at least two groups of at least two models; a single "
            "model has no direction about its own mean."
        )
    return f"One cannot tell: fewer than two {table.what} have directions that can be compared."


def _shuffled(band: TableBand, by: str) -> str:
    """The mean overlap against shuffled labels, tested on both sides."""
    test = band.between
    said = f"with the models shuffled among them {number(test.low)} to {number(test.high)}"
    if band.p_between > LEVEL:
        return f"{said}: no different from groups made at random"
    more = "more different" if test.z > 0 else "more alike"
    values = f"the values of {by or 'the attribute'} use {more} directions than random groups of the same models"
    return f"{said}: {values} (p = {band.p_between:.2g})"


def _verdict(overlap: Floats, chance: Floats, level: ChanceLevel) -> str:
    """What the pairs (N,) show against random ones of their own sizes."""
    if level.overlap > ALL:
        return "these are all the directions there are, so choose fewer to learn something"
    beyond = int((overlap / chance > level.high / level.overlap).sum())
    middle = float(np.median(overlap / chance))
    if middle > level.high / level.overlap:
        return f"{middle:.1f} times chance" if middle < 100 else "far above chance"
    if beyond > LEVEL * overlap.size:
        return f"mostly no more than chance, but {beyond} of {overlap.size} pairs beyond 97.5 % of random ones"
    return "no more than chance"


def side_text(side: str) -> str:
    """The directions of an axis in words."""
    return {"in": "input directions", "out": "output directions"}.get(side, "directions")


def _directions(k: int, side: str) -> str:
    return f"{k} {side_text(side)}"


def _span(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def number(value: float) -> str:
    """An overlap with two significant digits."""
    if value < 0.001:
        return f"{value:.1g}" if value > 0 else "0"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
