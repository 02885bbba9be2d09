"""Spectra, nulls, lineage and evidence from a stored Gram: how long a page waits, and a job takes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.measure import medians, table
from tests.planted import gram_of, noise
from uws_core.analysis.evidence import evidence
from uws_core.analysis.lineage import lineage
from uws_core.analysis.model_map import model_map
from uws_core.analysis.nulls import null_band
from uws_core.analysis.sample_size import sample_curve
from uws_core.analysis.spectrum import spectrum
from uws_core.frames import spectrum as frames
from uws_core.nouns.gram import Gram

pytestmark = pytest.mark.bench


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
    rows = [(name, seconds, limits[name]) for name, seconds in took.items()]
    table("Spectra and nulls from a stored Gram", ["question", "seconds", "at most"], rows)
    assert all(seconds <= limits[name] for name, seconds in took.items())


def test_lineage_and_evidence() -> None:
    grams = {n: gram_of(noise(n, 2000, seed=n)) for n in (100, 500)}
    took = {n: medians({f"n = {n}": lambda n=n: everything(grams[n])}, rounds=1)[f"n = {n}"] for n in grams}
    limits = {100: 3.0, 500: 30.0}
    rows = [(f"both pages, one layer, n = {n}", seconds, limits[n]) for n, seconds in took.items()]
    table("Lineage and evidence from a stored Gram", ["question", "seconds", "at most"], rows)
    assert all(seconds <= limits[n] for n, seconds in took.items())


def everything(gram: Gram) -> None:
    """What both pages compute: lineage and map, all claims by groups, and the curve over sample sizes."""
    lineage(gram)
    model_map(gram)
    evidence(gram, groups=[i % 10 for i in range(gram.n)])
    sample_curve(gram, repeats=10)
