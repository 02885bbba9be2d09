"""Spectra against what was planted, against scikit-learn and numpy, and their frames."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

from tests.planted import gram_of, noise, side_gram_of, spiked, toy
from uws_core.analysis.nulls import null_band, pooled_band
from uws_core.analysis.spectrum import pooled, spectrum
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.frames import spectrum as frames
from uws_core.nouns.gram import Axis
from uws_core.nouns.spectrum import LayerSpectrum, Spectrum

# Eigenvalues of a float64 Gram against a float64 SVD: rounding only.
RELATIVE = 1e-10


def planted(n: int = 12, d: int = 50, variances: tuple[float, ...] = (9.0, 4.0, 1.0)) -> np.ndarray:
    """Models that differ in exactly three directions with these variances, around a mean far from zero."""
    rng = np.random.default_rng(0)
    weights = np.linalg.qr(np.column_stack([np.ones(n), rng.standard_normal((n, len(variances)))]))[0][:, 1:]
    directions = np.linalg.qr(rng.standard_normal((d, len(variances))))[0]
    return 5.0 + weights * np.sqrt(variances) @ directions.T


def test_planted_variances_come_out_and_nothing_else() -> None:
    seen = spectrum(gram_of(planted()))
    np.testing.assert_allclose(seen.variances[:3], [9, 4, 1], rtol=RELATIVE)
    assert np.all(seen.variances[3:] <= seen.floor)
    assert seen.total == pytest.approx(14, rel=RELATIVE)
    assert [seen.rank_for(share).k for share in (0.6, 0.65, 0.95)] == [1, 2, 3]


@pytest.mark.parametrize(("about", "expected"), [("mean", [4, 4, 4, 0]), ("zero", [4, 4, 4, 4])])
def test_toy_tensors_on_the_models_axis(about: str, expected: list[float]) -> None:
    np.testing.assert_allclose(spectrum(gram_of(toy()), about=about).variances, expected, atol=1e-12)


@pytest.mark.parametrize("axis", [Axis.IN, Axis.OUT])
def test_toy_tensors_on_the_side_axes(axis: Axis) -> None:
    np.testing.assert_allclose(spectrum(side_gram_of(toy(), axis=axis)).variances, [8, 4], rtol=RELATIVE)


def test_scikit_learn_agrees() -> None:
    rows = spiked(20, 300, strengths=[50, 10], seed=1) + 3
    fitted = PCA(svd_solver="full").fit(rows)
    seen = spectrum(gram_of(rows))
    np.testing.assert_allclose(seen.variances, fitted.explained_variance_ * 19, rtol=RELATIVE, atol=seen.floor)
    np.testing.assert_allclose(seen.ratio, fitted.explained_variance_ratio_, rtol=RELATIVE, atol=1e-12)


def test_scikit_learn_agrees_on_a_subset_in_any_order_and_as_a_mask() -> None:
    rows = noise(15, 80, seed=2) + 1
    expected = PCA().fit(rows[[2, 5, 7, 11]]).explained_variance_ * 3
    mask = np.isin(np.arange(15), [2, 5, 7, 11])
    for members in ([11, 2, 7, 5], mask, [2, 5, 7, 11 - 15]):
        seen = spectrum(gram_of(rows), members=members)
        np.testing.assert_allclose(seen.variances[:3], expected[:3], rtol=RELATIVE)
        assert (seen.n, seen.ceiling) == (4, 3)


@pytest.mark.parametrize("about", ["mean", "zero", "base", "model-4"])
@pytest.mark.parametrize("unit", [False, True])
def test_numpy_agrees_about_every_centre(about: str, unit: bool) -> None:
    rows, base = noise(9, 60, seed=3) + 2, np.linspace(-1, 1, 60)
    center = {"mean": rows.mean(axis=0), "zero": 0 * base, "base": base, "model-4": rows[4]}[about]
    away = rows - center
    if unit:
        away = away[np.linalg.norm(away, axis=1) > 0]
        away = away / np.linalg.norm(away, axis=1)[:, None]
    seen = spectrum(gram_of(rows, base=base), about=about, unit=unit)
    expected = np.linalg.svd(away, compute_uv=False) ** 2
    np.testing.assert_allclose(seen.variances, expected, rtol=1e-9, atol=1e-10)
    assert np.count_nonzero(seen.variances) == seen.ceiling == {"mean": 8, "zero": 9, "base": 9, "model-4": 8}[about]
    assert (seen.about, seen.unit) == (about, unit)


def test_a_model_outside_the_subset_may_be_the_centre() -> None:
    rows = noise(6, 40, seed=4)
    seen = spectrum(gram_of(rows), members=[0, 1, 2], about="model-5")
    np.testing.assert_allclose(seen.variances, np.linalg.svd(rows[:3] - rows[5], compute_uv=False) ** 2, rtol=1e-9)
    assert seen.ceiling == 3


def test_side_axes_are_principal_components_of_stacked_rows() -> None:
    stack = np.random.default_rng(5).standard_normal((4, 6, 9))
    away = stack - stack.mean(axis=0)
    for axis, vectors in ((Axis.IN, away.reshape(-1, 9)), (Axis.OUT, away.transpose(0, 2, 1).reshape(-1, 6))):
        seen = spectrum(side_gram_of(stack, axis=axis))
        np.testing.assert_allclose(seen.variances, np.linalg.svd(vectors, compute_uv=False) ** 2, rtol=RELATIVE)
    with pytest.raises(LayerError, match="no members to choose"):
        spectrum(side_gram_of(stack, axis=Axis.IN), members=[0, 1])


def test_the_ceiling_knows_few_weights_and_few_models() -> None:
    assert spectrum(gram_of(noise(10, 4, seed=0))).ceiling == 4
    assert spectrum(side_gram_of(noise(2, 30, seed=0).reshape(2, 3, 10), axis=Axis.IN)).ceiling == 3


def test_layers_added_are_one_long_layer() -> None:
    left, right = noise(8, 30, seed=6), 3 * noise(8, 70, seed=7)
    together = spectrum(gram_of(left) + gram_of(right))
    np.testing.assert_allclose(together.variances, spectrum(gram_of(np.hstack([left, right]))).variances, atol=1e-9)


def test_unit_takes_out_what_unequal_strength_fakes_and_names_who_has_no_direction() -> None:
    rows = noise(12, 4000, seed=8, norms=np.geomspace(1, 100, 12))
    assert spectrum(gram_of(rows), about="zero").ratio[0] > 0.5
    assert spectrum(gram_of(rows), about="zero", unit=True).ratio[0] < 0.12
    rows[3] = 0
    seen = spectrum(gram_of(rows), about="zero", unit=True)
    assert seen.n == seen.ceiling == 11
    assert [out.what for out in seen.left_out] == ["model-3"]
    # Scaling a weak model up scales its rounding up too: the weakest here has norm 0.1.
    gram = gram_of(rows[:3] / 10)
    assert spectrum(gram, about="zero", unit=True).floor == pytest.approx(100 * gram.floor, rel=1e-9, abs=0)


def test_models_that_are_not_finite_take_no_part() -> None:
    rows = noise(6, 30, seed=9)
    clean = spectrum(gram_of(rows[[0, 1, 3, 4, 5]]))
    rows[2, 7] = np.nan
    np.testing.assert_allclose(spectrum(gram_of(rows)).variances, clean.variances, rtol=RELATIVE, atol=clean.floor)


def test_too_few_models_and_unknown_centres_are_told() -> None:
    gram = gram_of(noise(5, 20, seed=0))
    with pytest.raises(NotEnoughModels, match=r"at least 2 usable models; found 1 of 5\. Choose more"):
        spectrum(gram, members=[3])
    with pytest.raises(LayerError, match="no base model"):
        spectrum(gram, about="base")
    with pytest.raises(LayerError, match="no model is called 'nobody'"):
        spectrum(gram, about="nobody")
    with pytest.raises(NotEnoughModels, match="away from the centre; found 0 of 5"):
        spectrum(gram_of(np.ones((5, 20))), unit=True)


def test_identical_models_have_no_variance_and_no_rank() -> None:
    seen = spectrum(gram_of(np.ones((5, 20))))
    assert (seen.total, seen.effective_rank, seen.rank_for(0.9).k) == (0, 0, 0)


def test_effective_rank_of_equal_shares_is_their_number() -> None:
    assert spectrum(gram_of(toy())).effective_rank == pytest.approx(3)


def test_a_rank_beyond_what_was_kept_is_censored() -> None:
    kept = Spectrum(variances=np.array([3.0, 2.0]), total=10, floor=0, ceiling=9, n=10, d=100)
    assert str(kept.rank_for(0.3)) == "1"
    assert str(kept.rank_for(0.6)) == "more than 2"
    with pytest.raises(ValueError, match="at most at 1"):
        kept.rank_for(1.1)


def test_pooling_is_the_mean_and_the_deviation_over_layers() -> None:
    layers = [
        Spectrum(variances=np.array(values), total=sum(values), floor=0, ceiling=2, n=3, d=9)
        for values in ([3.0, 1.0], [1.0, 1.0], [0.0, 0.0])
    ]
    pool = pooled(layers)
    np.testing.assert_allclose(pool.mean, [0.625, 0.375])
    np.testing.assert_allclose(pool.std, [0.125, 0.125])
    np.testing.assert_allclose(pool.cumulative_mean, [0.625, 1.0])
    np.testing.assert_allclose(pool.cumulative_std, [0.125, 0.0], atol=1e-15)
    assert (pool.layers, pool.empty) == (2, 1)
    with pytest.raises(NotEnoughModels, match="found none among 1"):
        pooled(layers[2:])


def item(rows: np.ndarray, *, name: str = "blocks.2.attn.q.weight") -> LayerSpectrum:
    gram = gram_of(rows, name=name)
    return LayerSpectrum(gram.layer, spectrum(gram), null_band(gram, draws=40))


def test_scree_frame_is_one_row_a_component_with_its_band() -> None:
    one = item(spiked(12, 400, strengths=[2000], seed=2))
    frame = frames.scree(one.spectrum, one.band)
    assert frame["component"].to_list() == list(range(1, 12))
    assert frame["cumulative"][-1] == pytest.approx(1)
    assert frame["cumulative_high"][-1] == pytest.approx(1)
    assert frame["above_band"].to_list() == [True] + [False] * 10
    assert one.band is not None
    np.testing.assert_allclose(frame["z"], one.band.z[:11])
    np.testing.assert_allclose(frame["cumulative_middle"][1], np.median(one.band.samples[:, :2].sum(axis=1)))


def test_scree_frame_without_a_band_has_the_same_form_and_greys_rounding() -> None:
    one = item(planted())
    frame = frames.scree(one.spectrum)
    assert frame.schema == frames.scree(one.spectrum, one.band).schema
    assert frame["high"].null_count() == 11
    assert frame["above_floor"].to_list() == [True] * 3 + [False] * 8


def test_overview_frame_is_one_row_a_layer() -> None:
    layers = [item(planted()), item(noise(12, 400, seed=2), name="head.weight"), item(np.ones((12, 5)))]
    frame = frames.overview(layers, share=0.9)
    assert frame["short"].to_list() == ["2.attn.q", "head", "2.attn.q"]
    assert frame["depth"].to_list() == [2, None, 2]
    assert frame["rank"].to_list()[0] == 2
    assert frame["z"][0] > 10
    assert abs(frame["z"][1]) < 4
    assert frame["z"][2] is None
    assert frame["noise_rank"][1] == pytest.approx(frame["rank"][1], abs=1)
    assert frames.overview([]).schema == frame.schema


def test_pooled_frame_carries_the_band_of_the_mean() -> None:
    layers = [item(noise(12, 400, seed=seed)) for seed in (1, 2, 3)]
    bands = [one.band for one in layers if one.band is not None]
    frame = frames.pooled(pooled([one.spectrum for one in layers]), pooled_band(bands))
    assert frame.height == 11
    np.testing.assert_allclose(frame["share"], np.mean([one.spectrum.ratio[:11] for one in layers], axis=0))
    assert frame.select((pl.col("high") > pl.col("low")).all()).item()


def test_every_column_is_explained() -> None:
    one = item(planted())
    pool = frames.pooled(pooled([one.spectrum]), one.band)
    for frame in (frames.scree(one.spectrum, one.band), frames.overview([one]), pool):
        assert set(frame.columns) <= set(frames.HELP)
