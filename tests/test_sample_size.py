"""Curves over the number of models: against the whole spectrum, noise, and what settles."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planted import gram_of, noise, spiked
from uws_core.analysis.sample_size import sample_curve
from uws_core.errors import NotEnoughModels


def test_growth_is_followed_and_extrapolation_refused_where_it_goes_on() -> None:
    alone = sample_curve(gram_of(noise(40, 1000, seed=20)), repeats=6)
    assert "open" in alone.outlook
    assert alone.growth == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(alone.statistics["rank"][:, 1], alone.noise["rank"], atol=1)
    settled = sample_curve(gram_of(spiked(40, 1000, strengths=[9e4, 7e4], seed=21)), kept=2, repeats=6)
    assert settled.outlook.startswith("settled: 2 directions for 90 % at 40 models")
    assert settled.statistics["share"][-1, 1] > 0.95
    assert settled.statistics["overlap"][-1, 1] > 0.9
    assert settled.statistics["captured"][-1, 1] > 0.95
    between = sample_curve(gram_of(spiked(40, 1000, strengths=[150] * 4, seed=22)), repeats=6)
    assert "not extrapolated" in between.outlook
    assert alone.sizes[0] == 4
    assert alone.sizes[-1] == 40


def test_a_curve_over_all_models_is_their_spectrum_and_needs_eight() -> None:
    gram = gram_of(spiked(20, 300, strengths=[90], seed=23))
    curve = sample_curve(gram, kept=2, share=0.8, repeats=3)
    shares = np.linalg.eigvalsh(gram.about("mean"))[::-1] / np.trace(gram.about("mean"))
    assert curve.statistics["share"][-1, 1] == pytest.approx(shares[:2].sum())
    assert curve.statistics["rank"][-1, 1] == np.searchsorted(np.cumsum(shares), 0.8) + 1
    assert np.isnan(curve.statistics["overlap"][0]).all()
    again = sample_curve(gram, kept=2, share=0.8, repeats=3)
    np.testing.assert_array_equal(again.statistics["share"], curve.statistics["share"])
    assert not np.array_equal(
        sample_curve(gram, kept=2, repeats=3, seed=1).statistics["share"], curve.statistics["share"]
    )
    with pytest.raises(NotEnoughModels, match="at least 8 models; found 7"):
        sample_curve(gram, members=list(range(7)))
