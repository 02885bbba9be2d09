"""Rebuilt networks: the weights a direct computation gives, and scores that follow them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import uws_core as uws
from tests.test_gram import LAYER, weights, written
from tests.test_projection import stack_of
from uws_core.analysis.heldout import held_out
from uws_core.errors import Cancelled, LayerError, NotEnoughModels
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import FunctionPoint, Way
from uws_core.passes.function import Evaluate, FunctionQuestion, function_errors
from uws_core.passes.gram import gram
from uws_core.passes.rebuild import Basis, other_numbers, rebuild, whole
from uws_core.zoo import evaluate as zoo
from uws_core.zoo.evaluate import evaluate

OTHERS = [0, 2, 4, 5, 6, 8]


def expected(stack: np.ndarray, axis: str, center: np.ndarray, k: int) -> np.ndarray:
    """Model 3 seen through the others' leading directions, the plain way."""
    away, own = stack[OTHERS].astype(np.float64) - center, stack[3].astype(np.float64) - center
    if axis == "models":
        basis = np.linalg.svd(away.reshape(len(OTHERS), -1), full_matrices=False)[2][:k]
        return center + (basis.T @ (basis @ own.ravel())).reshape(own.shape)
    if axis == "in":
        basis = np.linalg.svd(away.reshape(-1, own.shape[1]), full_matrices=False)[2][:k]
        return center + own @ basis.T @ basis
    basis = np.linalg.svd(away.swapaxes(1, 2).reshape(-1, own.shape[0]), full_matrices=False)[2][:k]
    return center + basis.T @ basis @ own


@pytest.mark.parametrize("axis", ["models", "in", "out"])
@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_layer_is_rebuilt_about_the_mean_of_the_others(tmp_path, axis: str, k: int):
    stack = stack_of()
    collection = written(tmp_path, list(stack), torch.float32)
    found = rebuild(collection, 3, kept=k, basis=Basis(OTHERS, Axis(axis)))[LAYER]
    truth = expected(stack, axis, stack[OTHERS].mean(axis=0, dtype=np.float64), k)
    np.testing.assert_allclose(found, truth, atol=2e-4 * np.abs(truth).max())


@pytest.mark.parametrize("about", ["zero", "base"])
@pytest.mark.parametrize("k", [0, 3])
def test_a_layer_is_rebuilt_about_a_fixed_centre(tmp_path, about: str, k: int):
    stack, base = stack_of(), weights(9, n=1)[0]
    collection = written(tmp_path, list(stack), torch.float32, base)
    found = rebuild(collection, 3, kept=k, basis=Basis(OTHERS, about=about))[LAYER]
    truth = expected(stack, "models", base.astype(np.float64) * (about == "base"), k)
    np.testing.assert_allclose(found, truth, atol=2e-4 * np.abs(stack).max())


def test_all_directions_of_everybody_give_the_model_back(tmp_path):
    stack = stack_of()
    found = rebuild(written(tmp_path, list(stack), torch.float32), 3, kept=8)[LAYER]
    np.testing.assert_allclose(found, stack[3], atol=1e-4 * np.abs(stack).max())


@pytest.mark.parametrize("axis", ["models", "in"])
def test_a_model_with_nan_does_not_spoil_the_others(tmp_path, axis: str):
    stack = stack_of()
    broken = stack.copy()
    broken[7] = np.nan
    collection = written(tmp_path, list(broken), torch.float32)
    found = rebuild(collection, 3, kept=2, basis=Basis([*OTHERS, 7], Axis(axis)))[LAYER]
    truth = expected(stack, axis, stack[OTHERS].mean(axis=0, dtype=np.float64), 2)
    np.testing.assert_allclose(found, truth, atol=2e-4 * np.abs(truth).max())


def test_a_rebuilt_network_keeps_every_other_tensor_in_shape_and_type():
    collection = uws.collect("demo:finetuned")
    own = load_file(collection.refs[5].repo)
    found = rebuild(collection, 5, kept=2, basis=Basis(list(range(8, 40))), layers=["patch_embed.proj.weight"])
    assert set(found) == set(own)
    for name, tensor in own.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype)
        assert torch.equal(found[name], tensor) == (name != "patch_embed.proj.weight")


def test_numbers_outside_the_layers_are_counted_from_the_headers():
    collection = uws.collect("demo:finetuned")
    layers = sum(layer.entries for layer in collection.layers)
    stored = [sum(tensor.numel() for tensor in load_file(collection.refs[row].repo).values()) for row in (0, 7)]
    assert other_numbers(collection, [0, 7]) == sum(stored) - 2 * layers
    # Heads of 10 and of 2 outputs: what is not shared need not be alike.
    assert stored[0] != stored[1]


def test_what_cannot_be_rebuilt_says_why(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    for axis in Axis:
        with pytest.raises(NotEnoughModels, match="nothing to rebuild from"):
            rebuild(collection, 3, kept=1, basis=Basis([], Axis(axis)))
    with pytest.raises(LayerError, match="no layer 'nonsense'"):
        rebuild(collection, 3, kept=1, layers=["nonsense"])


def scored(
    axis: Axis = Axis.MODELS, score: Evaluate = evaluate, *, kept: tuple[int, ...] = (0, 2, 7), reference: str = "mean"
) -> list[FunctionPoint]:
    """Three tasks of the fine-tuned networks, a group each, in three layers."""
    collection = uws.collect("demo:finetuned")
    layers = tuple(collection.by_name[f"blocks.{depth}.mlp.up.weight"] for depth in range(3))
    task = collection.table["task"]
    members = [row for row in range(40) if task[row] in ("ten-way", "inverted", "parity")]
    question = FunctionQuestion(layers, kept, tuple(task), members=members, axis=axis, reference=reference)
    grams = {key.name: gram(collection, key) for key in layers}
    return list(function_errors(collection, score, question, grams=grams))


def test_there_is_one_shape_of_evaluator_and_any_collection_can_be_scored_with_it(tmp_path):
    collection = written(tmp_path, list(stack_of()), torch.float32)
    key = collection.layers[0]
    original = {label: float(np.abs(array).sum()) for label, array in zip(collection.labels, stack_of(), strict=True)}

    def score(state_dict, model):
        return state_dict[key.name].abs().sum().item() / original[model["model"]]

    question = FunctionQuestion((key,), (0, 3), groups=tuple(range(9)))
    points = list(function_errors(collection, score, question, grams={key.name: gram(collection, key)}))
    assert len(points) == 9 * (1 + 2 * 2)
    assert [point.score for point in points if point.way is Way.ORIGINAL] == pytest.approx([1] * 9, rel=1e-5)
    assert not [point.problem for point in points if point.problem]
    assert zoo.Evaluate is Evaluate


@pytest.mark.parametrize("axis", [Axis.MODELS, Axis.IN])
def test_scores_stand_beside_the_errors_of_the_same_weights(axis: Axis):
    collection = uws.collect("demo:finetuned")
    points = scored(axis)
    assert len(points) == 12 * (1 + 2 * 3)
    table = dict(zip(collection.labels, collection.table["test_score"], strict=True))
    for point in points:
        assert not point.problem
        if point.way is Way.ORIGINAL:
            assert point.score == pytest.approx(table[point.model], abs=1e-3)
    if axis is Axis.IN:
        return
    column = list(collection.table["task"])
    members = [row for row in range(40) if column[row] in ("ten-way", "inverted", "parity")]
    layers = [gram(collection, f"blocks.{depth}.mlp.up.weight") for depth in range(3)]
    errors = [held_out(one, groups=column, kept=(0, 2, 7), members=members)[0] for one in layers]
    expected_errors = sum(one.subspace2 for one in errors) / sum(one.reference2 for one in errors)
    first = [p.weight_error for p in points if p.model == errors[0].model and p.way is Way.HELD_OUT]
    np.testing.assert_allclose(first, expected_errors)


def test_a_network_rebuilt_from_everything_scores_as_the_original():
    collection = uws.collect("demo:finetuned")
    state = rebuild(collection, 0, kept=39)
    card = {name: column[0] for name, column in collection.table.items()}
    with whole(collection, 0) as source:
        assert evaluate(state, card) == pytest.approx(evaluate(source.state(), card), abs=5e-3)


@pytest.mark.parametrize("reference", ["zero", "base"])
def test_the_reference_itself_is_scored_too(reference: str):
    points = scored(reference=reference, kept=(0,))
    at_reference = [point for point in points if point.way is Way.REFERENCE]
    assert len(at_reference) == 12
    assert {point.weight_error for point in at_reference} == {1.0}
    originals = [point.score for point in points if point.way is Way.ORIGINAL]
    assert np.mean([point.score for point in at_reference]) < np.mean(originals)


def test_an_evaluator_that_fails_spoils_only_its_own_points():
    def fragile(state: Mapping[str, Tensor], model: Mapping[str, object]) -> float:
        if model["task"] == "parity":
            raise RuntimeError("no such head")
        return float("nan") if model["task"] == "inverted" else 0.5

    points = scored(score=fragile)
    problems = {point.group: point.problem for point in points}
    assert problems == {
        "ten-way": "",
        "parity": "RuntimeError: no such head",
        "inverted": "the evaluator returned NaN",
    }
    assert all(np.isnan(point.score) == bool(point.problem) for point in points)


def test_scoring_can_be_cancelled_and_what_is_done_stays():
    collection = uws.collect("demo:finetuned")
    key = collection.by_name["blocks.0.attn.q.weight"]
    question = FunctionQuestion((key,), (0, 1), tuple(collection.table["task"]))

    def stop(fraction: float, message: str) -> None:
        raise Cancelled(message)

    stream = function_errors(collection, evaluate, question, grams={key.name: gram(collection, key)}, report=stop)
    done: list[FunctionPoint] = []
    with pytest.raises(Cancelled, match="1 of 40 models"):
        done.extend(stream)
    assert len({point.model for point in done}) == 1


def test_scores_need_the_grams_of_their_layers():
    collection = uws.collect("demo:finetuned")
    question = FunctionQuestion(collection.layers[:1], (1,), tuple(range(40)))
    with pytest.raises(LayerError, match=r"missing: blocks\.0\.attn\.k"):
        next(function_errors(collection, evaluate, question, grams={}))
    with pytest.raises(LayerError, match="missing: all"):
        next(function_errors(collection, evaluate, replace(question, layers=()), grams={}))
