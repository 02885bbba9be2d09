"""Models against the directions their base is strongest in: planted ones, scipy's angles, and adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

import uws_core as uws
from tests.test_gram import LAYER, weights, written
from uws_core import run
from uws_core.analysis.base_angles import base_angles, base_levels
from uws_core.answers.base_angles import answer
from uws_core.charts import angles as charts
from uws_core.charts.style import LIGHT, PRINT
from uws_core.errors import LayerError
from uws_core.frames import angles as frames
from uws_core.nouns.angles import BASE
from uws_core.passes import factors as room
from uws_core.store.results import Store

SHAPE = (40, 60)
K = 3


def base_weights() -> np.ndarray:
    """A base whose first directions stand clear of each other."""
    rng = np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.standard_normal((side, 20)))[0] for side in SHAPE)
    return left * np.geomspace(10, 0.1, 20) @ right.T


def changed(base: np.ndarray, *, inside: bool, seed: int) -> np.ndarray:
    """The base and a change that reads its first `K` input directions, or none of its directions."""
    right = np.linalg.svd(base)[2]
    rows = right[:K] if inside else right[20 : 20 + K]
    return base + 0.1 * np.random.default_rng(seed).standard_normal((SHAPE[0], K)) @ rows


def folder(place: Path, name: str) -> Path:
    (place / name).mkdir()
    return place / name


def test_a_change_inside_the_bases_own_directions_overlaps_wholly_and_one_outside_not_at_all(tmp_path):
    base = base_weights()
    arrays = [changed(base, inside=index < 2, seed=index) for index in range(4)]
    models = written(tmp_path, arrays, torch.float64, base)
    factors = uws.factors(models, LAYER, kept=K, about="base", with_base=True)
    assert factors.labels == (*models.labels, BASE)
    every = base_angles(factors, side="in", kept=K)
    assert [one.overlap for one in every] == pytest.approx([1, 1, 0, 0], abs=1e-6)
    assert every[0].chance == pytest.approx(K / SHAPE[1])
    assert answer(every, base_levels(every), location="`q`", side="in", about="base") == (
        "Mixed: in `q`, 2 of 4 models overlap with the base more than random directions, and 2 less."
    )
    alike = answer(every[:2], base_levels(every[:2]), location="`q`", side="in", about="base")
    assert alike == (
        "Models lean towards the base: in `q`, their 3 leading input directions about the base overlap with its own by "
        "1.00, random ones by 0.05."
    )
    apart = answer(every[2:], base_levels(every[2:]), location="`q`", side="in", about="base")
    assert apart.startswith("Models avoid the base: ")


@pytest.mark.parametrize("side", ["in", "out"])
@pytest.mark.parametrize("about", ["mean", "base", "zero"])
def test_the_angles_are_those_scipy_finds_between_numpys_singular_vectors(tmp_path, side, about):
    arrays, base = weights(0, n=4, shape=SHAPE), base_weights()
    factors = uws.factors(written(tmp_path, arrays, torch.float64, base), LAYER, kept=8, about=about, with_base=True)
    center = {"mean": np.mean(arrays, axis=0), "base": base, "zero": 0 * base}[about]

    def directions(array: np.ndarray) -> np.ndarray:
        left, _, right = np.linalg.svd(array)
        return (right.T if side == "in" else left)[:, :8]

    for array, found in zip(arrays, base_angles(factors, side=side, kept=8), strict=True):
        expected = np.sort(subspace_angles(directions(array - center), directions(base)))
        np.testing.assert_allclose(found.radians, expected, atol=1e-6)


def test_random_changes_stay_inside_the_band_as_often_as_it_says(tmp_path):
    base = base_weights()
    arrays = [base + change for change in weights(7, n=60, shape=SHAPE)]
    factors = uws.factors(written(tmp_path, arrays, torch.float64, base), LAYER, kept=K, about="base", with_base=True)
    every = base_angles(factors, side="in", kept=K)
    levels = base_levels(every)
    beyond = sum(not level.low <= one.overlap <= level.high for one, level in zip(every, levels, strict=True))
    assert beyond <= 8  # 3 of 60 on average; more than 8 once in two hundred times
    assert levels[0].overlap == pytest.approx(K / SHAPE[1])


def test_without_a_base_it_says_what_to_ask_for(tmp_path):
    models = written(tmp_path, weights(0, n=3), torch.float32)
    with pytest.raises(LayerError, match="no base model is known"):
        uws.factors(models, LAYER, with_base=True)
    with pytest.raises(LayerError, match="with_base=True"):
        base_angles(uws.factors(models, LAYER, kept=2), side="in", kept=2)


def test_a_base_of_nan_and_a_model_of_nothing_have_no_angles(tmp_path):
    base = base_weights()
    arrays = [base.copy(), changed(base, inside=True, seed=0)]
    factors = uws.factors(
        written(folder(tmp_path, "a"), arrays, torch.float64, base), LAYER, about="base", with_base=True
    )
    every = base_angles(factors, side="in", kept=K)
    assert [one.k for one in every] == [0, K]
    frame = frames.to_base(factors.labels[:-1], every, base_levels(every))
    assert frame["overlap"].null_count() == 1
    for measure in ("overlap", "mean_degrees", "largest_degrees"):
        assert charts.to_base(frame, measure=measure, title=measure).data
    broken = written(folder(tmp_path, "b"), arrays, torch.float64, np.full(SHAPE, np.nan))
    nothing = uws.factors(broken, LAYER, about="mean", with_base=True)
    assert any(BASE in one.what for one in nothing.left_out)
    told = base_angles(nothing, side="in", kept=K)
    assert "One cannot tell" in answer(told, base_levels(told), location="`q`", side="in", about="mean")


def test_the_store_keeps_them_apart_from_those_without_the_base(tmp_path):
    models = written(folder(tmp_path, "models"), weights(0, n=3), torch.float32, weights(1, n=1)[0])
    store = Store(tmp_path / "store")
    plain = run.cached_factors(models, LAYER, kept=2, store=store)
    based = run.cached_factors(models, LAYER, kept=2, with_base=True, store=store)
    again = run.cached_factors(models, LAYER, kept=2, with_base=True, store=store)
    assert (plain.n, based.n) == (3, 4)
    assert again.labels == based.labels
    np.testing.assert_array_equal(again.left, based.left)


@pytest.mark.parametrize("layer", ["blocks.0.attn.q.weight", "blocks.1.mlp.down.weight"])
def test_an_adapters_base_is_the_update_zero_in_every_pass(layer):
    models = uws.collect("demo:lora")
    gram = uws.gram(models, layer)
    np.testing.assert_allclose(gram.about("base"), gram.about("zero"), rtol=1e-12, atol=1e-9 * gram.values.max())
    for axis in ("in", "out"):
        about = [uws.side_gram(models, layer, axis=axis, about=center).values for center in ("base", "zero")]
        np.testing.assert_array_equal(*about)
    about_base, about_zero = (uws.factors(models, layer, kept=4, about=center) for center in ("base", "zero"))
    np.testing.assert_array_equal(about_base.singular, about_zero.singular)


def test_figures_say_what_chance_is(tmp_path):
    base = base_weights()
    arrays = [changed(base, inside=index < 2, seed=index) for index in range(4)]
    factors = uws.factors(written(tmp_path, arrays, torch.float64, base), LAYER, about="base", with_base=True)
    every = base_angles(factors, side="in", kept=K)
    frame = frames.to_base(factors.labels[:-1], every, base_levels(every), {"group": ["a", "a", "b", "b"]})
    for measure, extra in (("overlap", 2), ("mean_degrees", 0), ("largest_degrees", 0)):
        for theme in (LIGHT, PRINT):
            drawn = charts.to_base(frame, measure=measure, title=measure, theme=theme)
            names = [trace.name for trace in drawn.data]
            assert names[-2:] == ["a", "b"]
            assert len(names) == extra + 3
            assert drawn.layout.yaxis.title.text == f"{measure}, with the base"
            assert list(drawn.data[-1].customdata) == list(factors.labels[2:4])


@pytest.mark.parametrize("about", ["base", "mean"])
def test_a_base_too_wide_to_be_decomposed_whole_stands_beside_adapters(monkeypatch, about):
    monkeypatch.setattr(room, "EXACT_SIDE", 8)
    factors = uws.factors(uws.collect("demo:lora"), "blocks.0.attn.q.weight", kept=6, about=about, with_base=True)
    assert not factors.complete
    every = base_angles(factors, side="in", kept=6)
    assert {one.cosines.shape for one in every} == ({(4, 6)} if about == "base" else {(6, 6)})
    said = answer(every, base_levels(every), location="`q`", side="in", about=about)
    assert said.startswith("Mostly no more than chance: in `q`, ")
    assert said.endswith("overlap with the base more than random directions, and none less.")
