"""The core of the HOSVD: every truncation's exact error, against tensorly and plain projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensorly.decomposition import tucker

from tests.test_gram import LAYER, written
from tests.test_hosvd import hosvd_error, spectra_of
from tests.test_projection import stack_of
from uws_core.analysis.hosvd import tucker_bounds
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.models import Collection
from uws_core.nouns.spectrum import Core, Kept
from uws_core.passes.gram import gram
from uws_core.passes.hosvd_core import ModeGrams, hosvd_core, hosvd_core_errors
from uws_core.passes.options import ComputeOptions
from uws_core.passes.side import side_gram


def core_of(collection: Collection, kept: Kept, members: list[int] | None = None) -> Core:
    sides = {side: side_gram(collection, LAYER, axis=side, members=members) for side in ("out", "in")}
    models = gram(collection, LAYER)
    return hosvd_core(collection, LAYER, kept=kept, grams=ModeGrams(models, sides["out"], sides["in"]), members=members)


def test_every_corner_is_the_error_of_that_truncation(tmp_path):
    stack = stack_of()
    found = core_of(written(tmp_path, list(stack), torch.float32), Kept(8, 24, 40))
    for kept in (Kept(3, 3, 3), Kept(8, 24, 2), Kept(1, 10, 40), Kept(8, 24, 40)):
        expected = hosvd_error(stack.astype(np.float64), kept)
        assert found.error(kept) == pytest.approx(expected, abs=2e-6)
        bounds = tucker_bounds(spectra_of(stack.astype(np.float64)), kept)
        assert bounds.low - 2e-6 <= found.error(kept) <= bounds.high + 2e-6


def test_the_core_is_the_one_tensorly_starts_from(tmp_path):
    stack = stack_of(seed=3)
    away = stack.astype(np.float64) - stack.mean(axis=0, dtype=np.float64)
    expected, _ = tucker(away, rank=[3, 4, 5], n_iter_max=0, init="svd")
    found = core_of(written(tmp_path, list(stack), torch.float32), Kept(3, 4, 5))
    np.testing.assert_allclose(found.squares, expected**2, atol=1e-4 * float((expected**2).max()))
    assert found.total2 == pytest.approx(np.sum(away**2))


def test_a_subset_has_a_core_of_its_own(tmp_path):
    stack, members = stack_of(), [0, 2, 3, 7]
    found = core_of(written(tmp_path, list(stack), torch.float32), Kept(2, 3, 4), members)
    assert found.error(Kept(2, 3, 4)) == pytest.approx(hosvd_error(np.float64(stack[members]), Kept(2, 3, 4)), abs=2e-6)


@pytest.mark.parametrize("budget", [24_000, 2**28])
def test_one_pass_answers_every_truncation_whatever_is_held_of_it(tmp_path, budget: int):
    stack, corners = stack_of(), [Kept(3, 3, 3), Kept(8, 24, 2), Kept(1, 10, 40), Kept(0, 5, 5), Kept(8, 24, 40)]
    collection = written(tmp_path, list(stack), torch.float32)
    sides = {side: side_gram(collection, LAYER, axis=side) for side in ("out", "in")}
    grams = ModeGrams(gram(collection, LAYER), sides["out"], sides["in"])
    found = hosvd_core_errors(collection, LAYER, corners=corners, grams=grams, options=ComputeOptions(budget=budget))
    for error, kept in zip(found, corners, strict=True):
        assert error == pytest.approx(hosvd_error(stack.astype(np.float64), kept), abs=2e-6)


def test_grams_of_something_else_are_refused(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    models, out = gram(collection, LAYER), side_gram(collection, LAYER, axis="out")
    into = side_gram(collection, LAYER, axis="in", members=[0, 1, 2])
    with pytest.raises(LayerError, match="is of 3 models, not of the 9 chosen"):
        hosvd_core(collection, LAYER, kept=Kept(1, 1, 1), grams=ModeGrams(models, out, into))
    with pytest.raises(LayerError, match="on in was expected"):
        hosvd_core(collection, LAYER, kept=Kept(1, 1, 1), grams=ModeGrams(models, out, out))
    with pytest.raises(NotEnoughModels, match="at least 2 usable models, 1 are chosen"):
        hosvd_core(collection, LAYER, kept=Kept(1, 1, 1), grams=ModeGrams(models, out, into), members=[3])
