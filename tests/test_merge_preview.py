"""Merges from Gram matrices: the closed forms at both extremes, and dense weights as the second opinion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from tests.planted import gram_of
from uws_core.analysis.merge_methods import combine, on_whole_weights, possible
from uws_core.analysis.merge_preview import merge_grams, of_entries, standing
from uws_core.errors import LayerError, NotEnoughModels, UwsError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.merge_preview import MergedUpdate, MergeGrams
from uws_core.nouns.merging import Convention, MergeMethod, MergeRecipe

D = 60
WEIGHTS = (0.5, 1.5, 1.0, 2.0)


def grams_of(layers: list[Floats], base: list[Floats] | None = None) -> MergeGrams:
    """Products of the rows of each layer (s, d) about its base."""
    every = [
        gram_of(rows, base=None if base is None else base[place], name=f"blocks.{place}.q.weight")
        for place, rows in enumerate(layers)
    ]
    return merge_grams(every)


def equal_and_orthogonal(s: int = 4) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """Updates of two layers, equal in one and orthogonal of one norm in the other; weights, and their bases."""
    rng = np.random.default_rng(0)
    base = [rng.normal(size=D), rng.normal(size=D)]
    updates = [np.tile(rng.normal(size=D), (s, 1)), 2 * np.linalg.qr(rng.normal(size=(D, s)))[0].T]
    return updates, [one + about for one, about in zip(updates, base, strict=True)], base


def recipe(method: str, **options: object) -> MergeRecipe:
    """The recipe of a method by its name."""
    return MergeRecipe(method=MergeMethod.of(method), **options)


def dense(updates: Floats, base: Floats, merged: MergedUpdate, layer: int) -> Floats:
    """The merged weights, multiplied out."""
    extra = 0.0 if merged.base_coefficient is None else merged.base_coefficient[layer]
    return base * (1 + extra) + merged.coefficients[layer] @ updates


SUM, MEAN, SPHERE = 1.0, 0.25, 0.5


@pytest.mark.parametrize(
    ("method", "of_equal", "of_orthogonal"),
    [
        ("mean", 1.0, MEAN),
        ("linear", 1.0, MEAN),
        ("task_arithmetic", 4.0, SUM),
        ("multislerp", 1.0, SPHERE),
        ("karcher", 1.0, SPHERE),
        ("model_stock", 1.0, 0.0),
    ],
)
def test_both_extremes_have_closed_forms(method: str, of_equal: float, of_orthogonal: float) -> None:
    updates, weights, base = equal_and_orthogonal()
    merged = combine(grams_of(weights, base), recipe(method))
    expected = [of_equal * updates[0][0], of_orthogonal * updates[1].sum(axis=0)]
    for layer, truth in enumerate(expected):
        found = dense(updates[layer], base[layer], merged, layer) - base[layer]
        np.testing.assert_allclose(found, truth, atol=1e-12 * np.abs(updates[layer]).sum())


def test_slerp_of_equal_and_of_orthogonal_members() -> None:
    updates, weights, base = equal_and_orthogonal(2)
    merged = combine(grams_of(weights, base), recipe("slerp"))
    np.testing.assert_allclose(dense(updates[0], base[0], merged, 0) - base[0], updates[0][0], atol=1e-12)
    found = dense(updates[1], base[1], merged, 1) - base[1]
    np.testing.assert_allclose(found, updates[1].sum(axis=0) / np.sqrt(2), atol=1e-12)


def test_karcher_of_four_orthogonal_vectors_of_norm_two_has_entries_one() -> None:
    merged = combine(grams_of([2 * np.eye(4, D)]), recipe("karcher"))
    np.testing.assert_allclose(merged.coefficients, np.full((1, 4), 0.5), atol=1e-14)


@pytest.mark.parametrize("c", [0.0, 0.3, 1.0])
def test_model_stock_at_a_common_cosine(c: float) -> None:
    n = 5
    root = np.linalg.cholesky(np.full((n, n), c) + (1 - c + 1e-15) * np.eye(n))
    updates = np.pad(root, ((0, 0), (0, D - n)))
    merged = combine(grams_of([updates + 3.0], [np.full(D, 3.0)]), recipe("model_stock"))
    np.testing.assert_allclose(merged.coefficients.sum(axis=1), n * c / (1 + (n - 1) * c), atol=1e-12)


def test_the_subspace_merge_at_full_rank_is_the_mean_and_below_it_a_projection() -> None:
    rng = np.random.default_rng(3)
    updates = rng.normal(size=(4, D)) + rng.normal(size=D)
    grams = grams_of([updates], [np.zeros(D)])
    full = combine(grams, recipe("subspace", rank=4))
    np.testing.assert_allclose(full.coefficients, np.full((1, 4), 0.25), atol=1e-12)
    right = np.linalg.svd(updates, full_matrices=False)[2][:2]
    low = combine(grams, recipe("subspace", rank=2))
    np.testing.assert_allclose(low.coefficients[0] @ updates, updates.mean(axis=0) @ right.T @ right, atol=1e-12)


@pytest.mark.parametrize("convention", [Convention.PAPER, Convention.MERGEKIT])
def test_the_karcher_mean_minimises_squared_angles(convention: Convention) -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=D)
    updates = rng.normal(size=(4, D)) + rng.normal(size=D)
    asked_for = recipe("karcher", weights=WEIGHTS, convention=convention)
    whole = on_whole_weights(asked_for)
    merged = combine(grams_of([updates + base], [base]), asked_for)
    points = updates + base if whole else updates
    found = dense(updates, base, merged, 0) - (0 if whole else base)
    units, share = points / np.linalg.norm(points, axis=1, keepdims=True), np.array(WEIGHTS) / sum(WEIGHTS)

    def spread(x: Floats) -> float:
        return float(share @ np.arccos(np.clip(units @ x / np.linalg.norm(x), -1, 1)) ** 2)

    best = minimize(spread, found / np.linalg.norm(found), method="BFGS")
    assert spread(found) <= best.fun + 1e-10
    assert np.linalg.norm(found) == pytest.approx(share @ np.linalg.norm(points, axis=1), rel=1e-9)


@pytest.mark.parametrize(
    "method", ["mean", "linear", "task-arithmetic", "multi-slerp", "karcher", "model-stock", "subspace"]
)
@pytest.mark.parametrize("convention", [Convention.PAPER, Convention.MERGEKIT])
def test_every_number_is_that_of_the_dense_merge(method: str, convention: Convention) -> None:
    rng = np.random.default_rng(7)
    base = [rng.normal(size=D), rng.normal(size=D)]
    updates = [0.1 * (rng.normal(size=(4, D)) + rng.normal(size=D)) * np.array([[1], [2], [1], [0.5]]) for _ in base]
    grams = grams_of([u + b for u, b in zip(updates, base, strict=True)], base)
    merged = combine(grams, recipe(method, weights=WEIGHTS, rank=2, convention=convention))
    scales = (0.0, 0.3, 1.0, -2.0)
    found = standing(grams, merged, scales)
    at_one = [dense(u, b, merged, i) - b for i, (u, b) in enumerate(zip(updates, base, strict=True))]
    for q, scale in enumerate(scales):
        for row, layers in enumerate(((0, 1), (0,), (1,))):
            tau = np.concatenate([updates[i] for i in layers], axis=1)
            move = scale * np.concatenate([at_one[i] for i in layers])
            mean, norms = tau.mean(axis=0), np.linalg.norm(tau, axis=1)
            size = np.linalg.norm(mean)
            assert found.norm_to_mean[q, row] == pytest.approx(np.linalg.norm(move) / size, abs=1e-9)
            typical = np.sqrt(np.mean(norms**2))
            assert found.norm_to_members[q, row] == pytest.approx(np.linalg.norm(move) / typical, abs=1e-9)
            assert found.distance_to_mean[q, row] == pytest.approx(np.linalg.norm(move - mean) / size, abs=1e-6)
            assert found.mean_scale[q, row] == pytest.approx(move @ mean / size**2, abs=1e-9)
            np.testing.assert_allclose(found.kept[q, row], tau @ move / norms**2, atol=1e-9)
            distances = np.linalg.norm(move - tau, axis=1) / norms
            np.testing.assert_allclose(found.distance_to_members[q, row], distances, atol=1e-6)
    whole_mean, whole_move = np.concatenate(updates, axis=1).mean(axis=0), np.concatenate(at_one)
    cosine = whole_move @ whole_mean / np.linalg.norm(whole_move) / np.linalg.norm(whole_mean)
    assert found.off_mean[0] == pytest.approx(np.sqrt(max(1 - cosine**2, 0)), abs=1e-7)


def test_products_of_entries_stand_on_the_same_axis() -> None:
    rng = np.random.default_rng(9)
    updates = rng.normal(size=(3, D))
    grams = grams_of([updates], [np.zeros(D)])
    median = np.median(updates, axis=0)
    merged = of_entries(grams, "median", (updates @ median)[None], np.array([median @ median]))
    found = standing(grams, merged)
    mean = updates.mean(axis=0)
    assert found.distance_to_mean[0, 0] == pytest.approx(np.linalg.norm(median - mean) / np.linalg.norm(mean))
    with pytest.raises(LayerError, match="3 members in 1 layers"):
        of_entries(grams, "median", np.ones((2, 3)), np.ones(2))


def test_a_member_with_nan_is_left_out_and_one_alone_is_refused() -> None:
    rows = np.random.default_rng(1).normal(size=(3, D))
    rows[1, 4] = np.nan
    assert merge_grams([gram_of(rows)]).labels == ("model-0", "model-2")
    with pytest.raises(NotEnoughModels, match="at least two usable models; found 1"):
        merge_grams([gram_of(rows)], members=[0, 1])


def test_members_that_did_not_move_give_no_number() -> None:
    base = np.arange(D, dtype=float)
    grams = grams_of([np.tile(base, (3, 1))], [base])
    found = standing(grams, combine(grams, recipe("mean")))
    assert np.isnan(found.distance_to_mean).all()
    assert np.isnan(found.kept).all()


@pytest.mark.parametrize(
    ("method", "weights", "says"),
    [
        ("linear", (1.0, -1.0, 0.0), "sum to zero"),
        ("linear", (1.0, 2.0), "2 weights for 3 models"),
        ("karcher", (np.nan, 1.0, 1.0), "Weights are finite"),
        ("slerp", (), "Take karcher or multi-slerp"),
        ("task-arithmetic", (), "name the base"),
        ("ties", (), "ties looks at entries; these combine models: mean"),
    ],
)
def test_what_cannot_be_combined_says_why(method: str, weights: tuple[float, ...], says: str) -> None:
    grams = grams_of([np.random.default_rng(2).normal(size=(3, D))])
    with pytest.raises(UwsError, match=says):
        combine(grams, recipe(method, weights=weights))


def test_methods_that_need_a_base_or_two_members_are_offered_only_then() -> None:
    rows = np.random.default_rng(2).normal(size=(3, D))
    assert "model-stock" not in possible(grams_of([rows]))
    assert "model-stock" in possible(grams_of([rows], [np.zeros(D)]))
    assert "slerp" not in possible(grams_of([rows]))
    assert "slerp" in possible(grams_of([rows[:2]]))


@pytest.mark.parametrize("method", ["mean", "task-arithmetic", "multi-slerp", "karcher", "model-stock"])
def test_the_order_of_the_members_does_not_matter(method: str) -> None:
    rng = np.random.default_rng(4)
    updates = rng.normal(size=(5, D)) + 0.3
    turned = rng.permutation(5)
    first = combine(grams_of([updates], [np.zeros(D)]), recipe(method)).coefficients @ updates
    second = combine(grams_of([updates[turned]], [np.zeros(D)]), recipe(method)).coefficients @ updates[turned]
    np.testing.assert_allclose(first, second, atol=1e-12)


def test_multislerp_is_its_published_rule_tangent_step_included() -> None:
    rng = np.random.default_rng(6)
    updates = rng.normal(size=(4, D)) + 0.2
    share = np.array(WEIGHTS) / sum(WEIGHTS)
    norms = np.linalg.norm(updates, axis=1)
    units = updates / norms[:, None]
    start = share @ units / np.linalg.norm(share @ units)
    tangent = share @ (units - (units @ start)[:, None] * start)
    length = np.linalg.norm(tangent) + 1e-300
    truth = (np.cos(length) * start + np.sin(length) / length * tangent) * (share @ norms)
    merged = combine(grams_of([updates], [np.zeros(D)]), recipe("multislerp", weights=WEIGHTS))
    np.testing.assert_allclose(merged.coefficients[0] @ updates, truth, atol=1e-12)


def test_opposed_members_have_no_direction_for_multislerp() -> None:
    one = np.random.default_rng(8).normal(size=D)
    with pytest.raises(UwsError, match=r"In 0\.q the weighted updates cancel"):
        combine(grams_of([np.stack([one, -one])], [np.zeros(D)]), recipe("multislerp"))
