"""Frames of how models were read: one row a key of their files, and one row a scale."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from uws_core.nouns.loader import LoaderReport

# Every column, and what it says.
HELP: Mapping[str, str] = {
    "model": "Short name of the model.",
    "key": "Name of the tensor in the files, as it is stored.",
    "fate": "used: part of a layer; ignored: on purpose; unknown: nobody's name; unmatched: without its other half.",
    "why": "What it was used for, or why it was not.",
    "layer": "The layer whose update it is the factor of.",
    "rank": "Inner dimension of the two matrices that make up the update; 0 where they are whole.",
    "scale": "The factor before up @ down.",
    "where": "What told the scale.",
}


def keys(reports: Mapping[str, LoaderReport]) -> pl.DataFrame:
    """One row a key of every model's files, in the order of the files; `reports` are by the model's label."""
    rows = [
        {"model": label, "key": one.key, "fate": str(one.fate), "why": one.why}
        for label, report in reports.items()
        for one in report.keys
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("model", "key", "fate", "why"), pl.String))


def scales(reports: Mapping[str, LoaderReport]) -> pl.DataFrame:
    """One row an update of every model: its rank, its scale, and what told it."""
    rows = [
        {"model": label, "layer": one.layer, "rank": one.rank, "scale": one.scale, "where": one.where}
        for label, report in reports.items()
        for one in report.scales
    ]
    texts = dict.fromkeys(("model", "layer"), pl.String)
    return pl.DataFrame(rows, schema={**texts, "rank": pl.Int64, "scale": pl.Float64, "where": pl.String})
