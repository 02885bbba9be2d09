"""Held-out errors from Grams alone agree with fitting on weights and looking at the residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.planted import gram_of, noise, side_gram_of, spiked
from tests.test_angles import factors_of
from uws_core.analysis.heldout import combinations, held_out, pooled, project
from uws_core.analysis.residuals import svd_tail2
from uws_core.analysis.steps import reported
from uws_core.errors import Cancelled, LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import UnseenModel

KS = [0, 1, 3, 6]


def residual2(rows: Floats, target: int, others: list[int], k: int, *, center: Floats) -> float:
    """The squared residual of a model after the others' k leading directions about `center`, the plain way."""
    _, singular, directions = np.linalg.svd(rows[others] - center, full_matrices=False)
    basis = directions[: min(k, int((singular > 1e-9).sum()))]
    away = rows[target] - center
    return float(np.sum((away - basis.T @ (basis @ away)) ** 2))


def test_leave_one_model_out_agrees_with_pca_on_weights():
    rows = spiked(14, 90, strengths=(30, 20), seed=0)
    found = held_out(gram_of(rows), groups=range(14), kept=KS)
    assert [one.model for one in found] == [f"model-{i}" for i in range(14)]
    for h, one in enumerate(found):
        others = np.delete(rows, h, axis=0)
        center = others.mean(axis=0)
        expected = [np.sum((rows[h] - center) ** 2)]
        for k in KS[1:]:
            fit = PCA(k, svd_solver="full").fit(others)
            expected.append(np.sum((rows[h] - fit.inverse_transform(fit.transform(rows[h : h + 1]))) ** 2))
        np.testing.assert_allclose(one.subspace2, expected, rtol=1e-9)
        np.testing.assert_allclose(one.subspace, np.array(expected) / expected[0], rtol=1e-9)
        np.testing.assert_allclose([one.mean2, one.reference2], expected[0], rtol=1e-10)
        assert (one.trained_on, one.ceiling, one.mean_only, one.nothing) == (13, 12, 1.0, 1.0)


@pytest.mark.parametrize("about", ["mean", "zero", "base"])
@pytest.mark.parametrize("reference", ["mean", "zero", "base"])
def test_leave_one_group_out_agrees_with_a_direct_computation(about: str, reference: str):
    rows, base = 3 + spiked(12, 70, strengths=(20,), seed=1), 2.5 + noise(1, 70, seed=2)[0]
    groups = list("aaabbbbccccc")
    members = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]
    found = held_out(
        gram_of(rows, base=base), groups=groups, kept=KS, members=members, about=about, reference=reference
    )
    for h, one in zip(members, found, strict=True):
        others = [i for i in members if groups[i] != groups[h]]
        centers = {"mean": rows[others].mean(axis=0), "zero": np.zeros(70), "base": base}
        expected = [residual2(rows, h, others, k, center=centers[about]) for k in KS]
        np.testing.assert_allclose(one.subspace2, expected, rtol=1e-8, atol=1e-9)
        assert one.reference2 == pytest.approx(np.sum((rows[h] - centers[reference]) ** 2))
        assert one.mean2 == pytest.approx(np.sum((rows[h] - centers["mean"]) ** 2))
        assert one.random2[2] == pytest.approx(np.sum((rows[h] - centers[about]) ** 2) * (1 - 3 / 70))
        assert (one.group, one.trained_on) == (groups[h], len(others))


def test_in_sample_saw_the_model_and_ends_at_nothing_left():
    rows = noise(8, 60, seed=3)
    found = held_out(gram_of(rows), groups=range(8), kept=[0, 2, 7])
    everyone = list(range(8))
    for h, one in enumerate(found):
        center = rows.mean(axis=0)
        np.testing.assert_allclose(one.in_sample2[:2], [residual2(rows, h, everyone, k, center=center) for k in (0, 2)])
        assert one.in_sample[2] == pytest.approx(0, abs=1e-12)
        assert one.subspace[2] > 0.5


def test_own_svd_stores_as_many_numbers():
    stack = noise(4, 12 * 10, seed=4).reshape(4, 12, 10)
    factors = factors_of(stack, kept=3)
    found = held_out(gram_of(stack, shape=(12, 10)), groups=range(4), kept=[1, 2, 3], reference="zero", own=factors)
    # k directions take (k 120 + 4 k) / 4 = 31 k numbers a model, a rank takes 22.
    singular = np.linalg.svd(stack[2], compute_uv=False)
    expected = [np.sum(singular[rank:] ** 2) for rank in (1, 2, 4)]
    np.testing.assert_allclose(found[2].own_svd2, expected, rtol=1e-10)
    without = held_out(gram_of(stack, shape=(12, 10)), groups=range(4), kept=[1])
    assert np.isnan(without[0].own_svd2).all()
    with pytest.raises(LayerError, match="give that layer's own"):
        held_out(gram_of(stack, shape=(12, 10), name="other"), groups=range(4), kept=1, own=factors)


def test_what_an_svd_leaves_is_nothing_at_full_rank_and_unknown_beyond_what_was_kept():
    factors = factors_of(noise(2, 12 * 10, seed=20).reshape(2, 12, 10), kept=3)
    whole = svd_tail2(factors, 0, [0, 10])
    assert whole[0] == pytest.approx(factors.norm2[0])
    assert whole[1] == 0
    cut = svd_tail2(replace(factors, singular=factors.singular[:, :4], complete=False), 0, [4, 5])
    assert cut[0] == pytest.approx(np.sum(factors.singular[0, 4:] ** 2))
    assert np.isnan(cut[1])


def test_a_planted_subspace_generalises_and_noise_does_not():
    planted = held_out(gram_of(spiked(30, 500, strengths=(400, 400, 400), seed=5)), groups=range(30), kept=[3])
    calm = held_out(gram_of(noise(30, 500, seed=6)), groups=range(30), kept=[3])
    assert np.median([one.subspace[0] / one.random[0] for one in planted]) < 0.6
    assert np.median([one.subspace[0] / one.random[0] for one in calm]) == pytest.approx(1, abs=0.02)


def test_siblings_are_only_found_again_when_single_models_are_held_out():
    rows = np.repeat(noise(5, 200, seed=7), 4, axis=0) + 0.05 * noise(20, 200, seed=8)
    groups = np.repeat(np.arange(5), 4).tolist()
    gram = gram_of(rows)
    alone = np.median([one.subspace[0] for one in held_out(gram, groups=range(20), kept=4)])
    whole = np.median([one.subspace[0] for one in held_out(gram, groups=groups, kept=4)])
    assert alone < 0.05
    assert whole > 0.9


def test_errors_over_layers_are_those_of_one_long_residual():
    layers = [noise(6, 40, seed=9), 10 * noise(6, 30, seed=10)]
    each = [held_out(gram_of(rows, name=f"layer{i}"), groups=range(6), kept=[0, 2]) for i, rows in enumerate(layers)]
    both = pooled(each)
    expected = sum(one[1].subspace2 for one in each) / sum(one[1].reference2 for one in each)
    np.testing.assert_allclose(both[1].subspace, expected)
    assert both[1].layers == ("layer0", "layer1")
    flat = held_out(gram_of(noise(6, 1, seed=21), name="layer2"), groups=range(6), kept=[0, 2])
    assert (flat[1].ceiling, pooled([flat, each[0]])[1].ceiling) == (1, 4)
    with pytest.raises(NotEnoughModels, match="one model that every layer has"):
        pooled([each[0][:2], each[1][3:]])
    with pytest.raises(ValueError, match="one model and fold"):
        each[0][0] + each[1][1]


def test_more_directions_than_there_are_is_clipped_and_said():
    found = held_out(gram_of(noise(5, 40, seed=11)), groups=list("aabbb"), kept=[1, 2, 30])
    assert found[0].ceiling == 2
    assert found[0].subspace2[2] == found[0].subspace2[1]
    assert found[0].notes == ("30 directions were asked for, the 3 other models give 2",)
    assert found[4].ceiling == 1


def test_a_single_other_model_has_no_direction_about_its_mean():
    rows = noise(2, 40, seed=12)
    found = held_out(gram_of(rows), groups=[0, 1], kept=[0, 1])
    np.testing.assert_allclose(found[0].subspace2, np.sum((rows[0] - rows[1]) ** 2))
    assert found[0].ceiling == 0


def test_a_model_at_the_reference_has_no_relative_error():
    rows = noise(6, 40, seed=13)
    rows[2] = 0
    found = held_out(gram_of(rows), groups=range(6), kept=[0, 2], reference="zero")
    assert np.isnan(found[2].subspace).all()
    assert np.isnan(found[2].nothing)
    assert "at the reference itself" in found[2].notes[0]
    assert np.isfinite(found[3].subspace).all()


def test_unusable_models_are_neither_held_out_nor_learned_from():
    rows = noise(7, 40, seed=14)
    rows[4, 0] = np.inf
    found = held_out(gram_of(rows), groups=range(7), kept=[2])
    clean = held_out(gram_of(np.delete(rows, 4, axis=0)), groups=range(6), kept=[2])
    assert "model-4" not in [one.model for one in found]
    np.testing.assert_allclose([one.subspace2[0] for one in found], [one.subspace2[0] for one in clean], rtol=1e-9)


def test_what_cannot_be_held_out_says_why():
    gram = gram_of(noise(4, 30, seed=15))
    with pytest.raises(NotEnoughModels, match="At least two groups are needed"):
        held_out(gram, groups=["same"] * 4, kept=1)
    with pytest.raises(LayerError, match="use side_held_out"):
        held_out(side_gram_of(noise(4, 30, seed=1).reshape(4, 5, 6), axis=Axis.IN), groups=range(4), kept=1)
    with pytest.raises(LayerError, match="no base model is known"):
        held_out(gram, groups=range(4), kept=1, reference="base")


@pytest.mark.parametrize("about", ["mean", "zero", "base"])
def test_the_combination_rebuilds_the_model_that_the_error_is_of(about: str):
    rows, base = 2 + noise(9, 50, seed=16), noise(1, 50, seed=17)[0]
    gram, others = gram_of(rows, base=base), [0, 1, 2, 4, 6, 7, 8]
    found, of_centers = combinations(gram, [5, 3], others, kept=[0, 4], about=about)
    weights, of_center = found[1, 1], of_centers[1, 1]
    center = {"mean": rows[others].mean(axis=0), "zero": np.zeros(50), "base": base}[about]
    rebuilt = weights @ rows + of_center * (0 if about == "mean" else center)
    assert np.sum((rows[3] - rebuilt) ** 2) == pytest.approx(residual2(rows, 3, others, 4, center=center))
    assert weights[3] == weights[5] == 0
    assert weights.sum() + of_center == pytest.approx(1)
    alone, rest = found[1, 0], of_centers[1, 0]
    np.testing.assert_allclose(alone @ rows + rest * (0 if about == "mean" else center), center, atol=1e-12)


@pytest.mark.parametrize("about", ["mean", "zero", "base"])
def test_a_newcomer_is_held_out_like_a_member_would_be(about: str):
    rows, base = 1 + noise(9, 50, seed=18), noise(1, 50, seed=19)[0]
    members, kept = [0, 2, 3, 4, 6, 7], [0, 1, 4]
    mean = rows[:8].mean(axis=0)
    newcomer = UnseenModel(
        model="new",
        layer=gram_of(rows).layer,
        to_models=(rows[:8] - mean) @ (rows[8] - mean),
        to_center=float((rows[8] - mean) @ mean),
        norm2=float(np.sum((rows[8] - mean) ** 2)),
        to_base=float((rows[8] - mean) @ (base - mean)),
    )
    options = {"about": about, "reference": "base"}
    found = project(gram_of(rows[:8], base=base), newcomer, kept=kept, members=members, **options)
    inside = held_out(gram_of(rows, base=base), groups=range(9), kept=kept, members=[*members, 8], **options)[-1]
    for name in ("subspace2", "in_sample2", "random2", "reference2", "mean2"):
        np.testing.assert_allclose(getattr(found, name), getattr(inside, name), rtol=1e-9, err_msg=name)
    assert (found.model, found.group, found.trained_on) == ("new", "not in the collection", 6)
    with pytest.raises(LayerError, match="is no new row for the Gram"):
        project(gram_of(rows), newcomer, kept=1)


@pytest.mark.parametrize("groups", [range(120), [i % 60 for i in range(120)]])
def test_a_report_that_raises_stops_between_two_held_out_groups(groups: Sequence[int]) -> None:
    told: list[str] = []

    def stop(fraction: float, message: str) -> None:
        told.append(message)
        if len(told) == 3:
            raise Cancelled("stopped")

    with reported(stop), pytest.raises(Cancelled):
        held_out(gram_of(spiked(120, 200, strengths=(20,), seed=0)), groups=groups, kept=KS)
    assert len(told) == 3
    assert told[-1].endswith(f"3 of {len(set(groups))}")
