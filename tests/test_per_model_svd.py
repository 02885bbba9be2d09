"""Each model's own SVD about what its error is relative to, against numpy's, group by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_gram import LAYER, weights, written
from tests.test_projection import outside, stack_of
from uws_core.analysis.heldout import held_out
from uws_core.analysis.residuals import OTHERS
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.passes import per_model_svd as room
from uws_core.passes.gram import gram
from uws_core.passes.options import ComputeOptions
from uws_core.passes.per_model_svd import per_model_svds, unseen_model_svd
from uws_core.store.codec import from_bytes, to_bytes

GROUPS = list("aabbbbccc")


def apart(stack: Floats, row: int, others: list[int]) -> Floats:
    """A model about the mean of the others, the plain way."""
    wide = np.float64(stack)
    return np.asarray(wide[row] - wide[others].mean(axis=0))


@pytest.mark.parametrize("budget", [2400, 2**28])
def test_singular_values_are_those_about_the_mean_of_the_other_groups(tmp_path: Path, budget: int):
    stack, members = stack_of(), [0, 1, 2, 3, 5, 6, 8]
    collection = written(tmp_path, list(stack), torch.float32)
    found = per_model_svds(collection, LAYER, groups=GROUPS, members=members, options=ComputeOptions(budget=budget))
    assert (found.about, found.complete) == (OTHERS, True)
    for place, row in enumerate(members):
        others = [i for i in members if GROUPS[i] != GROUPS[row]]
        expected = np.linalg.svd(apart(stack, row, others), compute_uv=False)
        np.testing.assert_allclose(found.singular[place], expected, rtol=1e-5, atol=1e-4)
        assert found.norm2[place] == pytest.approx(np.sum(expected**2), rel=1e-6)


def test_the_own_svd_of_no_direction_is_the_reference_itself(tmp_path: Path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    own = per_model_svds(collection, LAYER, groups=GROUPS)
    found = held_out(gram(collection, LAYER), groups=GROUPS, kept=[0, 2], own=own)
    np.testing.assert_allclose([one.own_svd[0] for one in found], 1, atol=1e-6)


def test_a_model_with_nan_is_in_no_mean(tmp_path: Path):
    stack = stack_of()
    stack[4, 3, 3] = np.nan
    found = per_model_svds(written(tmp_path, list(stack), torch.float32), LAYER, groups=GROUPS)
    assert list(np.flatnonzero(~found.usable)) == [4]
    expected = np.linalg.svd(apart(stack, 2, [0, 1, 6, 7, 8]), compute_uv=False)
    np.testing.assert_allclose(found.singular[2], expected, rtol=1e-5, atol=1e-4)


def test_a_long_side_keeps_the_leading_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "EXACT_SIDE", 8)
    monkeypatch.setattr(room, "KEPT", 3)
    stack = stack_of()
    found = per_model_svds(written(tmp_path, list(stack), torch.float32), LAYER, groups=range(9))
    assert not found.complete
    expected = np.linalg.svd(apart(stack, 0, list(range(1, 9))), compute_uv=False)
    np.testing.assert_allclose(found.singular[0], expected[:3], rtol=1e-4)


def test_they_are_stored_without_directions(tmp_path: Path):
    found = per_model_svds(written(tmp_path, list(stack_of()), torch.float32), LAYER, groups=range(9))
    again = from_bytes(Factors, to_bytes(found))
    np.testing.assert_array_equal(again.singular, found.singular)
    assert (again.kept, again.about) == (0, OTHERS)


@pytest.mark.parametrize("reference", ["mean", "zero", "base"])
def test_a_newcomer_is_decomposed_alone(tmp_path: Path, reference: str):
    stack, new, base = stack_of(), stack_of(seed=8)[0], weights(5, n=1)[0]
    collection = written(tmp_path, list(stack), torch.float32, base)
    options = {"label": "new", "members": [0, 2, 3], "reference": reference}
    found = unseen_model_svd(collection, LAYER, outside(tmp_path, new), **options)
    center = {"mean": stack[[0, 2, 3]].mean(axis=0), "zero": 0 * base, "base": base}[reference]
    np.testing.assert_allclose(found.singular[0], np.linalg.svd(new - center, compute_uv=False), rtol=1e-4, atol=1e-4)
    assert found.labels == ("new",)
    with pytest.raises(LayerError, match="NaN or infinite"):
        unseen_model_svd(collection, LAYER, outside(tmp_path, new * np.nan), **options)


def test_what_cannot_be_held_out_says_why(tmp_path: Path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    with pytest.raises(NotEnoughModels, match="each of 9 models was expected, 4 were given"):
        per_model_svds(collection, LAYER, groups=range(4))
    with pytest.raises(NotEnoughModels, match="At least two groups"):
        per_model_svds(collection, LAYER, groups=["all"] * 9)
