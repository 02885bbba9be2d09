"""Each model's own directions: numpy's SVD as second opinion, exact and iterated."""

import numpy as np
import pytest
import torch

from tests.test_gram import LAYER, weights, written
from uws_core.analysis.angles import factor_floors
from uws_core.errors import UwsError
from uws_core.passes import factors as room
from uws_core.passes.factors import factors


def agree(found: np.ndarray, truth: np.ndarray, *, atol: float) -> None:
    """Columns agree up to sign."""
    np.testing.assert_allclose(np.abs(np.sum(found * truth, axis=0)), 1.0, atol=atol)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (30, 30)])
@pytest.mark.parametrize("about", ["mean", "zero", "base", "m2"])
def test_directions_and_singular_values_are_those_of_numpy(tmp_path, shape, about):
    arrays, base = weights(0, n=5, shape=shape), weights(1, n=1, shape=shape)[0]
    found = factors(written(tmp_path, arrays, torch.float32, base), LAYER, kept=6, about=about)
    wide = np.array(arrays, dtype=np.float64)
    center = {"mean": wide.mean(0), "zero": 0 * base, "base": base, "m2": wide[2]}[about]
    for index in (0, 1, 3, 4):
        left, values, right = np.linalg.svd(wide[index] - center)
        np.testing.assert_allclose(found.singular[index], values, rtol=1e-5, atol=1e-5 * values[0])
        agree(found.left[index], left[:, :6], atol=1e-4)
        agree(found.right[index], right[:6].T, atol=1e-4)
    assert found.complete
    assert found.left.dtype == np.float32


@pytest.mark.parametrize("shape", [(96, 64), (64, 96)])
@pytest.mark.parametrize("weakest", [1e-2, 1e-4, 1e-5, 1e-6])
def test_weak_directions_are_as_good_as_the_stated_floor_on_both_sides(tmp_path, shape, weakest):
    rng = np.random.default_rng(5)
    side = min(shape)
    values = np.concatenate([np.geomspace(1, weakest, 24), 0.3 * weakest * np.geomspace(1, 0.1, side - 24)])
    bases = [np.linalg.qr(rng.normal(size=(long, side)))[0] for long in shape]
    array = bases[0] * values @ bases[1].T
    found = factors(written(tmp_path, [array], torch.float64), LAYER, kept=24, about="zero")
    left, singular, right = np.linalg.svd(array, full_matrices=False)
    (floor,) = factor_floors(found, np.array([24]))
    assert floor < 10 * max(2e-7, 1e-15 / weakest**2)
    np.testing.assert_allclose(found.singular[0, :24], singular[:24], rtol=1e-4)
    for one, truth in ((found.left[0], left[:, :24]), (found.right[0], right[:24].T)):
        apart = np.linalg.norm(one * np.sign(np.sum(one * truth, axis=0)) - truth, axis=0)
        assert apart.max() < floor
        np.testing.assert_allclose(one.T.astype(float) @ one, np.eye(24), atol=3e-7)


def test_what_is_stored_in_double_is_not_rounded_to_single(tmp_path):
    arrays = [3.0 + 1e-5 * np.random.default_rng(seed).normal(size=(20, 12)) for seed in range(3)]
    found = factors(written(tmp_path, arrays, torch.float64), LAYER, kept=3)
    away = np.array(arrays) - np.mean(arrays, axis=0)
    for index in range(3):
        left, values, right = np.linalg.svd(away[index])
        np.testing.assert_allclose(found.singular[index], values, rtol=1e-6)
        agree(found.left[index].astype(float), left[:, :3], atol=1e-6)
        agree(found.right[index].astype(float), right[:3].T, atol=1e-6)


def test_block_iteration_agrees_and_reports_its_residual(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    decay = np.diag(0.8 ** np.arange(60))
    arrays = [
        (np.linalg.qr(rng.normal(size=(80, 60)))[0] @ decay @ np.linalg.qr(rng.normal(size=(60, 60)))[0]).astype(
            np.float32
        )
        for _ in range(3)
    ]
    monkeypatch.setattr(room, "EXACT_SIDE", 32)
    found = factors(written(tmp_path, arrays, torch.float32), LAYER, kept=5, about="zero")
    assert not found.complete
    assert (found.residual < 1e-4).all()
    for index, array in enumerate(arrays):
        left, values, right = np.linalg.svd(array.astype(np.float64))
        np.testing.assert_allclose(found.singular[index], values[:5], rtol=1e-5)
        agree(found.left[index], left[:, :5], atol=1e-4)
        agree(found.right[index], right[:5].T, atol=1e-4)


def test_a_non_finite_model_is_left_out(tmp_path):
    arrays = weights(3)
    arrays[1][2, 2] = np.inf
    found = factors(written(tmp_path, arrays, torch.float32), LAYER, kept=3)
    rest = factors(written(tmp_path, arrays[:1] + arrays[2:], torch.float32), LAYER, kept=3)
    assert found.usable.tolist() == [True, False, True, True, True, True, True]
    np.testing.assert_allclose(found.singular[[0, 2, 3, 4, 5, 6]], rest.singular, rtol=1e-5)
    assert found.left_out[0].what.startswith("m1")


def test_no_direction_is_refused(tmp_path):
    with pytest.raises(UwsError, match="kept=0"):
        factors(written(tmp_path, weights(4), torch.float32), LAYER, kept=0)
