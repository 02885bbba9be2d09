"""Frames of lineages: one row a model, a group, a pair, a suspect, a threshold, or a column of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import EntryStats
from uws_core.nouns.lineage import Explained, Lineage, ModelMap, Overlap
from uws_core.nouns.models import Value

# Every column, its unit and its formula: the help text of tables and the header of exports.
HELP: Mapping[str, str] = {
    "model": "Name of the model.",
    "group": "Number of the group, the largest is 1: chains of cosines above the threshold join models.",
    "group_size": "Models in the group.",
    "representative": "The model of its group that is most like the others of it.",
    "nearest": "The other model with the largest cosine.",
    "cosine": "Inner product / product of norms, about the chosen centre.",
    "norm": "Distance from the chosen centre, in units of the weights.",
    "norm_ratio": "Norm / median norm.",
    "entry_mean": "Mean of the entries.",
    "entry_std": "Standard deviation of the entries.",
    "entry_kurtosis": "Excess kurtosis of the entries: 0 for a normal, -1.2 for a uniform distribution.",
    "entry_largest": "Largest magnitude of an entry.",
    "suspicion": "What looks odd, if anything.",
    "reason": "Why, in numbers.",
    "kind": "What looks odd.",
    "value": "What was measured.",
    "usual": "What the other models have, or what chance gives.",
    "left": "First of the pair.",
    "right": "Second of the pair.",
    "distance": "|W_i - W_j| / mean of the two norms.",
    "models": "Models in the group.",
    "share": "Share of the models.",
    "mean_cosine": "Mean cosine between different models of the group.",
    "threshold": "Cosine above which two models are joined.",
    "groups": "Number of groups at this threshold.",
    "largest": "Models in the largest group.",
    "agreement": "Adjusted Rand index: 1 for the same groups, 0 on average by chance (Hubert and Arabie 1985).",
    "column": "Column of the models table.",
    "values": "Different values in the column.",
    "p": "(1 + shuffles that agree as well) / (1 + shuffles).",
    "note": "Why there is no number.",
    "component": "Principal direction, counted from the strongest.",
    "explained": "Share of the component's variance that lies between the values of the column (ANOVA ratio).",
    "chance": "What a column of as many values explains on average, (g - 1) / (s - 1).",
}
_MODEL = {"representative": pl.Boolean, "suspicion": pl.String, "reason": pl.String, "nearest": pl.String}


def models(family: Lineage, stats: EntryStats | None = None) -> pl.DataFrame:
    """One row a model in the lineage's order: group, nearest model, strength profile and what looks odd.

    `stats` are the entry statistics of the Gram (all its models), which add the moments of the entries.
    """
    place, cosine = _nearest(family)
    odd = {one.model: one for one in family.suspects}
    middle = float(np.median(family.norms))
    columns: dict[str, object] = {
        "model": family.labels,
        "group": family.groups + 1,
        "group_size": family.sizes[family.groups],
        "representative": np.isin(np.arange(family.s), family.representatives),
        "nearest": [None if np.isnan(c) else family.labels[p] for p, c in zip(place, cosine, strict=True)],
        "cosine": _known(cosine),
        "norm": family.norms,
        "norm_ratio": _known(family.norms / middle if middle > 0 else np.full(family.s, np.nan)),
    }
    for name in ("mean", "std", "kurtosis", "largest"):
        values = np.full(family.s, np.nan) if stats is None else getattr(stats, name)[family.members]
        columns[f"entry_{name}"] = _known(values)
    columns["suspicion"] = [odd[label].kind if label in odd else None for label in family.labels]
    columns["reason"] = [odd[label].reason if label in odd else None for label in family.labels]
    return pl.DataFrame(columns, schema_overrides=_MODEL)


def groups(family: Lineage) -> pl.DataFrame:
    """One row a group, the largest first: how many models, how alike they are, and who stands for it."""
    rows = []
    for group, size in enumerate(family.sizes):
        inside = np.flatnonzero(family.groups == group)
        part = family.cosines[np.ix_(inside, inside)][np.triu_indices(size, 1)]
        rows.append(
            {
                "group": group + 1,
                "models": int(size),
                "share": size / family.s,
                "mean_cosine": float(part.mean()) if part.size else None,
                "representative": family.labels[family.representatives[group]],
            }
        )
    schema = {"group": pl.Int64, "models": pl.Int64, "share": pl.Float64, "mean_cosine": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, "representative": pl.String})


def cosines(family: Lineage) -> pl.DataFrame:
    """One row for each unordered pair of different models."""
    i, j = np.triu_indices(family.s, 1)
    names = np.array(family.labels, dtype=object)
    return pl.DataFrame(
        {"left": names[i].tolist(), "right": names[j].tolist(), "cosine": _known(family.cosines[i, j])},
        schema={"left": pl.String, "right": pl.String, "cosine": pl.Float64},
    )


def duplicates(family: Lineage) -> pl.DataFrame:
    """One row a pair of near copies, the nearest first."""
    rows = [(one.left, one.right, one.cosine, one.distance) for one in family.duplicates]
    schema = {"left": pl.String, "right": pl.String, "cosine": pl.Float64, "distance": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def suspects(family: Lineage) -> pl.DataFrame:
    """One row for everything that looks odd, with the reason in words."""
    rows = [(one.model, one.kind, one.reason, one.value, one.usual) for one in family.suspects]
    words = {"model": pl.String, "kind": pl.String, "reason": pl.String}
    return pl.DataFrame(rows, schema={**words, "value": pl.Float64, "usual": pl.Float64}, orient="row")


def stability(family: Lineage) -> pl.DataFrame:
    """One row a threshold: number of groups, the largest one, and the agreement with the chosen groups."""
    steady = family.stability
    return pl.DataFrame(
        {
            "threshold": steady.thresholds,
            "groups": steady.groups,
            "largest": steady.largest,
            "agreement": steady.agreement,
        }
    )


def overlaps(found: Sequence[Overlap]) -> pl.DataFrame:
    """One row a column of the table: how well it explains the groups."""
    rows = [(one.column, one.values, _or_none(one.agreement), _or_none(one.p), one.reason or None) for one in found]
    schema = {"column": pl.String, "values": pl.Int64, "agreement": pl.Float64, "p": pl.Float64, "note": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def explained(found: Sequence[Explained]) -> pl.DataFrame:
    """One row a column of the table and a component: the share of the component that the column explains."""
    rows = [
        (one.column, place + 1, _or_none(float(ratio)), _or_none(one.chance), _or_none(float(p)), one.reason or None)
        for one in found
        for place, (ratio, p) in enumerate(zip(one.ratio, one.p, strict=True))
    ]
    numbers = {"component": pl.Int64, "explained": pl.Float64, "chance": pl.Float64, "p": pl.Float64}
    return pl.DataFrame(rows, schema={"column": pl.String, **numbers, "note": pl.String}, orient="row")


def points(found: ModelMap, table: Mapping[str, Sequence[Value]] | None = None) -> pl.DataFrame:
    """One row a model: its coordinates as `component_1`, `component_2`, ..., and the given columns of the table.

    The columns have one value for each model of the map.
    """
    columns: dict[str, object] = {"model": found.labels}
    for k in range(found.shares.size):
        columns[f"component_{k + 1}"] = found.coordinates[:, k]
    own = pl.DataFrame(columns)
    given = {name: list(values) for name, values in (table or {}).items() if name not in own.columns}
    return own.with_columns(pl.Series(name, values, strict=False) for name, values in given.items())


def _nearest(family: Lineage) -> tuple[Floats, Floats]:
    """Each model's nearest other and their cosine; NaN where it has no direction or no other has."""
    known = np.nan_to_num(family.cosines, nan=-2.0) - 4 * np.eye(family.s)
    place = known.argmax(axis=1)
    best = known[np.arange(family.s), place]
    return place, np.where(best < -1.5, np.nan, best)


def _known(values: Floats) -> pl.Series:
    """A column in which NaN is an empty cell."""
    return pl.Series(np.asarray(values, dtype=np.float64)).fill_nan(None)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
