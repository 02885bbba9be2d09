"""The tables of a report: every number on it, and what its columns mean."""

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
from uws_core.reporting.matter import Matter

COLUMNS: Mapping[str, str] = {
    **collection_frames.HELP,
    **lineage_frames.HELP,
    **spectrum_frames.HELP,
    **frames.HELP,
}


def tables(matter: Matter) -> dict[str, pl.DataFrame]:
    """Every table of the report under the name of its file."""
    family = matter.family
    found = {
        "claims": frames.claims(matter.whole),
        "claims_over_layers": frames.pooled(matter.pooled),
        "claims_by_layer": frames.by_layer(matter.layers),
        "definitions": definitions(),
        "models": collection_frames.models(matter.collection, matter.asked.members),
        "lineage": lineage_frames.models(family, matter.gram.entry_stats),
        "groups": lineage_frames.groups(family),
        "cosines": lineage_frames.cosines(family),
        "near_copies": lineage_frames.duplicates(family),
        "suspects": lineage_frames.suspects(family),
        "spectrum": spectrum_frames.scree(matter.seen.spectrum, matter.seen.band),
        "left_out": collection_frames.left_out(matter.left_out),
    }
    if matter.whole.determined is not None:
        found["determined"] = frames.determined(matter.whole.determined)
    if matter.curve is not None:
        found["sample_sizes"] = frames.curve(matter.curve)
    return found


def definitions() -> pl.DataFrame:
    """One row a claim: what it says, the number behind it, what chance is, the formula and its source."""
    rows = [
        {
            "claim": one.key,
            "title": one.title,
            "statistic": one.statistic,
            "null": one.chance,
            "definition": one.definition,
            "source": one.source,
        }
        for one in CLAIMS.values()
    ]
    return pl.DataFrame(rows)


def origin(matter: Matter, caption: str) -> Provenance:
    """Where the report comes from: contents, settings, versions."""
    asked, collection = matter.asked, matter.collection
    return Provenance(
        name=f"report {collection.name}",
        caption=caption,
        collection=collection.name,
        fingerprint=collection.fingerprint,
        models=tuple(str(collection.refs[row]) for row in asked.members),
        layers=tuple(key.name for key in matter.keys),
        asked={
            "groups": matter.whole.grouped_by or "not known",
            "directions": str(matter.whole.kept),
            "share": f"{asked.share:g}",
            "draws": str(asked.draws),
            "draws a layer": str(matter.draws),
            "seed": str(asked.seed),
            "base": str(collection.base) if collection.base is not None else "none",
        },
        left_out=matter.left_out,
        columns=COLUMNS,
    )


def files(matter: Matter, source: Provenance) -> dict[str, bytes]:
    """The tables as Parquet and where they are from, by path inside the report's folder."""
    packed = {f"tables/{name}.parquet": export.parquet_bytes(frame, source) for name, frame in tables(matter).items()}
    return {**packed, "provenance.json": source.as_json().encode()}
