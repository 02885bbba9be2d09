"""The answer line of the angles page: the overlap of the directions of two models, groups or layers, against chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.answers.wording import directions, where
from uws_core.nouns.angles import Angles, AngleTable, ChanceLevel, TableBand
from uws_core.nouns.arrays import Floats

LEVEL = 0.05
# Where random directions overlap by so much, no pair can overlap more.
ALL = 0.999
# Halves whose overlap is beyond chance by less than a quarter of one direction.
QUARTER = 0.25
ALL_DIRECTIONS = "One cannot tell: these are all the directions there are, so choose fewer to learn something."


def answer(
    table: AngleTable, *, location: str, side: str, level: ChanceLevel, band: TableBand | None = None, by: str = ""
) -> str:
    """The answer for a table of models, groups or layers.

    `location` names the layer (or the layers), `side` the axis, `level` is the chance level of `chance_level`, `by` the
    attribute of the groups. With a `band`, groups are compared with shuffled labels, else with random directions.
    """
    pairs = np.triu_indices(table.g, 1)
    overlap, chance = table.overlap[pairs], table.chance[pairs]
    overlap, chance = overlap[~np.isnan(overlap)], chance[~np.isnan(overlap)]
    attribute = f"`{by}`" if by else "the attribute"
    if table.g < 2 or not overlap.size:
        if table.what == "groups":
            return f"One cannot tell: {attribute} must give at least two groups of at least two models."
        return f"One cannot tell: fewer than two {table.what} have directions that can be compared."
    counts = table.kept[table.kept > 0]
    k = f"{counts.min()} " if counts.min() == counts.max() else ""
    owners = {
        "models": f"the {k}leading {directions(side)} of two models",
        "groups": f"the {k}leading shared {directions(side)} of two values of {attribute}",
        "layers": f"the {k}leading shared {directions(side)} of two layers",
    }[table.what]
    location = "" if table.what == "layers" else f"in {where(location)}, "
    fact = f"{location}{owners} overlap by {number(float(np.median(overlap)))}"
    if band is not None:
        shuffled = number(band.between.middle)
        verdict = "More different than random groups" if band.between.z > 0 else "More alike than random groups"
        if band.p_between > LEVEL:
            verdict = "No different from random groups"
        return f"{verdict}: {fact}, those of random groups by {shuffled}."
    if level.overlap > ALL:
        return ALL_DIRECTIONS
    return _against_random(overlap, chance, level, fact=fact, location=location, what=table.what)


def answer_halves(splits: Sequence[Angles], *, location: str, side: str, level: ChanceLevel, by: str = "") -> str:
    """The answer for random halves: the overlap of the shared directions of the two halves."""
    overlaps = [angles.overlap for angles in splits if angles.k]
    if not overlaps:
        return "One cannot tell: halves of these models have no shared directions about their means."
    middle, k = float(np.median(overlaps)), splits[0].k
    whole = f", each {by} in one half," if by else ""
    fact = f"in {where(location)}, the {k} {directions(side)} of two random halves{whole} overlap by {number(middle)}"
    if middle <= level.high:
        verdict = "No more than chance"
    elif (middle - level.overlap) * k < QUARTER:
        verdict = "Both halves share hardly any direction"
    else:
        verdict = "Both halves share most directions" if middle > 0.5 else "Both halves share some directions"
    return f"{verdict}: {fact}, random directions by {number(level.overlap)}."


def number(value: float) -> str:
    """An overlap with two significant digits."""
    if value < 0.001:
        return f"{value:.1g}" if value > 0 else "0"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _against_random(overlap: Floats, chance: Floats, level: ChanceLevel, *, fact: str, location: str, what: str) -> str:
    """The line for overlaps (N,) against random pairs of the same sizes."""
    limit = level.high / level.overlap
    middle, beyond = float(np.median(overlap / chance)), int((overlap / chance > limit).sum())
    if middle > limit:
        strength = "Far above chance" if middle >= 10 else "Above chance"
        return f"{strength}: {fact}, random ones by {number(level.overlap)}."
    if beyond > LEVEL * overlap.size:
        return (
            f"Mostly no more than chance: {location}{beyond} of {overlap.size} pairs of {what} overlap more than "
            "nearly all random directions."
        )
    return f"No more than chance: {fact}, random ones by {number(level.overlap)}."
