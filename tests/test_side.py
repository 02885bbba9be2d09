"""The side axes: exact against numpy and scikit-learn, for every centre, subset, unit and budget."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from tests.test_gram import LAYER, weights, written
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import LayerError, NotEnoughModels, UwsError
from uws_core.passes.gram import gram
from uws_core.passes.side import side_gram


def expected(arrays: list[np.ndarray], axis: str, center: np.ndarray, *, unit: bool = False) -> np.ndarray:
    """The mode Gram, the plain way."""
    away = np.array(arrays, dtype=np.float64) - center
    if unit:
        away /= np.linalg.norm(away, axis=(1, 2), keepdims=True)
    return np.einsum("nmp,nmq->pq", away, away) if axis == "in" else np.einsum("nmp,nqp->mq", away, away)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("budget", [2 * 7 * 40 * 4 * 3, 2**28])
def test_mode_grams_about_the_mean(tmp_path, axis, unit, budget):
    arrays = weights(0, differ=0.05)
    found = side_gram(written(tmp_path, arrays, torch.float32), LAYER, axis=axis, unit=unit, budget=budget)
    truth = expected(arrays, axis, np.mean(np.array(arrays, dtype=np.float64), axis=0), unit=unit)
    np.testing.assert_allclose(found.values, truth, atol=1e-6 * np.linalg.norm(truth, 2))


@pytest.mark.parametrize("axis", ["in", "out"])
def test_every_centre_and_subset(tmp_path, axis):
    arrays, base = weights(1), weights(2, n=1)[0]
    collection = written(tmp_path, arrays, torch.float32, base)
    wide = np.array(arrays, dtype=np.float64)
    for about, center in (
        ("zero", np.zeros_like(base)),
        ("base", base),
        ("m4", wide[4]),
        ("mean", wide[[1, 3, 5]].mean(0)),
    ):
        found = side_gram(collection, LAYER, axis=axis, about=about, members=[1, 3, 5])
        truth = expected(list(wide[[1, 3, 5]]), axis, center)
        np.testing.assert_allclose(found.values, truth, atol=1e-6 * np.linalg.norm(truth, 2))
        assert found.labels == ("m1", "m3", "m5")


def test_the_input_axis_is_a_pca_of_all_rows_stacked(tmp_path):
    arrays = weights(3)
    stacked = np.concatenate([array - np.mean(arrays, axis=0) for array in np.array(arrays, dtype=np.float64)])
    pca = PCA().fit(stacked)
    found = spectrum(side_gram(written(tmp_path, arrays, torch.float32), LAYER, axis="in"))
    # About the mean model, stacked rows have mean zero: the centring of PCA itself changes nothing.
    np.testing.assert_allclose(found.variances, pca.explained_variance_ * (len(stacked) - 1), rtol=1e-5)


def test_toy_tensors_come_out_exactly_on_all_axes(tmp_path):
    arrays = [np.zeros((2, 2), dtype=np.float32) for _ in range(4)]
    for index, array in enumerate(arrays):
        array.flat[index] = 2.0
    collection = written(tmp_path, arrays, torch.float32)
    np.testing.assert_allclose(spectrum(gram(collection, LAYER)).variances, [4, 4, 4, 0], atol=1e-12)
    for axis in ("in", "out"):
        np.testing.assert_allclose(spectrum(side_gram(collection, LAYER, axis=axis)).variances, [8, 4], atol=1e-12)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_a_non_finite_model_is_named_and_the_rest_is_as_without_it(tmp_path, axis):
    arrays = weights(4)
    arrays[2][0, 0] = np.nan
    rest = arrays[:2] + arrays[3:]
    found = side_gram(written(tmp_path, arrays, torch.float32), LAYER, axis=axis)
    truth = expected(rest, axis, np.mean(np.array(rest, dtype=np.float64), axis=0))
    np.testing.assert_allclose(found.values, truth, atol=1e-6 * np.linalg.norm(truth, 2))
    assert found.usable.tolist() == [True, True, False, True, True, True, True]
    assert found.left_out[0].what.startswith("m2")


def test_wrong_words_are_named(tmp_path):
    collection = written(tmp_path, weights(5), torch.float32)
    with pytest.raises(UwsError, match="on 'models' use gram"):
        side_gram(collection, LAYER, axis="models")
    with pytest.raises(LayerError, match="no base model is known"):
        side_gram(collection, LAYER, axis="in", about="base")
    with pytest.raises(NotEnoughModels, match="Choose models between 0 and 6"):
        side_gram(collection, LAYER, axis="in", members=[7])
