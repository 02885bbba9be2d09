"""Frames of lineages: one row a model, a group, a pair, an outlier, a threshold, or a column of the table."""

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
    "representative": "The model with the largest mean cosine to its group.",
    "nearest": "The other model with the largest cosine.",
    "cosine": "Inner product / product of norms, about the chosen centre.",
    "norm": "Distance from the chosen centre, in units of the weights.",
    "norm_ratio": "Norm / median norm.",
    "entry_mean": "Mean of the entries.",
    "entry_std": "Standard deviation of the entries.",
    "entry_kurtosis": "Excess kurtosis of the entries: 0 for a normal, -1.2 for a uniform distribution.",
    "entry_largest": "Largest magnitude of an entry.",
    "suspicion": "Kind of outlier, empty for usual models.",
    "reason": "The deciding numbers.",
    "kind": "Kind of outlier.",
    "value": "The measured number.",
    "usual": "The same number for the other models, or by chance.",
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
    "note": "Reason for a missing number.",
    "component": "Principal direction, counted from the strongest.",
    "explained": "Share of the component's variance that lies between the values of the column (ANOVA ratio).",
    "chance": "Share that a random column of as many values explains on average, (g - 1) / (s - 1).",
}
_MODEL = {"representative": pl.Boolean, "suspicion": pl.String, "reason": pl.String, "nearest": pl.String}


def models(lineage: Lineage, stats: EntryStats | None = None) -> pl.DataFrame:
    """One row a model in the lineage's order: group, nearest model, norm, and kind of outlier.

    `stats` are the entry statistics of the Gram (all its models); they add the moments of the entries.
    """
    # Each model's nearest other model and their cosine; NaN where no cosine is known.
    known = np.nan_to_num(lineage.cosines, nan=-2.0) - 4 * np.eye(lineage.s)
    nearest = known.argmax(axis=1)
    best = known[np.arange(lineage.s), nearest]
    cosine = np.where(best < -1.5, np.nan, best)
    odd = {item.model: item for item in lineage.outliers}
    middle = float(np.median(lineage.norms))
    columns: dict[str, object] = {
        "model": lineage.labels,
        "group": lineage.groups + 1,
        "group_size": lineage.sizes[lineage.groups],
        "representative": np.isin(np.arange(lineage.s), lineage.representatives),
        "nearest": [None if np.isnan(c) else lineage.labels[p] for p, c in zip(nearest, cosine, strict=True)],
        "cosine": _known(cosine),
        "norm": lineage.norms,
        "norm_ratio": _known(lineage.norms / middle if middle > 0 else np.full(lineage.s, np.nan)),
    }
    for name in ("mean", "std", "kurtosis", "largest"):
        values = np.full(lineage.s, np.nan) if stats is None else getattr(stats, name)[lineage.members]
        columns[f"entry_{name}"] = _known(values)
    columns["suspicion"] = [odd[label].kind if label in odd else None for label in lineage.labels]
    columns["reason"] = [odd[label].reason if label in odd else None for label in lineage.labels]
    return pl.DataFrame(columns, schema_overrides=_MODEL)


def groups(lineage: Lineage) -> pl.DataFrame:
    """One row a group, the largest first: number of models, mean cosine, and representative."""
    rows = []
    for group, size in enumerate(lineage.sizes):
        inside = np.flatnonzero(lineage.groups == group)
        part = lineage.cosines[np.ix_(inside, inside)][np.triu_indices(size, 1)]
        rows.append(
            {
                "group": group + 1,
                "models": int(size),
                "share": size / lineage.s,
                "mean_cosine": float(part.mean()) if part.size else None,
                "representative": lineage.labels[lineage.representatives[group]],
            }
        )
    schema = {"group": pl.Int64, "models": pl.Int64, "share": pl.Float64, "mean_cosine": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, "representative": pl.String})


def cosines(lineage: Lineage) -> pl.DataFrame:
    """One row for each unordered pair of different models."""
    i, j = np.triu_indices(lineage.s, 1)
    names = np.array(lineage.labels, dtype=object)
    return pl.DataFrame(
        {"left": names[i].tolist(), "right": names[j].tolist(), "cosine": _known(lineage.cosines[i, j])},
        schema={"left": pl.String, "right": pl.String, "cosine": pl.Float64},
    )


def duplicates(lineage: Lineage) -> pl.DataFrame:
    """One row a pair of near copies, the nearest first."""
    rows = [(item.left, item.right, item.cosine, item.distance) for item in lineage.duplicates]
    schema = {"left": pl.String, "right": pl.String, "cosine": pl.Float64, "distance": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def outliers(lineage: Lineage) -> pl.DataFrame:
    """One row an outlier, with the reason in words."""
    rows = [(item.model, item.kind, item.reason, item.value, item.usual) for item in lineage.outliers]
    words = {"model": pl.String, "kind": pl.String, "reason": pl.String}
    return pl.DataFrame(rows, schema={**words, "value": pl.Float64, "usual": pl.Float64}, orient="row")


def stability(lineage: Lineage) -> pl.DataFrame:
    """One row a threshold: number of groups, the largest one, and the agreement with the chosen groups."""
    steady = lineage.stability
    return pl.DataFrame(
        {
            "threshold": steady.thresholds,
            "groups": steady.groups,
            "largest": steady.largest,
            "agreement": steady.agreement,
        }
    )


def overlaps(items: Sequence[Overlap]) -> pl.DataFrame:
    """One row a column of the table: its agreement with the groups."""
    rows = [
        (item.column, item.values, _or_none(item.agreement), _or_none(item.p), item.reason or None) for item in items
    ]
    schema = {"column": pl.String, "values": pl.Int64, "agreement": pl.Float64, "p": pl.Float64, "note": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def explained(items: Sequence[Explained]) -> pl.DataFrame:
    """One row a column of the table and a component: the share of the component that the column explains."""
    rows = [
        (
            item.column,
            component + 1,
            _or_none(float(ratio)),
            _or_none(item.chance),
            _or_none(float(p)),
            item.reason or None,
        )
        for item in items
        for component, (ratio, p) in enumerate(zip(item.ratio, item.p, strict=True))
    ]
    numbers = {"component": pl.Int64, "explained": pl.Float64, "chance": pl.Float64, "p": pl.Float64}
    return pl.DataFrame(rows, schema={"column": pl.String, **numbers, "note": pl.String}, orient="row")


def points(model_map: ModelMap, table: Mapping[str, Sequence[Value]] | None = None) -> pl.DataFrame:
    """One row a model: its coordinates as `component_1`, `component_2`, ..., and the given columns of the table.

    The columns have one value for each model of the map.
    """
    columns: dict[str, object] = {"model": model_map.labels}
    for k in range(model_map.shares.size):
        columns[f"component_{k + 1}"] = model_map.coordinates[:, k]
    own = pl.DataFrame(columns)
    given = {name: list(values) for name, values in (table or {}).items() if name not in own.columns}
    return own.with_columns(pl.Series(name, values, strict=False) for name, values in given.items())


def _known(values: Floats) -> pl.Series:
    """The numbers with null in place of NaN."""
    return pl.Series(np.asarray(values, dtype=np.float64)).fill_nan(None)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
