"""Frames of two models side by side: one row a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from uws_core.nouns.lineage import PairLayer

# Every column, its unit and its formula.
HELP: Mapping[str, str] = {
    "layer": "Full name of the layer.",
    "short": "Name on the figures.",
    "depth": "Block the layer stands in.",
    "module": "Name of the layer inside its block.",
    "cosine": "Inner product of the raw weights / product of their norms.",
    "difference": "|W_l - W_r| / mean of the two norms: 0 for equal weights, about 1.4 for unrelated ones.",
    "differs": "The difference is larger than rounding.",
    "effective_rank": "exp(entropy of the squared singular values of W_l - W_r) (Roy and Vetterli 2007).",
    "at_least": "The effective rank is a lower bound: not all singular values are known.",
    "most": "Largest possible rank, min(m, p).",
    "changed": "Share of the entries that are not equal in both models, as their files store them.",
}
_SCHEMA: Mapping[str, type[pl.DataType]] = {
    **dict.fromkeys(("layer", "short"), pl.String),
    "depth": pl.Int64,
    "module": pl.String,
    **dict.fromkeys(("cosine", "difference"), pl.Float64),
    "differs": pl.Boolean,
    "effective_rank": pl.Float64,
    "at_least": pl.Boolean,
    "most": pl.Int64,
    "changed": pl.Float64,
}


def layers(items: Sequence[PairLayer]) -> pl.DataFrame:
    """One row a layer in the given order; unknown numbers are empty."""
    rows = [
        {
            "layer": item.layer.name,
            "short": item.layer.short,
            "depth": item.layer.depth,
            "module": item.layer.module,
            "cosine": _known(item.cosine),
            "difference": _known(item.difference),
            "differs": item.differs,
            "effective_rank": _known(item.effective_rank),
            "at_least": item.at_least,
            "most": item.most,
            "changed": _known(item.changed),
        }
        for item in items
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
