"""Scores of merges at every scale: against networks put together by hand, and the preview against the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import uws_core as uws
from uws_core.analysis.merge_methods import combine
from uws_core.analysis.merge_preview import merge_grams, of_entries, standing
from uws_core.analysis.merge_scores import best_scales
from uws_core.errors import LayerError
from uws_core.nouns.merge_preview import MergeScore
from uws_core.nouns.merging import Convention, MergeMethod, MergeRecipe
from uws_core.use.merge_scores import ScoreQuestion, merge_scores
from uws_core.zoo import lora
from uws_core.zoo.evaluate import evaluate
from uws_core.zoo.halves import halves

LABELS = ("prime-0", "rotated-0", "shuffled-0")


def tried(name: str, *methods: MergeMethod, scales: tuple[float, ...] = (0.5, 1.0)) -> list[MergeScore]:
    """Scores of three built-in models under these methods."""
    models = uws.collect(f"demo:{name}")
    question = ScoreQuestion(
        recipes=[MergeRecipe(method=method) for method in methods],
        scales=scales,
        evaluate=halves,
        members=[models.labels.index(label) for label in LABELS],
        layers=[layer.name for layer in models.layers if not layer.factor],
    )
    return list(merge_scores(models, question))


def test_halves_of_the_pictures_make_the_whole_score() -> None:
    state = load_file(uws.collect("demo:finetuned").refs[0].repo)
    row = {"model": "at-least-five-0", "task": "at-least-five"}
    choose, judge = halves(state, row)
    assert (choose + judge) / 2 == pytest.approx(evaluate(state, row), abs=1e-6)
    assert choose != judge


def test_the_mean_of_whole_networks_scores_as_the_one_made_by_hand() -> None:
    models = uws.collect("demo:finetuned")
    states = [load_file(models.refs[models.labels.index(label)].repo) for label in LABELS]
    base = load_file(models.base.repo)
    found = {(one.method, one.scale, one.model): one for one in tried("finetuned", MergeMethod.MEAN)}
    for label, own in zip(LABELS, states, strict=True):
        row = {"model": label, "task": label.split("-")[0]}
        assert found["own", 1.0, label].judge == halves(own, row)[1]
        heads = {name: tensor for name, tensor in own.items() if name.startswith("head.")}
        assert found["base", 0.0, label].judge == halves(base | heads, row)[1]
        body = {name: sum(state[name] for state in states) / 3 for name in base if not name.startswith("head.")}
        half = {name: (tensor + base[name]) / 2 for name, tensor in body.items()}
        # A picture on the border of two classes may fall to either side of rounding.
        assert found["mean", 1.0, label].judge == pytest.approx(halves(body | heads, row)[1], abs=0.005)
        assert found["mean", 0.5, label].judge == pytest.approx(halves(half | heads, row)[1], abs=0.005)


def test_the_sum_of_adapters_scores_as_the_one_made_by_hand() -> None:
    models = uws.collect("demo:lora")
    base = load_file(models.base.repo)
    adapters = [lora.load(Path(models.refs[models.labels.index(label)].repo)) for label in LABELS]
    whole = [lora.merge(base, adapter) for adapter in adapters]
    found = {(one.method, one.scale, one.model): one for one in tried("lora", MergeMethod.TASK_ARITHMETIC)}
    for label, own in zip(LABELS, whole, strict=True):
        row = {"model": label, "task": label.split("-")[0]}
        assert found["own", 1.0, label].choose == halves(own, row)[0]
        body = {
            name: base[name] + 0.5 * sum(state[name] - base[name] for state in whole)
            for name in base
            if not name.startswith("head.")
        }
        heads = {name: own[name] for name in ("head.weight", "head.bias")}
        reached = found["task-arithmetic", 0.5, label].choose
        assert reached == pytest.approx(halves(body | heads, row)[0], abs=0.005)


def test_a_method_that_cannot_merge_these_has_no_points_and_the_base_is_needed() -> None:
    methods = {one.method for one in tried("finetuned", MergeMethod.SLERP, MergeMethod.MEAN, scales=(1.0,))}
    assert methods == {"own", "base", "mean"}
    assert {one.method for one in best_scales(tried("finetuned", MergeMethod.MEAN))} == {"base", "mean"}
    with pytest.raises(LayerError, match="start from the base"):
        tried("scratch", MergeMethod.MEAN)


@pytest.mark.parametrize("name", ["finetuned", "lora"])
@pytest.mark.parametrize("convention", [Convention.PAPER, Convention.MERGEKIT])
@pytest.mark.parametrize(
    "method",
    [
        MergeMethod.MEAN,
        MergeMethod.TASK_ARITHMETIC,
        MergeMethod.MULTI_SLERP,
        MergeMethod.KARCHER,
        MergeMethod.MODEL_STOCK,
    ],
)
def test_the_preview_says_what_the_merge_is(name: str, convention: Convention, method: MergeMethod) -> None:
    models = uws.collect(f"demo:{name}")
    layers = [layer.name for layer in models.layers if not layer.factor][:2]
    members = [models.labels.index(label) for label in LABELS]
    recipe = MergeRecipe(method=method, scale=0.7, convention=convention, weights=(1.0, 2.0, 0.5))
    made = uws.merge(models, recipe=recipe, members=members, layers=layers)
    grams = merge_grams([uws.gram(models, layer) for layer in layers], members=members)
    one = standing(grams, combine(grams, recipe), (recipe.scale,))
    for place, layer in enumerate((made.whole, *made.layers)):
        assert one.distance_to_mean[0, place] == pytest.approx(layer.off_mean, rel=1e-3, abs=1e-5)
        assert one.norm_to_mean[0, place] == pytest.approx(layer.norm / layer.mean_norm, rel=1e-4)
        np.testing.assert_allclose(one.kept[0, place], layer.survives, rtol=1e-3, atol=1e-5)


def test_ties_measured_at_scale_one_stands_right_at_every_scale() -> None:
    models = uws.collect("demo:finetuned")
    layers, members = [models.layers[0].name], [models.labels.index(label) for label in LABELS]
    grams = merge_grams([uws.gram(models, layers[0])], members=members)
    made = uws.merge(models, method="ties", members=members, layers=layers)
    lines = made.layers
    inner = np.array([(one.norm2 + one.member_norms2 - one.to_members2) / 2 for one in lines])
    merged = of_entries(grams, "ties", inner, np.array([one.norm2 for one in lines]))
    found = standing(grams, merged, (0.4,))
    again = uws.merge(models, method="ties", scale=0.4, members=members, layers=layers).whole
    assert found.distance_to_mean[0, 0] == pytest.approx(again.off_mean, rel=1e-4)
    np.testing.assert_allclose(found.kept[0, 0], again.survives, rtol=1e-4)


@pytest.fixture(autouse=True)
def one_thread() -> object:
    """Small networks are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
