"""Spectra, nulls, lineage and evidence from a stored Gram: how long a page waits, and a job takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests import block_grams
from tests.bench.measure import medians, table, verdict
from tests.planted import gram_of, noise, spiked
from uws_core.analysis.attributes import explained, overlaps
from uws_core.analysis.evidence import evidence
from uws_core.analysis.lineage import lineage
from uws_core.analysis.model_map import model_map
from uws_core.analysis.nulls import null_band
from uws_core.analysis.sample_size import sample_curve
from uws_core.analysis.spectrum import spectrum
from uws_core.answers import evidence as evidence_answers
from uws_core.answers import lineage as lineage_answers
from uws_core.charts import evidence as evidence_charts
from uws_core.charts import evidence_layers as layer_charts
from uws_core.charts import lineage as lineage_charts
from uws_core.charts import norms as norm_charts
from uws_core.collection import collect
from uws_core.frames import evidence as evidence_frames
from uws_core.frames import lineage as lineage_frames
from uws_core.frames import spectrum as frames
from uws_core.nouns.block_grams import most_blocks
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Value
from uws_core.reporting.build import report
from uws_core.store.results import Store
from uws_core.ui.evidence.data import MOST_GROWING

pytestmark = pytest.mark.bench

LIMITS = {100: 3.0, 500: 30.0}
COUNT_LIMITS = {100: 1.5, 500: 15.0}
REPORT_SECONDS = 60.0


def test_spectra_and_nulls() -> None:
    few, many = gram_of(noise(100, 2000, seed=0)), gram_of(noise(500, 2000, seed=1))
    chosen = np.arange(0, 500)
    took = medians(
        {
            "subset, centre, spectrum and frame, n = 500": lambda: frames.scree(spectrum(many, members=chosen)),
            "200 draws of the strength null, n = 100": lambda: null_band(few),
            "200 draws of the gaussian null, n = 500": lambda: null_band(many, kind="gaussian"),
        },
        rounds=3,
    )
    limits = dict(zip(took, (0.15, 1.0, 3.0), strict=True))
    rows = [(name, verdict(seconds, limits[name])) for name, seconds in took.items()]
    table("Spectra and nulls from a stored Gram", ["question", "seconds"], rows)
    assert all(seconds <= limits[name] for name, seconds in took.items())


def test_profile_draws_with_the_count() -> None:
    """Rows and columns are flipped, and five planted directions are found one after another."""
    rows = []
    for n, limit in COUNT_LIMITS.items():
        gram = with_blocks(spiked(n, 4096, strengths=(40.0, 30.0, 25.0, 20.0, 15.0), seed=n))
        name = f"200 draws of the profile null and the count, n = {n}"
        seconds = medians({name: lambda gram=gram: null_band(gram)}, rounds=1)[name]
        rows.append((name, null_band(gram).above, seconds, verdict(seconds, limit)))
    table("The default null, one layer", ["question", "directions", "seconds", "limit"], rows)
    assert [found for _, found, _, _ in rows] == [5, 5]
    assert all(seconds <= limit for (_, _, seconds, _), limit in zip(rows, COUNT_LIMITS.values(), strict=True))


def test_lineage_and_evidence() -> None:
    grams = {n: with_blocks(noise(n, 2048, seed=n)) for n in LIMITS}
    took = {n: medians({f"n = {n}": lambda n=n: everything(grams[n])}, rounds=1)[f"n = {n}"] for n in grams}
    rows = [(f"both pages, one layer, n = {n}", verdict(seconds, LIMITS[n])) for n, seconds in took.items()]
    table("Lineage and evidence from a stored Gram, tables and figures included", ["question", "seconds"], rows)
    assert all(seconds <= LIMITS[n] for n, seconds in took.items())


def test_report(tmp_path: Path) -> None:
    models = collect("demo:finetuned")
    names = [key.name for key in models.layers if not key.factor]
    began = time.perf_counter()
    report(models, into=tmp_path / "report.zip", layers=names, groups="task", store=Store(tmp_path / "store"))
    seconds = time.perf_counter() - began
    what = f"report of {len(models)} models and {len(names)} layers, empty store"
    table("The report", ["question", "seconds"], [(what, verdict(seconds, REPORT_SECONDS))])
    assert (len(models), len(names)) == (40, 20)
    assert seconds <= REPORT_SECONDS


def with_blocks(weights: np.ndarray) -> Gram:
    """The Gram of weights (n, d) as layers of 64 rows, with as many blocks a side as a pass keeps of so many models."""
    return block_grams.gram_of(weights.reshape(len(weights), 64, -1), most=most_blocks(len(weights)))


def everything(gram: Gram) -> None:
    """All that both pages compute of a layer: numbers, sentences, tables and figures."""
    columns: dict[str, list[Value]] = {
        "task": [f"task-{i % 10}" for i in range(gram.n)],
        "author": [f"author-{i // 25}" for i in range(gram.n)],
        "seed": [i % 4 for i in range(gram.n)],
        "score": [float(i * i % 97) for i in range(gram.n)],
    }
    kinship(gram, columns)
    claims(gram, columns["task"])


def kinship(gram: Gram, columns: Mapping[str, Sequence[Value]]) -> None:
    """The lineage page."""
    family, points = lineage(gram), model_map(gram)
    agree = overlaps(family.groups, columns)
    told = [explained(points, column, name=name) for name, column in columns.items()]
    lineage_answers.answer(family, location="the layer")
    models = lineage_frames.models(family, gram.entry_stats)
    lineage_charts.cosine_heatmap(family, groups=[str(one) for one in columns["task"]])
    lineage_charts.stability(lineage_frames.stability(family), threshold=family.threshold, chance=family.chance)
    lineage_charts.model_map(lineage_frames.points(points, columns), shares=points.shares.tolist(), colour="task")
    lineage_charts.explained(lineage_frames.explained(told))
    norm_charts.norm_strips(models)
    for frame in (lineage_frames.groups, lineage_frames.cosines, lineage_frames.duplicates, lineage_frames.outliers):
        frame(family)
    lineage_frames.overlaps(agree)


def claims(gram: Gram, groups: Sequence[Value]) -> None:
    """The evidence page; growth with the number of models is left to the report where there are many."""
    found = evidence(gram, groups=groups)
    evidence_answers.answer(found, location="the layer")
    evidence_frames.claims(found)
    layers = evidence_frames.by_layer([(gram.layers[0], found)])
    evidence_charts.verdicts(layers)
    for one in found.findings:
        if one.samples.size:
            evidence_charts.draws(one)
            layer_charts.layers(layers, one.claim)
            evidence_frames.draws(one)
    if found.determined is not None:
        evidence_charts.determined(evidence_frames.determined(found.determined))
    if gram.n <= MOST_GROWING:
        frame = evidence_frames.curve(sample_curve(gram, kept=found.kept))
        for name in evidence_charts.NAMES:
            evidence_charts.curve(frame, statistic=name)
