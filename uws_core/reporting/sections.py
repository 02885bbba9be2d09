"""The report from top to bottom: answers, claims, figures, lineage, selection, what was left out, where it is from."""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from uws_core.answers import evidence as answers
from uws_core.answers import lineage as lineage_answers
from uws_core.answers.factors import gauge_notes
from uws_core.charts import evidence as charts
from uws_core.charts import evidence_layers as layer_charts
from uws_core.charts import lineage as lineage_charts
from uws_core.charts import norms as norm_charts
from uws_core.charts import spectrum as spectrum_charts
from uws_core.charts.chance_range import chance_range_svg
from uws_core.export import Provenance
from uws_core.frames import collection as collection_frames
from uws_core.frames import evidence as frames
from uws_core.frames import lineage as lineage_frames
from uws_core.frames import spectrum as spectrum_frames
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Finding, Pooled
from uws_core.reporting import html
from uws_core.reporting.html import text
from uws_core.reporting.report_data import ReportData

# More models than this make a matrix that nobody reads on paper.
MOST_ROWS = 500
_PARTS = {
    "claims": "Claims",
    "each": "Claim by claim",
    "spectrum": "Spectrum",
    "lineage": "Lineage",
    "selection": "Selection",
    "left-out": "Left out",
    "provenance": "Provenance",
}


def answer(data: ReportData) -> str:
    """The report in a sentence or two: over the layers where there are several."""
    if len(data.layers) > 1:
        return answers.answer_layers(
            data.pooled, models=data.whole.n, layers=len(data.layers), grouped_by=data.whole.grouped_by
        )
    return answers.answer(data.whole, place=data.keys[0].short)


def page(data: ReportData, source: Provenance) -> str:
    """The whole document."""
    title = f"Evidence: {data.collection.name}"
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in _PARTS.items())
    parts = (_claims, _each, _spectrum, _lineage, _selection, _left_out)
    body = [_head(data, title), f"<nav>{links}</nav>", *(part(data) for part in parts), _provenance(source)]
    return html.document(title, "\n".join(body))


def _head(data: ReportData, title: str) -> str:
    whole, settings = data.whole, data.asked
    told = [
        f"{whole.n} models",
        f"{len(data.layers)} layers",
        f"{whole.groups} groups ({whole.grouped_by})" if whole.groups else "no groups",
        f"k = {whole.kept}",
        f"{settings.draws} draws of chance",
        f"seed {settings.seed}",
    ]
    lead = f'<p class="lead">{text(answer(data))}</p>'
    if len(data.layers) > 1:
        lead += f"<p>{text(answers.answer(whole, place=f'all {len(data.layers)} layers taken as one'))}</p>"
    notes = "".join(
        f'<p class="quiet">{text(note.rstrip("."))}.</p>' for note in (*data.notes, *gauge_notes(data.keys))
    )
    return f'<h1>{text(title)}</h1>{lead}<p class="meta">{text(", ".join(told))}</p>{notes}'


def _claims(data: ReportData) -> str:
    head = _header("claim", "verdict", "figure", "value", "chance", "z", "p", "why")
    whole = html.rows_table(head, [_finding(one) for one in data.whole.findings], name="claims")
    if len(data.layers) == 1:
        return f"{_title('claims')}{whole}"
    head = _header("claim", "verdict", "passed", "median", "chance", "z", "layers")
    verdicts = charts.verdicts(_escaped(frames.by_layer(data.layers)))
    return "\n".join(
        [
            _title("claims"),
            f"<h3>Over {len(data.layers)} layers</h3>",
            '<p class="quiet">Passed: layers beyond chance of those that can be tested, at a false discovery rate of '
            "5 % over all of them (Benjamini and Hochberg 1995). Value, chance and z are medians over layers.</p>",
            html.rows_table(head, [_over_layers(one) for one in data.pooled], name="claims"),
            html.figure(verdicts, "verdicts", "Every claim in every layer.", wide=True),
            "<h3>All layers taken as one</h3>",
            whole,
        ]
    )


def _over_layers(one: Pooled) -> str:
    counts = {"holds": one.holds, "weak": one.weak, "chance": one.chance, "cannot tell": one.unknown}
    return _row(
        {
            "claim": text(CLAIMS[one.claim].title),
            "verdict": html.verdict(one.verdict),
            "passed": f"{one.discoveries} of {one.tested}" if one.tested else "",
            "median": text(answers.number(one.value, one.claim)),
            "chance": text(answers.number(one.middle, one.claim)),
            "z": text(answers.score(one.z)),
            "layers": text(
                one.reason
                if one.unknown == one.layers
                else ", ".join(f"{name} in {count}" for name, count in counts.items() if count)
            ),
        }
    )


def _finding(one: Finding) -> str:
    return _row(
        {
            "claim": text(one.about.title),
            "verdict": html.verdict(one.verdict),
            "figure": chance_range_svg(one, answers.among(one)),
            "value": text(answers.number(one.value, one.claim)),
            "chance": text(answers.number(one.middle, one.claim)),
            "z": text(answers.score(one.z)),
            "p": f"{one.p:.2g}" if one.p == one.p else "",
            "why": text(one.reason),
        }
    )


def _each(data: ReportData) -> str:
    parts = [_title("each")]
    by_layer = _escaped(frames.by_layer(data.layers))
    for one in data.whole.findings:
        about = one.about
        parts += [f"<h3>{text(about.title)}</h3>", f"<p>{html.verdict(one.verdict)} {text(one.reason)}.</p>"]
        parts += _figures(data, one, by_layer)
        parts += [
            f'<p class="quiet"><b>{text(about.statistic)}</b>: {text(about.definition)} '
            f"<b>Chance</b>: {text(about.chance)}. <b>Source</b>: {text(about.source)}.</p>"
        ]
    return "\n".join(parts)


def _figures(data: ReportData, one: Finding, by_layer: pl.DataFrame) -> list[str]:
    found = []
    if one.samples.size:
        found.append(
            html.figure(charts.draws(one), f"draws-{one.claim}", "All layers taken as one, among draws of chance.")
        )
    many = len(data.layers) > 1 and by_layer.filter(pl.col("claim") == one.claim)["value"].is_not_null().any()
    if many:
        drawn = layer_charts.layers(by_layer, one.claim)
        found.append(html.figure(drawn, f"layers-{one.claim}", "Layer by layer, over what chance gives.", wide=True))
    if one.claim == "determined" and data.whole.determined is not None:
        drawn = charts.determined(frames.determined(data.whole.determined))
        found.append(html.figure(drawn, "determined", "The bound says something below 1/2; all layers taken as one."))
    if one.claim == "saturates" and data.curve is not None:
        frame = frames.curve(data.curve)
        for name, title in charts.NAMES.items():
            if frame.filter((pl.col("statistic") == name) & pl.col("middle").is_not_null()).height:
                drawn = charts.curve(frame, statistic=name)
                found.append(html.figure(drawn, f"curve-{name}", f"{title.capitalize()} against the number of models."))
        found.append(f"<p>{text(data.curve.outlook[:1].upper() + data.curve.outlook[1:])}.</p>")
    return found


def _spectrum(data: ReportData) -> str:
    seen, band = data.seen.spectrum, data.seen.band
    frame = spectrum_frames.scree(seen, band)
    if frame.is_empty() or seen.total <= 0:
        return f"{_title('spectrum')}<p>These models do not differ: there is no spectrum.</p>"
    share = data.settings.share
    running = spectrum_charts.cumulative(
        frame,
        share=share,
        rank=seen.rank_for(share),
        noise_rank=None if band is None else band.rank(share).middle,
        ceiling=seen.ceiling,
    )
    scree = spectrum_charts.scree(frame, floor=seen.floor / seen.total, ceiling=seen.ceiling)
    return "\n".join(
        [
            _title("spectrum"),
            html.figure(
                scree, "scree", "Share of the variance of each direction, all layers taken as one, about the mean."
            ),
            html.figure(running, "cumulative", "Share that the strongest directions carry together."),
        ]
    )


def _lineage(data: ReportData) -> str:
    family = data.family
    place = "all layers taken as one" if len(data.layers) > 1 else data.keys[0].short
    parts = [_title("lineage"), f"<p>{text(lineage_answers.answer(family, place=place).replace('`', ''))}</p>"]
    if family.s <= MOST_ROWS:
        drawn = lineage_charts.cosine_heatmap(family)
        parts.append(html.figure(drawn, "likeness", "Cosine of every pair of models, like beside like."))
    strengths = norm_charts.norms(lineage_frames.models(family, data.gram.entry_stats))
    parts.append(html.figure(strengths, "strengths", "How far each model is from the centre."))
    parts.append(_folded("Groups", lineage_frames.groups(family)))
    for name, frame in (
        ("Odd ones", lineage_frames.suspects(family)),
        ("Near copies", lineage_frames.duplicates(family)),
    ):
        parts.append(_folded(name, frame) if frame.height else f"<p>{name}: none.</p>")
    return "\n".join(parts)


def _selection(data: ReportData) -> str:
    layers = pl.DataFrame(
        {
            "layer": [key.name for key in data.keys],
            "outputs": [key.shape[0] for key in data.keys],
            "inputs": [key.shape[1] for key in data.keys],
        }
    )
    models = collection_frames.models(data.collection, data.settings.members)
    return "\n".join([_title("selection"), _folded("Models", models), _folded("Layers", layers)])


def _left_out(data: ReportData) -> str:
    if not data.left_out:
        return f"{_title('left-out')}<p>Nothing: every tensor of every model is compared.</p>"
    return f"{_title('left-out')}{html.table(collection_frames.left_out(data.left_out))}"


def _provenance(source: Provenance) -> str:
    told = json.loads(source.as_json())
    rows: Mapping[str, object] = {
        "Collection": f"{source.collection}, {source.fingerprint}",
        **{key.capitalize(): value for key, value in told["settings"].items()},
        "Version of the mathematics": told["math_version"],
        "Packages": ", ".join(f"{name} {version}" for name, version in told["packages"].items()),
        "Made": told["time"],
    }
    items = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows.items())
    return f"{_title('provenance')}<dl>{items}</dl>"


def _folded(name: str, frame: pl.DataFrame) -> str:
    shown = frame.head(MOST_ROWS)
    more = f"<p>The first {MOST_ROWS} of {frame.height}; the tables hold all.</p>" if frame.height > MOST_ROWS else ""
    return f"<details><summary>{text(name)} ({frame.height})</summary>{html.table(shown)}{more}</details>"


def _title(key: str) -> str:
    return f'<h2 id="{key}">{_PARTS[key]}</h2>'


def _header(*names: str) -> str:
    return "".join(f'<th class="n">{one}</th>' if one in _RIGHT else f"<th>{one}</th>" for one in names)


_RIGHT = {"passed", "median", "value", "chance", "z", "p"}


def _row(cells: Mapping[str, str]) -> str:
    return "".join(
        f'<td data-name="{name}"{" class=n" if name in _RIGHT else ""}>{cell}</td>' for name, cell in cells.items()
    )


def _escaped(frame: pl.DataFrame) -> pl.DataFrame:
    """Names as figures may show them: a figure would read marks in them as its own."""
    return frame.with_columns(pl.Series("short", [text(name) for name in frame["short"]], dtype=pl.String))
