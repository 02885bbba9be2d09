"""The page of the report: answers, claims, figures, lineage, selection, what was left out, and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape

import polars as pl
from markupsafe import Markup

from uws_core.answers import evidence, lineage
from uws_core.answers.factors import gauge_notes
from uws_core.charts.chance_range import chance_range_svg
from uws_core.charts.evidence import MARKS, NAMES, curve, determined, draws, verdicts
from uws_core.charts.evidence_layers import layers
from uws_core.charts.lineage import cosine_heatmap
from uws_core.charts.norms import norm_strips
from uws_core.charts.spectrum import cumulative, scree
from uws_core.export import Provenance
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Finding, Pooled
from uws_core.reporting.explore import explore
from uws_core.reporting.html import MOST_ROWS, Drawing, drawing, render, table
from uws_core.reporting.report_data import ReportData
from uws_core.reporting.tables import tables

_RIGHT_ALIGNED = frozenset({"passed", "median", "value", "chance", "z", "p"})
_ALL_LAYERS = "all layers taken as one"


def answer(data: ReportData) -> str:
    """The answer line of the report: over the layers where there are several."""
    if len(data.layers) > 1:
        return evidence.answer_layers(
            data.pooled, models=data.whole.n, layers=len(data.layers), grouped_by=data.whole.grouped_by
        )
    return evidence.answer(data.whole, location=data.keys[0].short)


def page(data: ReportData, source: Provenance) -> str:
    """The whole HTML document."""
    frames = tables(data)
    by_layer = frames["claims_by_layer"]
    # plotly would read markup in the names of layers.
    escaped = [escape(name, quote=True) for name in by_layer["short"]]
    by_layer = by_layer.with_columns(pl.Series("short", escaped, dtype=pl.String))
    many = len(data.layers) > 1
    figure = verdicts(by_layer) if many else None
    place = _ALL_LAYERS if many else data.keys[0].short
    lineage_drawings = [drawing(norm_strips(frames["lineage"]), "norms", "Distance of every model from the centre.")]
    if data.lineage.s <= MOST_ROWS:
        # A larger matrix is unreadable on paper.
        heatmap = cosine_heatmap(data.lineage)
        lineage_drawings.insert(
            0, drawing(heatmap, "cosines", "Cosine of every pair of models, ordered by similarity.")
        )
    layer_rows = {
        "layer": [key.name for key in data.keys],
        "outputs": [key.shape[0] for key in data.keys],
        "inputs": [key.shape[1] for key in data.keys],
    }
    return render(
        "report.html",
        title=f"Evidence: {data.collection.name}",
        answer=answer(data),
        whole_answer=evidence.answer(data.whole, location=f"all {len(data.layers)} layers taken as one"),
        facts=_facts(data),
        notes=[f"{note.rstrip('.')}." for note in (*data.notes, *gauge_notes(data.keys))],
        many=many,
        keys=data.keys,
        right=_RIGHT_ALIGNED,
        marks=MARKS,
        pooled=[_pooled_row(pooled) for pooled in data.pooled],
        verdicts=figure and drawing(figure, "verdicts", "Every claim in every layer.", wide=True),
        findings=[_finding_row(finding) for finding in data.whole.findings],
        each=[_claim(data, finding, by_layer, frames) for finding in data.whole.findings],
        spectrum=_spectrum(data, frames["spectrum"]),
        explore=explore(data.collection, data.gram, data.grams),
        lineage_answer=lineage.answer(data.lineage, location=place).replace("`", ""),
        lineage=lineage_drawings,
        groups=table("Groups", frames["groups"]),
        outliers=table("Outliers", frames["outliers"]),
        near_copies=table("Near copies", frames["near_copies"]),
        models=table("Models", frames["models"]),
        layers=table("Layers", pl.DataFrame(layer_rows)),
        left_out=table("Left out", frames["left_out"]),
        provenance=_provenance(source),
    )


def _facts(data: ReportData) -> str:
    whole, settings = data.whole, data.settings
    facts = (
        f"{whole.n} models",
        f"{len(data.layers)} layers",
        f"{whole.groups} groups ({whole.grouped_by})" if whole.groups else "no groups",
        f"k = {whole.kept}",
        f"{settings.draws} draws of chance",
        f"seed {settings.seed}",
    )
    return ", ".join(facts)


def _pooled_row(pooled: Pooled) -> dict[str, object]:
    counts = {"holds": pooled.holds, "weak": pooled.weak, "chance": pooled.chance, "cannot tell": pooled.unknown}
    layers = ", ".join(f"{name} in {count}" for name, count in counts.items() if count)
    return {
        "claim": CLAIMS[pooled.claim].title,
        "verdict": pooled.verdict,
        "passed": f"{pooled.discoveries} of {pooled.tested}" if pooled.tested else "",
        "median": evidence.number(pooled.value, pooled.claim),
        "chance": evidence.number(pooled.middle, pooled.claim),
        "z": evidence.score(pooled.z),
        "layers": pooled.reason if pooled.unknown == pooled.layers else layers,
    }


def _finding_row(finding: Finding) -> dict[str, object]:
    return {
        "claim": finding.about.title,
        "verdict": finding.verdict,
        "figure": Markup(chance_range_svg(finding, evidence.among(finding))),
        "value": evidence.number(finding.value, finding.claim),
        "chance": evidence.number(finding.middle, finding.claim),
        "z": evidence.score(finding.z),
        "p": f"{finding.p:.2g}" if finding.p == finding.p else "",
        "why": finding.reason,
    }


def _claim(
    data: ReportData, finding: Finding, by_layer: pl.DataFrame, frames: Mapping[str, pl.DataFrame]
) -> dict[str, object]:
    outlook = data.curve.outlook if finding.claim == "saturates" and data.curve is not None else ""
    return {
        "about": finding.about,
        "verdict": finding.verdict,
        "reason": finding.reason,
        "drawings": list(_drawings(data, finding, by_layer, frames)),
        "outlook": outlook[:1].upper() + outlook[1:],
    }


def _drawings(
    data: ReportData, finding: Finding, by_layer: pl.DataFrame, frames: Mapping[str, pl.DataFrame]
) -> Iterator[Drawing]:
    """The figures of one claim: its draws, layer by layer, and the curves that belong to it."""
    key = finding.claim
    if finding.samples.size:
        yield drawing(draws(finding), f"draws-{key}", "All layers taken as one, among draws of chance.")
    if len(data.layers) > 1 and by_layer.filter(pl.col("claim") == key)["value"].is_not_null().any():
        yield drawing(layers(by_layer, key), f"layers-{key}", "Layer by layer, with the range of chance.", wide=True)
    if key == "determined" and "determined" in frames:
        figure = determined(frames["determined"])
        yield drawing(figure, key, "The bound is informative below 1/2; all layers taken as one.")
    if key == "saturates" and "sample_sizes" in frames:
        frame = frames["sample_sizes"]
        for name, title in NAMES.items():
            if frame.filter((pl.col("statistic") == name) & pl.col("middle").is_not_null()).height:
                figure = curve(frame, statistic=name)
                yield drawing(figure, f"curve-{name}", f"{title.capitalize()} against the number of models.")


def _spectrum(data: ReportData, frame: pl.DataFrame) -> list[Drawing]:
    """Scree and running sum of all layers as one; empty where the models do not differ."""
    spectrum, band, share = data.spectrum.spectrum, data.spectrum.band, data.settings.share
    if frame.is_empty() or spectrum.total <= 0:
        return []
    running = cumulative(
        frame,
        share=share,
        rank=spectrum.rank_for(share),
        noise_rank=None if band is None else band.rank(share).middle,
        ceiling=spectrum.ceiling,
    )
    caption = "Share of the variance of each direction, all layers taken as one, about the mean."
    return [
        drawing(scree(frame, floor=spectrum.floor / spectrum.total, ceiling=spectrum.ceiling), "scree", caption),
        drawing(running, "cumulative", "Share that the strongest directions carry together."),
    ]


def _provenance(source: Provenance) -> dict[str, object]:
    facts = json.loads(source.as_json())
    return {
        "Collection": f"{source.collection}, {source.fingerprint}",
        **{key.capitalize(): value for key, value in facts["settings"].items()},
        "Version of the mathematics": facts["math_version"],
        "Packages": ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
        "Made": facts["time"],
    }
