"""Frames of loader reports: one row a key of the files, and one row a scale."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from uws_core.nouns.loader import LoaderReport

# Every column, and what it says.
HELP: Mapping[str, str] = {
    "model": "Short name of the model.",
    "key": "Name of the tensor in the files, as it is stored.",
    "fate": "used: part of a layer; ignored: on purpose; unknown: name not known; unmatched: other factor missing.",
    "why": "Its use, or the reason why it is not used.",
    "layer": "The layer that the update belongs to.",
    "rank": "Inner dimension of the two matrices that make up the update; 0 where they are whole.",
    "scale": "The factor before up @ down.",
    "where": "Source of the scale.",
}


def keys(reports: Mapping[str, LoaderReport]) -> pl.DataFrame:
    """One row a key of every model's files, in the order of the files; `reports` are by the model's label."""
    rows = [
        {"model": label, "key": item.key, "fate": str(item.fate), "why": item.why}
        for label, report in reports.items()
        for item in report.keys
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("model", "key", "fate", "why"), pl.String))


def scales(reports: Mapping[str, LoaderReport]) -> pl.DataFrame:
    """One row an update of every model: rank, scale, and the source of the scale."""
    rows = [
        {"model": label, "layer": item.layer, "rank": item.rank, "scale": item.scale, "where": item.where}
        for label, report in reports.items()
        for item in report.scales
    ]
    texts = dict.fromkeys(("model", "layer"), pl.String)
    return pl.DataFrame(rows, schema={**texts, "rank": pl.Int64, "scale": pl.Float64, "where": pl.String})
