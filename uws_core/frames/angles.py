"""Frames of principal angles: one row a pair of subspaces, a subspace, or an angle of one pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from uws_core.nouns.angles import Angles, AngleTable, ChanceLevel, TableBand
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import NullBand

# Every column, its unit and its formula: the help text of tables and the header of exports.
HELP: Mapping[str, str] = {
    "left": "First of the two that are compared.",
    "right": "Second of the two that are compared.",
    "angles": "Number of principal angles: the smaller of the two numbers of directions.",
    "mean_degrees": "Mean of the principal angles, in degrees; 0 is the same directions, 90 orthogonal ones.",
    "largest_degrees": "Largest principal angle, in degrees.",
    "overlap": "Mean squared cosine of the principal angles: 1 for one inside the other, 0 for nothing in common.",
    "chance": "Overlap of two random subspaces of these sizes, k / D.",
    "low": "2.5 % of the draws lie below.",
    "middle": "Median of the draws.",
    "high": "2.5 % of the draws lie above.",
    "z": "(observed - mean of the draws) / standard deviation of the draws.",
    "p": "(1 + draws at least as extreme) / (1 + draws).",
    "name": "Owner of the directions: a model, a group, or a layer.",
    "models": "Models behind the directions.",
    "directions": "Number of directions, at most the chosen number.",
    "mean_overlap": "Mean overlap with all others.",
    "nearest": "The other with which the overlap is largest.",
    "nearest_overlap": "Overlap with the nearest.",
    "angle": "Number of the principal angle, counted from the smallest.",
    "degrees": "Principal angle, in degrees; 0 below the floor.",
    "floor_degrees": "Angles below it are rounding and read 0, in degrees; in a table of pairs that of the least "
    "certain pair.",
    "squared_cosine": "Squared cosine of the angle: the share of a direction that lies in the other subspace.",
    "left_direction": "Direction of the first, counted from the strongest.",
    "right_direction": "Direction of the second, counted from the strongest.",
    "cosine": "Cosine between the two directions; its sign is arbitrary.",
    "repeat": "Number of the random split.",
    "chance_mean_degrees": "Mean angle of random directions, on average, in degrees.",
    "chance_largest_degrees": "Largest angle of random directions, on average, in degrees.",
}
BAND = ("low", "middle", "high", "z", "p")


def pairs(table: AngleTable, band: TableBand | None = None) -> pl.DataFrame:
    """One row for each unordered pair of different subspaces, with the band of its overlap where there is one."""
    i, j = np.triu_indices(table.g, 1)
    columns: dict[str, object] = {
        "left": [table.labels[k] for k in i],
        "right": [table.labels[k] for k in j],
        "angles": np.minimum(table.kept[i], table.kept[j]),
        "mean_degrees": _known(table.mean_degrees[i, j]),
        "largest_degrees": _known(table.largest_degrees[i, j]),
        "overlap": _known(table.overlap[i, j]),
        "chance": _known(table.chance[i, j]),
        "floor_degrees": np.full(i.size, np.degrees(table.floor)),
    }
    for name in BAND:
        columns[name] = _known(np.full(i.size, np.nan) if band is None else getattr(band, name)[i, j])
    return pl.DataFrame(columns)


def subspaces(table: AngleTable, attributes: Mapping[str, Sequence[object]] | None = None) -> pl.DataFrame:
    """One row a subspace, in the table's order: numbers of models and directions, and the overlaps with the others.

    `attributes` adds columns, one value a subspace.
    """
    overlap = table.overlap.copy()
    np.fill_diagonal(overlap, np.nan)
    some = np.asarray(~np.isnan(overlap).all(axis=1))
    nearest = np.argmax(np.where(np.isnan(overlap), -1.0, overlap), axis=1)
    sums, counts = np.nansum(overlap, axis=1), (~np.isnan(overlap)).sum(axis=1)
    columns: dict[str, object] = {"name": table.labels} | dict(attributes or {})
    return pl.DataFrame(
        columns
        | {
            "models": table.sizes,
            "directions": table.kept,
            "mean_overlap": _known(np.divide(sums, counts, out=np.full(table.g, np.nan), where=counts > 0)),
            "nearest": [table.labels[k] if known else None for k, known in zip(nearest, some, strict=True)],
            "nearest_overlap": _known(np.where(some, overlap[np.arange(table.g), nearest], np.nan)),
        }
    )


def to_base(
    labels: Sequence[str],
    all_angles: Sequence[Angles],
    levels: Sequence[ChanceLevel],
    attributes: Mapping[str, Sequence[object]] | None = None,
) -> pl.DataFrame:
    """One row a model: angles and overlap with the base's directions, and the range of random overlaps."""
    columns: dict[str, object] = {"name": list(labels)} | dict(attributes or {})
    numbers = {
        "mean_degrees": [angles.mean_degrees for angles in all_angles],
        "largest_degrees": [angles.largest_degrees for angles in all_angles],
        "overlap": [angles.overlap for angles in all_angles],
        "chance": [level.overlap for level in levels],
        "low": [level.low for level in levels],
        "high": [level.high for level in levels],
        "chance_mean_degrees": [level.mean_degrees for level in levels],
        "chance_largest_degrees": [level.largest_degrees for level in levels],
        "floor_degrees": [float(np.degrees(angles.floor)) for angles in all_angles],
    }
    columns["directions"] = [angles.cosines.shape[0] for angles in all_angles]
    return pl.DataFrame(columns | {name: _known(np.array(values)) for name, values in numbers.items()})


def pair(angles: Angles, band: NullBand | None = None) -> pl.DataFrame:
    """One row an angle of one pair, ascending, with the band of random subspaces where there is one."""
    columns: dict[str, object] = {
        "angle": np.arange(1, angles.k + 1),
        "degrees": angles.degrees,
        "squared_cosine": np.cos(angles.radians) ** 2,
        "floor_degrees": np.full(angles.k, np.degrees(angles.floor)),
    }
    for name in BAND:
        columns[name] = _known(np.full(angles.k, np.nan) if band is None else getattr(band, name))
    return pl.DataFrame(columns)


def cosines(angles: Angles) -> pl.DataFrame:
    """One row for each pair of single directions: the cosine between them."""
    left, right = angles.cosines.shape
    return pl.DataFrame(
        {
            "left_direction": np.repeat(np.arange(1, left + 1), right),
            "right_direction": np.tile(np.arange(1, right + 1), left),
            "cosine": angles.cosines.reshape(-1),
        }
    )


def halves(splits: Sequence[Angles], band: NullBand | None = None) -> pl.DataFrame:
    """One row for each angle of each random split in two, with the band of random subspaces."""
    parts = [pair(angles, band if band is not None and band.observed.size == angles.k else None) for angles in splits]
    return pl.concat([part.select(pl.lit(i + 1).alias("repeat"), pl.all()) for i, part in enumerate(parts)])


def _known(values: Floats) -> pl.Series:
    """The numbers with null in place of NaN, which polars sorts as the largest number."""
    return pl.Series(values=np.asarray(values, dtype=np.float64)).fill_nan(None)
