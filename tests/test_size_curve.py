"""Error and score against bytes: each point is a compression that can be made, and held-out groups stay out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core.answers import compress as answers
from uws_core.errors import NotEnoughModels
from uws_core.nouns.storage import SizePoint
from uws_core.use.scores import relative_scores, scores
from uws_core.zoo.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("results_folder")
LAYERS = ["blocks.0.attn.q.weight", "blocks.0.mlp.up.weight"]


@pytest.mark.parametrize(("name", "method"), [("demo:lora", "two-sided"), ("demo:finetuned", "two-sided")])
def test_every_point_of_the_curve_is_a_compression_of_that_size(name, method):
    models = uws.collect(name)
    members = range(0, 40, 4)
    draft = uws.compress(models, kept=4, method=method, layers=LAYERS, members=members)
    curve = draft.curve()
    for k in (2, 8):
        other = uws.compress(models, kept=k, method=method, layers=LAYERS, members=members)
        for way, errors in (("shared basis", other.errors), ("own SVD", other.rival("own SVD").errors)):
            (point,) = [point for point in curve if point.way == way and point.bytes == other.bytes]
            assert point.worst == pytest.approx(errors.max(), rel=1e-4)
            assert point.median == pytest.approx(np.median(errors), rel=1e-4)


def planted(tmp_path, groups: int = 3, each: int = 3) -> uws.Collection:
    """Whole weights whose groups have inputs of their own."""
    generator = torch.Generator().manual_seed(0)
    for group in range(groups):
        inputs = torch.linalg.qr(torch.randn(20, 2, generator=generator))[0]
        for number in range(each):
            weights = torch.randn(16, 2, generator=generator) @ inputs.T
            save_file({"a.weight": weights}, tmp_path / f"g{group}-{number}.safetensors")
    return uws.collect(tmp_path)


def test_a_group_that_is_held_out_is_not_in_its_basis(tmp_path):
    draft = uws.compress(planted(tmp_path), kept=8, method="in")
    alone, groups = draft.held_out(range(9)), draft.held_out([row // 3 for row in range(9)])
    # Six inputs of all groups and the mean are held by eight directions, those of a group left out are not.
    assert draft.errors.max() < 1e-3
    assert alone.max() < 1e-3
    assert groups.min() > 0.5


def test_held_out_adapters_in_the_basis_of_the_others_are_numpys():
    models = uws.collect("demo:lora")
    draft = uws.compress(models, kept=6, layers=LAYERS[:1], members=range(8))
    groups = [row // 4 for row in range(8)]
    held = draft.held_out(groups)
    rest = uws.compress(models, kept=6, layers=LAYERS[:1], members=range(4, 8))
    assert held[:4].max() > draft.errors[:4].max()
    assert rest.errors.max() < held[4:].min()
    with pytest.raises(NotEnoughModels, match="each group must leave two models"):
        draft.held_out([0] * 8)


def test_scores_fall_with_the_bytes_and_the_original_scores_as_before():
    models = uws.collect("demo:lora")
    rows = [row for row, task in enumerate(models.table["task"]) if task in ("rotated", "shuffled")][:4]
    draft = uws.compress(models, kept=16, members=rows)
    found = scores(draft, evaluate, factors=(0.0625, 1.0))
    originals = [one.score for one in found if one.way == "original"]
    np.testing.assert_allclose(originals, [models.table["test_score"][row] for row in rows], atol=0.005)
    points = relative_scores(found)
    shared = [point.score for point in points if point.way == "shared basis"]
    # Four adapters of rank 4 fit in sixteen directions whole; one direction loses most.
    assert shared[1] == pytest.approx(1, abs=0.01)
    assert shared[0] < 0.9
    assert not any(one.problem for one in found)


def test_an_evaluator_that_fails_names_its_model():
    models = uws.collect("demo:lora")
    draft = uws.compress(models, kept=2, layers=LAYERS[:1], members=[0, 1])

    def broken(state, row):
        raise RuntimeError("no pictures")

    found = scores(draft, broken, factors=(1.0,))
    assert {one.problem for one in found} == {"RuntimeError: no pictures"}


def test_the_verdict_names_the_sizes_at_which_sharing_wins():
    points = [
        SizePoint(way, size, error, error)
        for way, errors in (("shared basis", (0.5, 0.4, 0.1)), ("own SVD", (0.9, 0.3, 0.2)))
        for size, error in zip((1_000, 2_000, 9_000), errors, strict=True)
    ]
    # The third size saves nothing, so it does not count.
    assert answers.sizes(points, 5_000).startswith("Sharing beats each model's own SVD at 0.977 KiB, and not")
    assert "none of 1 size tried" in answers.sizes(points[1:3] + points[4:], 5_000)
    assert "nothing is saved" in answers.sizes(points, 500)
