"""Angles and held-out errors of the shipped networks, against other people's code on the plain weights."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from tensorly.decomposition import tucker

import uws_core as uws
from tests.shipped import whole_weights
from uws_core.analysis.angles import side_angles
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.nouns.spectrum import Kept
from uws_core.passes.hosvd_core import ModeGrams, hosvd_core
from uws_core.passes.side_heldout import SideQuestion, side_held_out

LAYERS = ("blocks.0.attn.q.weight", "blocks.2.mlp.up.weight")
COLLECTIONS = ("demo:finetuned", "demo:untrained")


@pytest.fixture(scope="module", params=[(name, layer) for name in COLLECTIONS for layer in LAYERS], ids=" ".join)
def shipped(request: pytest.FixtureRequest) -> tuple[Collection, str, Floats]:
    """A collection, one of its layers, and that layer of all models (40, m, p) as another library reads it."""
    name, layer = request.param
    collection = uws.collect(name)
    return collection, layer, np.stack([load_file(ref.repo)[layer].astype(np.float64) for ref in collection.refs])


@pytest.mark.parametrize("name", ["demo:finetuned", "demo:scratch", "demo:untrained", "demo:planted", "demo:lora"])
def test_every_spectrum_is_scikit_learns(name: str):
    collection = uws.collect(name)
    weights = [whole_weights(name.removeprefix("demo:"), label) for label in collection.labels]
    for layer in (layer for layer in collection.layers if not layer.factor):
        flat = np.stack([one[layer.name].double().flatten().numpy() for one in weights])
        variances = PCA(svd_solver="full").fit(flat).explained_variance_ * (len(flat) - 1)
        found = uws.spectrum(uws.gram(collection, layer)).variances
        size = min(found.size, variances.size)
        # The promise of the default precision: 1e-6 of the largest.
        np.testing.assert_allclose(found[:size], variances[:size], rtol=0, atol=1e-6 * variances[0], err_msg=layer.name)


def test_shared_angles_are_scipys(shipped):
    collection, layer, stack = shipped
    left, right = list(range(0, 40, 2)), list(range(1, 40, 2))
    flat = stack.reshape(40, -1)
    bases = [PCA(6, svd_solver="full").fit(flat[half]).components_.T for half in (left, right)]
    found = uws.shared_angles(uws.gram(collection, layer), left, right, kept=6)
    # Products in float32: 1e-7 of the largest variance, seen through directions that are close in strength.
    np.testing.assert_allclose(found.radians, subspace_angles(*bases)[::-1], atol=2e-3)
    np.testing.assert_allclose(found.overlap, np.mean(np.cos(subspace_angles(*bases)) ** 2), atol=1e-3)


def test_model_angles_are_scipys_for_every_pair(shipped):
    collection, layer, stack = shipped
    right = np.linalg.svd(stack - stack.mean(axis=0), full_matrices=False)[2]
    table = uws.model_angles(uws.factors(collection, layer, kept=5, members=None), side="in", kept=5)
    for i, j in ((0, 1), (0, 39), (17, 22)):
        expected = subspace_angles(right[i, :5].T, right[j, :5].T)[::-1]
        np.testing.assert_allclose(table.radians[i, j], expected, atol=2e-3)


@pytest.mark.parametrize("axis", ["in", "out"])
def test_side_angles_are_scipys_on_stacked_rows(shipped, axis: str):
    collection, layer, stack = shipped
    halves, bases = (list(range(20)), list(range(20, 40))), []
    for half in halves:
        away = stack[half] - stack[half].mean(axis=0)
        rows = (away if axis == "in" else away.swapaxes(1, 2)).reshape(-1, stack.shape[2 if axis == "in" else 1])
        bases.append(PCA(4, svd_solver="full").fit(rows).components_.T)
    grams = [uws.side_gram(collection, layer, axis=axis, members=half) for half in halves]
    np.testing.assert_allclose(side_angles(*grams, kept=4).radians, subspace_angles(*bases)[::-1], atol=2e-3)


def test_held_out_errors_are_those_of_a_pca_that_never_saw_the_task(shipped):
    collection, layer, stack = shipped
    task, flat = np.array(collection.table["task"]), stack.reshape(40, -1)
    found = uws.held_out(uws.gram(collection, layer), groups=task.tolist(), kept=[0, 4, 12])
    for h in (0, 13, 39):
        others = flat[task != task[h]]
        expected = [np.sum((flat[h] - others.mean(axis=0)) ** 2)]
        for k in (4, 12):
            fit = PCA(k, svd_solver="full").fit(others)
            expected.append(np.sum((flat[h] - fit.inverse_transform(fit.transform(flat[h : h + 1]))) ** 2))
        np.testing.assert_allclose(found[h].subspace2, expected, rtol=1e-3)


def test_side_errors_are_those_of_a_pca_of_the_other_tasks_rows(shipped):
    collection, layer, stack = shipped
    task = np.array(collection.table["task"])
    found = side_held_out(collection, layer, SideQuestion(Axis.IN, (0, 6)), groups=task.tolist())
    for h in (0, 39):
        mean = stack[task != task[h]].mean(axis=0)
        fit = PCA(6, svd_solver="full").fit((stack[task != task[h]] - mean).reshape(-1, stack.shape[2]))
        away = stack[h] - mean
        kept = away @ fit.components_.T @ fit.components_
        np.testing.assert_allclose(found[h].subspace2, [np.sum(away**2), np.sum((away - kept) ** 2)], rtol=1e-3)


def test_the_core_is_tensorlys(shipped):
    collection, layer, stack = shipped
    away = stack - stack.mean(axis=0)
    expected, _ = tucker(away, rank=[5, 6, 7], n_iter_max=0, init="svd")
    sides = [uws.side_gram(collection, layer, axis=axis) for axis in ("out", "in")]
    models = uws.gram(collection, layer)
    found = hosvd_core(collection, layer, kept=Kept(5, 6, 7), grams=ModeGrams(models, sides[0], sides[1]))
    assert found.squares.sum() == pytest.approx(np.sum(expected**2), rel=1e-4)
    assert found.total2 == pytest.approx(np.sum(away**2), rel=1e-6)
