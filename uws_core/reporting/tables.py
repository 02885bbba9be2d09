"""The tables of a report: all its numbers, with the meaning of every column."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from uws_core import export
from uws_core.export import Provenance
from uws_core.frames import collection as collection_frames
from uws_core.frames import evidence as frames
from uws_core.frames import lineage as lineage_frames
from uws_core.frames import spectrum as spectrum_frames
from uws_core.nouns.claims import CLAIMS
from uws_core.reporting.report_data import ReportData

COLUMNS: Mapping[str, str] = {
    **collection_frames.HELP,
    **lineage_frames.HELP,
    **spectrum_frames.HELP,
    **frames.HELP,
}


def tables(data: ReportData) -> dict[str, pl.DataFrame]:
    """Every table of the report by file name."""
    lineage = data.lineage
    result = {
        "claims": frames.claims(data.whole),
        "claims_over_layers": frames.pooled(data.pooled),
        "claims_by_layer": frames.by_layer(data.layers),
        "definitions": definitions(),
        "models": collection_frames.models(data.collection, data.settings.members),
        "lineage": lineage_frames.models(lineage, data.gram.entry_stats),
        "groups": lineage_frames.groups(lineage),
        "cosines": lineage_frames.cosines(lineage),
        "near_copies": lineage_frames.duplicates(lineage),
        "suspects": lineage_frames.suspects(lineage),
        "spectrum": spectrum_frames.scree(data.spectrum.spectrum, data.spectrum.band),
        "left_out": collection_frames.left_out(data.left_out),
    }
    if data.whole.determined is not None:
        result["determined"] = frames.determined(data.whole.determined)
    if data.curve is not None:
        result["sample_sizes"] = frames.curve(data.curve)
    return result


def definitions() -> pl.DataFrame:
    """One row a claim: title, statistic, null, formula and source."""
    rows = [
        {
            "claim": claim.key,
            "title": claim.title,
            "statistic": claim.statistic,
            "null": claim.chance,
            "definition": claim.definition,
            "source": claim.source,
        }
        for claim in CLAIMS.values()
    ]
    return pl.DataFrame(rows)


def provenance(data: ReportData, caption: str) -> Provenance:
    """Provenance of the report: contents and settings."""
    settings, collection = data.settings, data.collection
    return Provenance(
        name=f"report {collection.name}",
        caption=caption,
        collection=collection.name,
        fingerprint=collection.fingerprint,
        models=tuple(str(collection.refs[row]) for row in settings.members),
        layers=tuple(key.name for key in data.keys),
        settings={
            "groups": data.whole.grouped_by or "not known",
            "directions": str(data.whole.kept),
            "share": f"{settings.share:g}",
            "draws": str(settings.draws),
            "draws a layer": str(data.draws),
            "seed": str(settings.seed),
            "base": str(collection.base) if collection.base is not None else "none",
        },
        left_out=data.left_out,
        columns=COLUMNS,
    )


def files(data: ReportData, source: Provenance) -> dict[str, bytes]:
    """The tables as Parquet and `provenance.json`, by path inside the report's folder."""
    parquet = {f"tables/{name}.parquet": export.parquet_bytes(frame, source) for name, frame in tables(data).items()}
    return {**parquet, "provenance.json": source.as_json().encode()}
