"""Newcomers and held-out groups on every axis agree with a direct computation on the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.test_gram import LAYER, weights, written
from uws_core.analysis.heldout import held_out, project
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.factors import factors
from uws_core.passes.gram import gram
from uws_core.passes.options import ComputeOptions
from uws_core.passes.per_model_svd import per_model_svds
from uws_core.passes.projection import comparable, unseen_model_row
from uws_core.passes.side import side_gram
from uws_core.passes.side_heldout import SideQuestion, side_held_out, side_project
from uws_core.sources.opening import resolved

KEPT = (0, 1, 5, 20)
CURVES = ("subspace2", "in_sample2", "random2")


def stack_of(*, n: int = 9, seed: int = 0) -> Floats:
    """Models around a common one, with a shared low-dimensional part on every axis."""
    rng = np.random.default_rng(seed)
    shared = np.einsum("nk,mk,pk->nmp", *(rng.standard_normal((size, 3)) for size in (n, 24, 40)))
    return (np.array(weights(seed, n=n)) + shared).astype(np.float32)


def outside(folder: Path, array: Floats, *, name: str = LAYER) -> ModelRef:
    path = folder / "outside" / "new.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({name: torch.from_numpy(array.astype(np.float32))}, path)
    return resolved(ModelRef(str(path), ""))[0]


def plain(stack: Floats, target: Floats, axis: str, *, reference: Floats | None = None) -> dict[str, Floats | float]:
    """The error of `target` from the rows (or columns) of `stack`, through numpy's SVD of them all stacked."""
    wide = np.asarray(stack, dtype=np.float64)
    mean = wide.mean(axis=0)
    away, own = wide - mean, target.astype(np.float64) - mean
    if axis == "out":
        away, own = away.swapaxes(1, 2), own.T
    directions = np.linalg.svd(away.reshape(-1, away.shape[-1]), full_matrices=False)[2]
    left = [np.sum(own**2) - np.sum((own @ directions[:k].T) ** 2) for k in KEPT]
    return {"subspace2": np.array(left), "mean2": float(np.sum(own**2)), "width": own.shape[1]}


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("reference", ["mean", "zero", "base"])
def test_held_out_groups_on_a_side_axis(tmp_path, axis: str, reference: str):
    stack, base = stack_of(), weights(5, n=1)[0]
    collection = written(tmp_path, list(stack), torch.float32, base)
    groups, members = list("aabbbcccc"), [0, 1, 2, 3, 5, 6, 8]
    question = SideQuestion(Axis(axis), KEPT, reference=reference)
    found = side_held_out(collection, LAYER, question, groups=groups, members=members)
    assert [one.model for one in found] == [f"m{i}" for i in members]
    for h, one in zip(members, found, strict=True):
        others = [i for i in members if groups[i] != groups[h]]
        expected = plain(stack[others], stack[h], axis)
        np.testing.assert_allclose(one.subspace2, expected["subspace2"], rtol=1e-4)
        assert one.mean2 == pytest.approx(expected["mean2"], rel=1e-5)
        center = {"mean": stack[others].mean(axis=0), "zero": 0 * base, "base": base}[reference]
        assert one.reference2 == pytest.approx(np.sum((stack[h] - center) ** 2), rel=1e-5)
        np.testing.assert_allclose(one.random2, one.mean2 * (1 - np.array(KEPT) / expected["width"]), rtol=1e-6)
        seen = plain(stack[members], stack[h], axis)
        np.testing.assert_allclose(one.in_sample2, seen["subspace2"], rtol=1e-4, atol=1e-3)
        assert (one.group, one.trained_on) == (groups[h], len(others))


def test_held_out_groups_use_the_side_gram_that_is_known(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    total = side_gram(collection, LAYER, axis="in")
    question = SideQuestion(Axis.IN, KEPT)
    again = side_held_out(collection, LAYER, replace(question, total=total), groups=range(9))
    for one, other in zip(side_held_out(collection, LAYER, question, groups=range(9)), again, strict=True):
        np.testing.assert_array_equal(one.subspace2, other.subspace2)
    with pytest.raises(LayerError, match="on out was expected, it is of"):
        side_held_out(collection, LAYER, SideQuestion(Axis.OUT, KEPT, total=total), groups=range(9))


def test_the_own_svd_stands_beside_a_side_axis_at_the_same_numbers(tmp_path):
    stack = stack_of()
    collection = written(tmp_path, list(stack), torch.float32)
    own = per_model_svds(collection, LAYER, groups=range(9))
    found = side_held_out(collection, LAYER, SideQuestion(Axis.IN, (0, 4), own=own), groups=range(9))[0]
    # 4 directions take 4 x 40 / 9 + 4 x 24 = 113.8 numbers, a rank takes 64.
    singular = np.linalg.svd(np.float64(stack[0]) - stack[1:].mean(axis=0, dtype=np.float64), compute_uv=False)
    assert found.own_svd2[1] == pytest.approx(np.sum(singular[1:] ** 2), rel=1e-5)
    assert found.own_svd[0] == pytest.approx(1, abs=1e-6)


def test_factors_about_the_mean_of_all_are_refused_beside_errors_relative_to_that_of_the_others(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    biased = factors(collection, LAYER, kept=2)
    with pytest.raises(LayerError, match="factors about the others' mean, these are about mean"):
        side_held_out(collection, LAYER, SideQuestion(Axis.IN, (4,), own=biased), groups=range(9))
    with pytest.raises(LayerError, match="factors about the others' mean, these are about mean"):
        held_out(gram(collection, LAYER), groups=range(9), kept=4, own=biased)


def test_a_model_with_nan_is_neither_held_out_nor_learned_from(tmp_path):
    stack = stack_of()
    stack[4, 3, 3] = np.nan
    collection = written(tmp_path, list(stack), torch.float32)
    found = side_held_out(collection, LAYER, SideQuestion(Axis.IN, KEPT), groups=range(9))
    assert [one.model for one in found] == [f"m{i}" for i in range(9) if i != 4]
    expected = plain(np.delete(stack, [0, 4], axis=0), stack[0], "in")
    np.testing.assert_allclose(found[0].subspace2, expected["subspace2"], rtol=1e-4)


def test_what_cannot_be_asked_of_a_side_axis_says_why(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    ask = SideQuestion(Axis.IN, KEPT)
    with pytest.raises(NotEnoughModels, match="each of 9 models was expected, 4 were given"):
        side_held_out(collection, LAYER, ask, groups=range(4))
    with pytest.raises(NotEnoughModels, match="At least two groups"):
        side_held_out(collection, LAYER, ask, groups=["all"] * 9)
    with pytest.raises(LayerError, match="follow from the Gram"):
        side_held_out(collection, LAYER, replace(ask, axis=Axis.MODELS), groups=range(9))
    with pytest.raises(LayerError, match="no base model is known"):
        side_held_out(collection, LAYER, replace(ask, reference="base"), groups=range(9))
    with pytest.raises(LayerError, match="relative to mean, zero or base"):
        side_held_out(collection, LAYER, replace(ask, reference="nothing"), groups=range(9))


@pytest.mark.parametrize("axis", ["in", "out"])
def test_a_newcomer_on_a_side_axis(tmp_path, axis: str):
    stack, new = stack_of(), stack_of(seed=8)[0]
    collection = written(tmp_path, list(stack), torch.float32)
    question = SideQuestion(Axis(axis), KEPT)
    found = side_project(collection, LAYER, question, outside(tmp_path, new), label="new", members=[0, 2, 3, 6, 7])
    expected = plain(stack[[0, 2, 3, 6, 7]], new, axis)
    np.testing.assert_allclose(found.subspace2, expected["subspace2"], rtol=1e-4)
    together = plain(np.concatenate([stack[[0, 2, 3, 6, 7]], new[None]]), new, axis)
    np.testing.assert_allclose(found.in_sample2, together["subspace2"], rtol=1e-4)
    assert (found.model, found.trained_on) == ("new", 5)


@pytest.mark.parametrize("differ", [1.0, 1e-3])
@pytest.mark.parametrize("budget", [2 * 10 * 40 * 4, 2**28])
def test_a_newcomer_on_the_models_axis_is_seen_as_a_member_would_be(tmp_path, differ: float, budget: int):
    arrays, base = weights(2, n=9, differ=differ), weights(2, n=10, differ=differ)[9]
    everyone = written(tmp_path, arrays, torch.float32, base)
    few = _without_last(everyone)
    known = gram(few, LAYER)
    row = unseen_model_row(few, LAYER, everyone.refs[8], gram=known, label="m8", options=ComputeOptions(budget=budget))
    for reference in ("mean", "zero", "base"):
        found = project(known, row, kept=KEPT, reference=reference)
        inside = held_out(gram(everyone, LAYER), groups=range(9), kept=KEPT, reference=reference)[8]
        _assert_alike(found, inside)


def _without_last(collection: Collection) -> Collection:
    return replace(collection, refs=collection.refs[:-1], labels=collection.labels[:-1])


def _assert_alike(found: HeldOut, inside: HeldOut) -> None:
    # Float32 rounds the slabs' means: at differences of 1e-3 that is up to 6e-5 of a difference.
    for name in CURVES:
        expected = getattr(inside, name)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=2e-4, atol=2e-6 * inside.mean2, err_msg=name)
    assert found.reference2 == pytest.approx(inside.reference2, rel=2e-5)
    assert found.mean2 == pytest.approx(inside.mean2, rel=2e-5)


def test_a_member_brought_in_from_outside_is_found_in_the_span(tmp_path):
    stack = stack_of()
    collection = written(tmp_path, list(stack), torch.float32)
    twin = unseen_model_row(collection, LAYER, outside(tmp_path, stack[3]), gram=gram(collection, LAYER))
    assert project(gram(collection, LAYER), twin, kept=8).subspace[0] < 1e-5


def test_layers_that_do_not_fit_are_listed_and_refused(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    shared, left_out = comparable(collection, outside(tmp_path, np.ones((24, 41))))
    assert shared == ()
    assert left_out[0].reason == "24 x 40 was expected, the model has 24 x 41"
    with pytest.raises(LayerError, match="the model has 24 x 41"):
        unseen_model_row(collection, LAYER, outside(tmp_path, np.ones((24, 41))), gram=gram(collection, LAYER))
    with pytest.raises(LayerError, match="the model has 24 x 41"):
        side_project(collection, LAYER, SideQuestion(Axis.IN, KEPT), outside(tmp_path, np.ones((24, 41))))
    shared, left_out = comparable(collection, outside(tmp_path, np.ones((24, 40)), name="other.weight"))
    assert [(one.what, one.reason) for one in left_out] == [
        (LAYER, "the model does not have it"),
        ("other.weight", "hand made has no such layer"),
    ]
    assert comparable(collection, collection.refs[0]) == ((LayerKey(LAYER, (24, 40)),), ())


def test_a_newcomer_with_nan_is_refused(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    broken = outside(tmp_path, np.full((24, 40), np.nan))
    with pytest.raises(LayerError, match="NaN or infinite"):
        unseen_model_row(collection, LAYER, broken, gram=gram(collection, LAYER))
    with pytest.raises(LayerError, match="NaN or infinite"):
        side_project(collection, LAYER, SideQuestion(Axis.IN, KEPT), broken)
