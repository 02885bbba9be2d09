"""The tables of a report: all its numbers, with the meaning of every column."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from uws_core.export import Provenance, parquet_bytes
from uws_core.frames import collection, evidence, lineage, spectrum
from uws_core.nouns.claims import CLAIMS
from uws_core.reporting.report_data import ReportData

COLUMNS: Mapping[str, str] = {
    **collection.HELP,
    **lineage.HELP,
    **spectrum.HELP,
    **evidence.HELP,
}


def tables(data: ReportData) -> dict[str, pl.DataFrame]:
    """Every table of the report by file name."""
    result = {
        "claims": evidence.claims(data.whole),
        "claims_over_layers": evidence.pooled(data.pooled),
        "claims_by_layer": evidence.by_layer(data.layers),
        "definitions": definitions(),
        "models": collection.models(data.collection, data.settings.members),
        "lineage": lineage.models(data.lineage, data.gram.entry_stats),
        "groups": lineage.groups(data.lineage),
        "cosines": lineage.cosines(data.lineage),
        "near_copies": lineage.duplicates(data.lineage),
        "outliers": lineage.outliers(data.lineage),
        "spectrum": spectrum.scree(data.spectrum.spectrum, data.spectrum.band),
        "left_out": collection.left_out_frame(data.left_out),
    }
    if data.whole.determined is not None:
        result["determined"] = evidence.determined(data.whole.determined)
    if data.curve is not None:
        result["sample_sizes"] = evidence.curve(data.curve)
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
    settings = data.settings
    return Provenance(
        name=f"report {data.collection.name}",
        caption=caption,
        collection=data.collection.name,
        fingerprint=data.collection.fingerprint,
        models=tuple(str(data.collection.refs[row]) for row in settings.members),
        layers=tuple(key.name for key in data.keys),
        settings={
            "groups": data.whole.grouped_by or "not known",
            "directions": str(data.whole.kept),
            "share": f"{settings.share:g}",
            "draws": str(settings.draws),
            "draws a layer": str(data.draws),
            "seed": str(settings.seed),
            "base": str(data.collection.base) if data.collection.base is not None else "none",
        },
        left_out=data.left_out,
        columns=COLUMNS,
    )


def files(data: ReportData, source: Provenance) -> dict[str, bytes]:
    """The tables as Parquet and `provenance.json`, by path inside the report's folder."""
    parquet = {f"tables/{name}.parquet": parquet_bytes(frame, source) for name, frame in tables(data).items()}
    return {**parquet, "provenance.json": source.as_json().encode()}
