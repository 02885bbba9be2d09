"""Frames of the three axes of one layer: a table, and the running sums."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from uws_core.nouns.gram import Axis
from uws_core.nouns.spectrum import Spectrum

HELP: Mapping[str, str] = {
    "axis": "The points: whole models, all their columns (out), or all their rows (in).",
    "direction": "Number of directions kept on this axis.",
    "cumulative": "Share of the variance carried by that many directions.",
    "directions": "The fewest directions that carry the share on this axis.",
    "most": "The largest possible number of directions on this axis.",
    "numbers": "Stored numbers a model and layer at that many directions: k on models, k m on in, k p on out.",
    "error": "Relative squared error |X - X^|^2 / |X|^2 of the truncation about the mean.",
}


def curves(spectra: Mapping[Axis, Spectrum]) -> pl.DataFrame:
    """One row an axis and direction: `axis`, `direction`, `cumulative` share."""
    parts = [
        pl.DataFrame({"direction": range(1, spectrum.variances.size + 1), "cumulative": spectrum.cumulative}).select(
            pl.lit(str(axis)).alias("axis"), pl.all()
        )
        for axis, spectrum in spectra.items()
    ]
    return pl.concat(parts)


def modes(spectra: Mapping[Axis, Spectrum], shape: tuple[int, int], share: float) -> pl.DataFrame:
    """One row an axis: directions at a share, their largest possible number, and stored numbers a model."""
    m, p = shape
    numbers_per_direction = {Axis.MODELS: 1, Axis.OUT: p, Axis.IN: m}
    rows = [
        {
            "axis": str(axis),
            "directions": str(spectrum.rank_for(share)),
            "most": spectrum.ceiling,
            "numbers": spectrum.rank_for(share).k * numbers_per_direction[axis],
        }
        for axis, spectrum in spectra.items()
    ]
    return pl.DataFrame(rows)
