"""Frames of held-out errors: by model and k, over models, at one k, by size, and with scores of rebuilt networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import polars as pl
from numpy.typing import NDArray

from uws_core.nouns.arrays import Floats
from uws_core.nouns.heldout import FunctionPoint, HeldOut, HeldOutChance
from uws_core.nouns.storage import Storage

# Every column, its unit and its formula: the help text of tables and the header of exports.
HELP: Mapping[str, str] = {
    "model": "The model that is rebuilt.",
    "group": "Group held out with it: the subspace comes from the models of the other groups.",
    "k": "Directions kept.",
    "subspace": "|W - rebuilt|^2 / |W - c|^2 from the subspace of the others, which never saw the model.",
    "in_sample": "The same from a subspace that saw the model: no evidence that it generalises.",
    "random": "The same from a random subspace of k directions, on average: 1 - k / D of what the mean leaves.",
    "profile": "The same of models that share nothing but norms and scales: every model's part in every block has a "
    "random sign (39 draws, at most six groups held out).",
    "own_svd": "The same from a truncated SVD of the model itself, at the same stored size.",
    "mean_only": "The error of the mean of the others alone.",
    "nothing": "The error of storing nothing: 1 by definition.",
    "line": "Way of rebuilding.",
    "middle": "Median over models.",
    "low": "A quarter of the models lie below.",
    "high": "A quarter of the models lie above.",
    "trained_on": "Models the subspace comes from.",
    "ceiling": "Largest number of directions of those models.",
    "note": "Remark on this row.",
    "axis": "The points: models, or the rows (in) or columns (out) of all models.",
    "stored": "Stored numbers of the analysed layers: basis and mean once, coefficients for each model.",
    "dense": "Numbers of the analysed layers in the files: full matrices, or the factors of adapters.",
    "ratio": "dense / stored: how many times smaller the analysed layers become; none where nothing is stored.",
    "stored_bytes": "Bytes of the stored numbers in the width of the files, at least two a number; none where unknown.",
    "dense_bytes": "Bytes of the analysed layers in the files, all models together.",
    "ratio_whole": "The same for whole checkpoints, with everything else at full size.",
    "way": "Origin of the weights.",
    "weight_error": "Relative squared error of the rebuilt layers together.",
    "score": "Score of the evaluator; higher is better.",
    "kept_score": "Score / score of the original.",
    "problem": "Reason for a missing score.",
    "layer": "Layer.",
}
LINES = ("subspace", "in_sample", "own_svd", "random", "mean_only", "nothing")
_CURVES = ("subspace", "in_sample", "own_svd", "random")


@dataclass(frozen=True, slots=True)
class StorageChoice:
    """One way of storing a collection, with its errors at index `at`: of unseen models where they were held out."""

    axis: str
    storage: Storage
    errors: tuple[HeldOut, ...]
    at: int


def errors(items: Sequence[HeldOut]) -> pl.DataFrame:
    """One row for each model and k: the error and its baselines."""
    return _errors(items, [slice(None)] * len(items))


def _errors(items: Sequence[HeldOut], places: Sequence[slice]) -> pl.DataFrame:
    """The same at these places of each model's numbers of directions only."""
    if not items:
        return pl.DataFrame(schema=_ERRORS)
    kept = [item.kept[place] for item, place in zip(items, places, strict=True)]
    counts = [each.size for each in kept]

    def repeated(values: Sequence[object]) -> list[object]:
        return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]

    # One frame for all models: a frame for each of 40 took 40 ms, and a page asks seven times.
    each = list(zip(items, places, strict=True))
    curves = {name: np.concatenate([getattr(item, name)[place] for item, place in each]) for name in _CURVES}
    flat = {name: np.repeat([getattr(item, name) for item in items], counts) for name in ("mean_only", "nothing")}
    columns = {
        "model": repeated([item.model for item in items]),
        "group": repeated([item.group for item in items]),
        "k": np.concatenate(kept),
        **{name: (curves | flat)[name] for name in LINES},
        "trained_on": repeated([item.trained_on for item in items]),
        "ceiling": repeated([item.ceiling for item in items]),
        "note": repeated(["; ".join(item.notes) or None for item in items]),
    }
    return pl.DataFrame(columns, schema=_ERRORS).with_columns(pl.col(LINES).fill_nan(None))


def curve(items: Sequence[HeldOut], chance: HeldOutChance | None = None) -> pl.DataFrame:
    """One row for each line and k: median and quartiles over the models that have a relative error.

    With `chance` the line `profile` is the error of models that share nothing but their scales, with the range of 95 %
    of its draws, at the mean's error as it is here.
    """
    long = errors(items).unpivot(LINES, index=["k"], variable_name="line", value_name="error").drop_nulls()
    frame = long.group_by("line", "k").agg(
        middle=pl.col("error").median(),
        low=pl.col("error").quantile(0.25, "linear"),
        high=pl.col("error").quantile(0.75, "linear"),
    )
    if chance is not None and frame.height:
        mean_only = float(np.nanmedian([item.mean_only for item in items]))
        low, middle, high = mean_only * np.quantile(1 - chance.captured, (0.025, 0.5, 0.975), axis=0)
        lines = {"k": chance.kept, "middle": middle, "low": low, "high": high}
        frame = pl.concat(
            [
                frame,
                pl.DataFrame(lines)
                .with_columns(pl.lit("profile").alias("line"))
                .select(frame.columns)
                .cast(frame.schema),
            ]
        )
    return frame.sort("line", "k")


def at_rank(items: Sequence[HeldOut], k: int) -> pl.DataFrame:
    """One row a model at the largest computed number of directions up to `k`, the worst first."""
    if not items:
        return pl.DataFrame(schema=_ERRORS)
    nearest = max((int(item.kept[item.kept <= k].max(initial=-1)) for item in items), default=-1)
    places = [slice(place, place + 1) for item in items for place in _place(item.kept, nearest)]
    having = [item for item in items if _place(item.kept, nearest)]
    return _errors(having, places).sort("subspace", descending=True, nulls_last=True)


def sizes(rows: Sequence[StorageChoice]) -> pl.DataFrame:
    """One row for each way of storing: numbers, both ratios, and the error over models."""
    result = []
    # All k of an axis have the same errors: one table of them, not one a k.
    tables: dict[int, tuple[Floats, Floats]] = {}
    for row in rows:
        if id(row.errors) not in tables:
            lines = ([item.subspace for item in row.errors], [item.own_svd for item in row.errors])
            tables[id(row.errors)] = (np.array(lines[0]), np.array(lines[1]))
        left, own = (table[:, row.at] if len(table) else table for table in tables[id(row.errors)])
        left, own = left[~np.isnan(left)], own[~np.isnan(own)]
        low, middle, high = np.quantile(left, (0.25, 0.5, 0.75)).tolist() if left.size else (None, None, None)
        result.append(
            {
                "axis": row.axis,
                "k": int(row.errors[0].kept[row.at]) if row.errors else 0,
                "stored": row.storage.shared,
                "dense": sum(row.storage.dense),
                "ratio": _finite(row.storage.ratio),
                "stored_bytes": row.storage.shared_bytes,
                "dense_bytes": sum(row.storage.dense_bytes) or None,
                "ratio_whole": _finite(row.storage.ratio_whole),
                "low": low,
                "middle": middle,
                "high": high,
                "own_svd": float(np.median(own)) if own.size else None,
            }
        )
    return pl.DataFrame(result, schema=_SIZES)


def by_layer(layers: Mapping[str, Sequence[HeldOut]], k: int) -> pl.DataFrame:
    """One row for each layer and model: the error at `k`."""
    parts = [at_rank(items, k).select(pl.lit(name).alias("layer"), pl.all()) for name, items in layers.items() if items]
    return pl.concat(parts) if parts else pl.DataFrame(schema={"layer": pl.String} | dict(_ERRORS))


def scores(points: Sequence[FunctionPoint]) -> pl.DataFrame:
    """One row a scored network, with its score relative to the original of the same model."""
    frame = pl.DataFrame(
        [
            {
                "model": point.model,
                "group": point.group,
                "way": point.way.value,
                "k": point.kept,
                "weight_error": point.weight_error,
                "score": point.score,
                "problem": point.problem or None,
            }
            for point in points
        ],
        schema=_SCORES,
    ).with_columns(pl.col("weight_error", "score").fill_nan(None))
    own = frame.filter(pl.col("way") == "original").select("model", own="score")
    joined = frame.join(own, on="model", how="left", maintain_order="left")
    kept = pl.when(pl.col("own") > 0).then(pl.col("score") / pl.col("own")).alias("kept_score")
    return joined.with_columns(kept).select(*_SCORES, "kept_score")


_ERRORS: Mapping[str, type[pl.DataType]] = {
    "model": pl.String,
    "group": pl.String,
    "k": pl.Int64,
    **dict.fromkeys(LINES, pl.Float64),
    "trained_on": pl.Int64,
    "ceiling": pl.Int64,
    "note": pl.String,
}
_SIZES: Mapping[str, type[pl.DataType]] = {
    "axis": pl.String,
    "k": pl.Int64,
    "stored": pl.Int64,
    "dense": pl.Int64,
    "ratio": pl.Float64,
    "stored_bytes": pl.Int64,
    "dense_bytes": pl.Int64,
    **dict.fromkeys(("ratio_whole", "low", "middle", "high", "own_svd"), pl.Float64),
}
_SCORES: Mapping[str, type[pl.DataType]] = {
    "model": pl.String,
    "group": pl.String,
    "way": pl.String,
    "k": pl.Int64,
    "weight_error": pl.Float64,
    "score": pl.Float64,
    "problem": pl.String,
}


def _place(kept: NDArray[np.intp], k: int) -> list[int]:
    """Where a number of directions stands, if it does."""
    return [int(place) for place in np.flatnonzero(kept == k)[:1]]


def _finite(ratio: float) -> float | None:
    return ratio if isfinite(ratio) else None
