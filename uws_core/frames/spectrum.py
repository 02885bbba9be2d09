"""Frames of spectra: one row a component (`scree`, `pooled`) or one row a layer (`overview`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
import polars as pl

from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import SharedDirections, effective_rank
from uws_core.nouns.spectrum import LayerSpectrum, NullBand, PooledSpectrum, Spectrum

# Every column, its unit and its formula: the help text of tables and the header of exports.
HELP: Mapping[str, str] = {
    "component": "Principal direction, counted from the strongest.",
    "variance": "Eigenvalue of the inner products about the chosen centre, in squared weights; not divided by n.",
    "share": "Variance of this direction / total variance.",
    "share_std": "Standard deviation of the share over layers.",
    "cumulative": "Share of the variance carried by this direction and all stronger ones.",
    "cumulative_std": "Standard deviation over layers of the running sum.",
    "low": "Share below which 2.5 % of the noise draws fall.",
    "middle": "Median share of the noise draws.",
    "high": "Share above which 2.5 % of the noise draws lie.",
    "cumulative_low": "Running sum below which 2.5 % of the noise draws fall.",
    "cumulative_middle": "Median running sum of the noise draws.",
    "cumulative_high": "Running sum above which 2.5 % of the noise draws lie.",
    "z": "(observed - mean of the draws) / standard deviation of the draws; empty below the floor.",
    "p": "(1 + draws at least as large) / (1 + draws), one-sided.",
    "above_floor": "The variance is larger than rounding, and the first is at least 10 times as large.",
    "above_band": "A direction that the models share beyond chance lies along this one; on the side axes: this and all "
    "stronger ones stand above their bands.",
    "direction": "Directions in the order in which they were found, each against noise without those before it.",
    "tail": "p of a Tracy-Widom law fitted to the draws: an estimate that ranks what no draw reached, not a test.",
    "carried_by": "The fewest models that hold 80 % of the direction, the strongest first.",
    "layer": "Full name of the layer.",
    "short": "Name on the figures.",
    "depth": "Block the layer stands in.",
    "module": "Name of the layer inside its block.",
    "shape": "Outputs x inputs.",
    "weights": "Number of weights a model has in this layer, d = m p.",
    "models": "Number of models in the spectrum, n.",
    "ceiling": "Largest possible number of directions: n - 1 about the mean.",
    "rank": "Fewest directions that carry the chosen share of the variance.",
    "censored": "The rank is more than the number shown: no more directions were kept, or the others are rounding.",
    "noise_rank": "The same rank in noise: median of the draws.",
    "effective_rank": "exp(entropy of the shares) (Roy and Vetterli 2007).",
    "noise_effective_rank": "The same in noise: median of the draws.",
    "first_share": "Share of the strongest direction.",
    "above": "Directions that the models share beyond chance, one number on every page; on the side axes the leading "
    "directions above their bands (parallel analysis, Horn 1965).",
    "total": "Total variance, in squared weights.",
}
BAND = ("low", "middle", "high")


def scree(spectrum: Spectrum, band: NullBand | None = None) -> pl.DataFrame:
    """One row a component up to the ceiling: variance, share, running sum, the band of both, z and p.

    Without a band its columns are empty, so that charts and exports have one form.
    """
    k = min(spectrum.ceiling, spectrum.variances.size)
    columns = {
        "component": np.arange(1, k + 1),
        "variance": spectrum.variances[:k],
        "share": spectrum.ratio[:k],
        "cumulative": spectrum.cumulative[:k],
    }
    above_floor = {"above_floor": np.arange(k) < spectrum.resolved}
    return pl.DataFrame({**columns, **above_floor, **_band_columns(band, k)})


def shared(directions: SharedDirections, labels: Sequence[str]) -> pl.DataFrame:
    """One row a direction that the models share beyond chance; `labels` are those of the Gram's models."""
    return pl.DataFrame(
        {
            "direction": np.arange(1, directions.count + 1),
            "p": directions.p[: directions.count],
            "tail": directions.tail[: directions.count],
            "z": directions.z[: directions.count],
            "carried_by": [", ".join(labels[row] for row in directions.carriers(k)) for k in range(directions.count)],
        },
        schema={"direction": pl.Int64, "p": pl.Float64, "tail": pl.Float64, "z": pl.Float64, "carried_by": pl.String},
    )


def pooled(pool: PooledSpectrum, band: NullBand | None = None) -> pl.DataFrame:
    """One row a component: mean and standard deviation over layers of share and running sum, and their band."""
    alive = np.flatnonzero(pool.mean > 0)
    k = int(alive[-1]) + 1 if alive.size else 0
    columns = {
        "component": np.arange(1, k + 1),
        "share": pool.mean[:k],
        "share_std": pool.std[:k],
        "cumulative": pool.cumulative_mean[:k],
        "cumulative_std": pool.cumulative_std[:k],
    }
    return pl.DataFrame({**columns, **_band_columns(band, k)})


def overview(items: Sequence[LayerSpectrum], *, share: float = 0.9) -> pl.DataFrame:
    """One row a layer: position in the network, rank at `share`, effective rank, and both in noise.

    `z` and `p` are those of the share that the `rank` directions carry, against as many directions of noise.
    """
    return pl.DataFrame([_overview_row(item, share) for item in items], schema=_OVERVIEW)


_OVERVIEW: Mapping[str, type[pl.DataType]] = {
    "layer": pl.String,
    "short": pl.String,
    "depth": pl.Int64,
    "module": pl.String,
    "shape": pl.String,
    "weights": pl.Int64,
    "models": pl.Int64,
    "ceiling": pl.Int64,
    "rank": pl.Int64,
    "censored": pl.Boolean,
    "noise_rank": pl.Float64,
    "effective_rank": pl.Float64,
    "noise_effective_rank": pl.Float64,
    "first_share": pl.Float64,
    "above": pl.Int64,
    "z": pl.Float64,
    "p": pl.Float64,
    "total": pl.Float64,
}


def _overview_row(item: LayerSpectrum, share: float) -> dict[str, object]:
    spectrum, key = item.spectrum, item.layer
    rank = spectrum.rank_for(share)
    return {
        "layer": key.name,
        "short": key.short,
        "depth": key.depth,
        "module": key.module,
        "shape": f"{key.shape[0]} x {key.shape[1]}",
        "weights": key.entries,
        "models": spectrum.n,
        "ceiling": spectrum.ceiling,
        "rank": rank.k,
        "censored": rank.censored,
        "effective_rank": spectrum.effective_rank,
        "first_share": float(spectrum.ratio[0]) if spectrum.variances.size else 0.0,
        "total": spectrum.total,
        **_against_noise(item.band if spectrum.total > 0 else None, share),
    }


def _against_noise(band: NullBand | None, share: float) -> dict[str, float | int | None]:
    if band is None:
        return dict.fromkeys(("noise_rank", "noise_effective_rank", "above", "z", "p"))
    beyond = band.concentration(share)
    return {
        "noise_rank": band.rank(share).middle,
        "noise_effective_rank": band.scalar(effective_rank, name="effective rank", fewer=True).middle,
        "above": band.above,
        "z": None if isnan(beyond.z) else beyond.z,
        "p": None if isnan(beyond.p) else beyond.p,
    }


def _band_columns(band: NullBand | None, k: int) -> dict[str, object]:
    """The band of the shares and of their running sums, z, p, and `above_band`; empty without a band."""
    if band is None:
        names = (*BAND, *(f"cumulative_{name}" for name in BAND), "z", "p")
        empty: dict[str, object] = {name: pl.Series([None] * k, dtype=pl.Float64) for name in names}
        return {**empty, "above_band": pl.Series([None] * k, dtype=pl.Boolean)}
    sums: Floats = np.quantile(np.cumsum(band.samples, axis=1), (0.025, 0.5, 0.975), axis=0)
    bands: dict[str, object] = {name: _sized(getattr(band, name), k) for name in BAND}
    running = {f"cumulative_{name}": _sized(row, k, last=True) for name, row in zip(BAND, sums, strict=True)}
    scores = {name: pl.Series(_sized(getattr(band, name), k), nan_to_null=True) for name in ("z", "p")}
    return {**bands, **running, **scores, "above_band": _sized(band.beyond.astype(np.float64), k) > 0}


def _sized(values: Floats, k: int, *, last: bool = False) -> Floats:
    """The first `k` values, padded with 0, or with the last value for a running sum."""
    part = values[:k]
    return np.pad(part, (0, k - part.size), constant_values=part[-1] if last and part.size else 0.0)
