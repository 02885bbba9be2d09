"""Merge methods against closed forms, published toys and what must not change a merge: a gauge, a tiny perturbation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm as normal

from uws_core.nouns.merging import Convention, MergeMethod, MergeRecipe
from uws_core.nouns.models import LayerKey
from uws_core.use.merge.adapters import merged_layer
from uws_core.use.merge.entries import HeldUpdates, entry_rule, merged_entries
from uws_core.use.merge.factors import least_squares
from uws_core.use.merge.order import Keeper, Selection, cuts_of

M, P, R, T = 48, 40, 2, 4
SIZES = np.array([3.0, 1.0])
ADAPTER_METHODS = list(MergeMethod)


def orthogonal(size: int, k: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, k)))[0]


LEFT, RIGHT = orthogonal(M, R * T, 0), orthogonal(P, R * T, 1)
ORTHOGONAL = (
    [LEFT[:, i * R : (i + 1) * R] * SIZES for i in range(T)],
    [RIGHT[:, i * R : (i + 1) * R].T for i in range(T)],
)
EQUAL = ([ORTHOGONAL[0][0]] * T, [ORTHOGONAL[1][0]] * T)
TAU = EQUAL[0][0] @ EQUAL[1][0]
SUM = sum(up @ down for up, down in zip(*ORTHOGONAL, strict=True))


def merged(recipe: MergeRecipe, factors: tuple[list[np.ndarray], list[np.ndarray]]) -> np.ndarray:
    key = LayerKey("layer", (factors[0][0].shape[0], factors[1][0].shape[1]))
    layer = merged_layer(recipe, key, *factors, [f"m{i}" for i in range(len(factors[0]))])
    return layer.factors.up @ layer.factors.down


def recipe(method: str, **options: object) -> MergeRecipe:
    return replace(MergeRecipe(method=MergeMethod.of(method)), **options)


def random_factors(seed: int, ranks: tuple[int, ...] = (3, 2, 3)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    return (
        [generator.standard_normal((M, r)) for r in ranks],
        [generator.standard_normal((r, P)) for r in ranks],
    )


class TestTwoExtremes:
    """Equal members and mutually orthogonal ones, scale 1, weights 1."""

    @pytest.mark.parametrize(
        ("method", "options", "of_equal", "of_orthogonal"),
        [
            ("mean", {}, TAU, SUM / T),
            ("task-arithmetic", {}, T * TAU, SUM),
            ("multi-slerp", {}, TAU, SUM / np.sqrt(T)),
            ("karcher", {}, TAU, SUM / np.sqrt(T)),
            ("model-stock", {}, TAU, 0 * SUM),
            ("subspace", {}, TAU, SUM / T),
            ("ties", {"density": 1.0}, TAU, None),
            ("sce", {"density": 1.0}, TAU, None),
            ("knots", {"rule": MergeMethod.TASK_ARITHMETIC}, T * TAU, SUM),
            ("core", {"rule": MergeMethod.TASK_ARITHMETIC}, T * TAU, SUM),
            ("ctm", {"rule": MergeMethod.TASK_ARITHMETIC, "joint_rank": R * T}, T * TAU, SUM),
            ("tsv", {}, TAU, SUM),
            ("iso-c", {}, T * TAU, SUM),
            ("regmean", {"ridge": 0.0}, TAU, SUM),
        ],
    )
    def test_closed_forms(self, method, options, of_equal, of_orthogonal):
        found = merged(recipe(method, **options), EQUAL), merged(recipe(method, **options), ORTHOGONAL)
        if method == "iso-c":
            # All singular values of the sum become their mean: the directions stay.
            flat = SIZES.mean() * (ORTHOGONAL[0][0] / SIZES) @ ORTHOGONAL[1][0]
            of_equal = T * flat
            of_orthogonal = SIZES.mean() * LEFT @ RIGHT.T
        np.testing.assert_allclose(found[0], of_equal, atol=1e-12)
        if of_orthogonal is not None:
            # The Karcher mean stops iterating at 1e-5, model stock is zero to rounding.
            np.testing.assert_allclose(found[1], of_orthogonal, atol=1e-12)

    @pytest.mark.parametrize("method", ["ties", "sce"])
    def test_entries_with_disjoint_supports_add(self, method):
        updates = torch.zeros(T, 8, 8, dtype=torch.float64)
        for i in range(T):
            updates[i, 2 * i : 2 * i + 2] = torch.randn(2, 8, generator=torch.Generator().manual_seed(i)).double()
        found = merged_entries(recipe(method, density=1.0), HeldUpdates(updates), "x")
        torch.testing.assert_close(found, updates.sum(0), rtol=0, atol=1e-12)

    def test_dare_is_the_sum_in_the_mean_of_draws(self):
        updates = HeldUpdates(torch.ones(T, 40, 40))
        draws = [merged_entries(recipe("dare", density=0.3, seed=seed), updates, "x").mean() for seed in range(60)]
        # An entry varies by 1 / 0.3 - 1: the mean of 60 draws of 6,400 has a standard error of 0.01.
        assert float(torch.stack(draws).mean()) == pytest.approx(T, abs=0.04)

    def test_slerp_of_equal_and_orthogonal(self):
        two = [ORTHOGONAL[0][:2], ORTHOGONAL[1][:2]]
        half = merged(recipe("slerp"), two)
        expected = (two[0][0] @ two[1][0] + two[0][1] @ two[1][1]) / np.sqrt(2)
        np.testing.assert_allclose(half, expected, atol=1e-12)
        np.testing.assert_allclose(merged(recipe("slerp", t=0.0), two), two[0][0] @ two[1][0], atol=1e-12)

    def test_karcher_of_four_orthogonal_vectors_of_norm_two(self):
        ups = [2 * np.eye(M)[:, i : i + 1] for i in range(4)]
        downs = [np.eye(P)[i : i + 1] for i in range(4)]
        np.testing.assert_allclose(np.diag(merged(recipe("karcher"), (ups, downs)))[:4], 1.0, atol=1e-14)

    @pytest.mark.parametrize("cosine", [0.0, 0.25, 0.5, 1.0])
    def test_model_stock_draws_to_the_base_by_the_cosine(self, cosine):
        gram = np.full((3, 3), cosine) + (1 - cosine) * np.eye(3)
        values, vectors = np.linalg.eigh(gram)
        rows = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        downs = [np.pad(row[None], ((0, 0), (0, P - 3))) for row in rows]
        found = merged(recipe("model-stock"), ([np.eye(M)[:, :1]] * 3, downs))
        t = 3 * cosine / (1 + 2 * cosine)
        np.testing.assert_allclose(found[0, :3], t * rows.mean(0), atol=1e-12)

    def test_iso_in_the_full_space_would_be_diluted_by_the_empty_directions(self):
        # The published form over min(m, p) = 48 values of which T r = 8 are not zero divides by 6 too much.
        update = np.zeros((48, 48))
        update[:8, :8] = np.diag(np.arange(1.0, 9.0))
        ours = merged(recipe("iso-c"), ([update[:, :8], np.zeros((48, 1))], [np.eye(8, 48), np.zeros((1, 48))]))
        full = np.linalg.svd(update, compute_uv=False).mean()
        assert np.linalg.norm(ours, 2) / full == pytest.approx(6.0, abs=1e-12)

    def test_iso_cts_keeps_every_members_own_directions(self):
        ups, downs = ORTHOGONAL
        strong = [up * factor for up, factor in zip(ups, (100.0, 1.0, 1.0, 1.0), strict=True)]
        found = merged(recipe("iso-cts", common=0.25), (strong, downs))
        sizes = np.linalg.svd(found, compute_uv=False)
        np.testing.assert_allclose(sizes[sizes > 1e-9], sizes[0])
        captured = [np.linalg.norm(LEFT[:, i * R].T @ found) for i in range(T)]
        assert min(captured) > 0.5 * sizes[0]


def some_factors(method: str, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """As many random updates as the method takes."""
    return random_factors(seed, (3, 2) if method == MergeMethod.SLERP else (3, 2, 3))


class TestStability:
    @pytest.mark.parametrize("method", ADAPTER_METHODS)
    def test_a_perturbation_of_1e_12_changes_less_than_1e_10(self, method):
        ups, downs = some_factors(method, 3)
        generator = np.random.default_rng(9)
        moved = [up * (1 + 1e-12 * generator.standard_normal(up.shape)) for up in ups]
        chosen = recipe(method, ridge=0.5)
        before, after = merged(chosen, (ups, downs)), merged(chosen, (moved, downs))
        assert np.linalg.norm(after - before) < 1e-10 * np.linalg.norm(before)

    @pytest.mark.parametrize("method", ["tsv", "iso-c", "iso-cts", "regmean"])
    def test_equal_members_with_a_perturbation_stay_one(self, method):
        ups, downs = EQUAL
        generator = np.random.default_rng(9)
        moved = [up + 1e-12 * generator.standard_normal(up.shape) for up in ups]
        before, after = merged(recipe(method), EQUAL), merged(recipe(method), (moved, downs))
        assert np.linalg.norm(after - before) < 1e-10 * np.linalg.norm(before)

    @settings(max_examples=6, deadline=None)
    @given(seed=st.integers(0, 10**6))
    @pytest.mark.parametrize("method", ADAPTER_METHODS)
    def test_a_gauge_changes_nothing(self, method, seed):
        ups, downs = some_factors(method, 4)
        generator = np.random.default_rng(seed)
        gauges = [np.linalg.qr(generator.standard_normal((up.shape[1],) * 2))[0] * 3.0 for up in ups]
        gauges = [gauge @ np.diag(generator.uniform(0.3, 3, len(gauge))) for gauge in gauges]
        turned = (
            [up @ np.linalg.inv(gauge) for up, gauge in zip(ups, gauges, strict=True)],
            [gauge @ down for down, gauge in zip(downs, gauges, strict=True)],
        )
        rules = (MergeMethod.TIES, MergeMethod.DARE) if "rule" in recipe(method).facts.uses else (MergeMethod.TIES,)
        for rule, convention in product(rules, Convention):
            chosen = recipe(method, rule=rule, seed=5, convention=convention)
            before, after = merged(chosen, (ups, downs)), merged(chosen, turned)
            assert np.linalg.norm(after - before) < 1e-10 * np.linalg.norm(before)

    def test_subspace_merge_is_the_mean_at_full_rank_and_projected_below(self):
        factors = random_factors(5)
        mean = merged(recipe("mean"), factors)
        np.testing.assert_allclose(merged(recipe("subspace"), factors), mean, atol=1e-12)

    def test_regmean_needs_its_ridge(self):
        angle = 0.01
        downs = [np.eye(P)[:1], np.cos(angle) * np.eye(P)[:1] + np.sin(angle) * np.eye(P)[1:2]]
        ups = [np.eye(M)[:, :1], np.eye(M)[:, 1:2]]
        norms = [np.linalg.norm(merged(recipe("regmean", ridge=ridge), (ups, downs))) for ridge in (0.0, 0.5, 1e6)]
        assert norms[0] == pytest.approx(np.sqrt(2) / angle, rel=0.01)
        assert norms[1] < 1.5
        np.testing.assert_allclose(
            merged(recipe("regmean", ridge=1e9), (ups, downs)), merged(recipe("mean"), (ups, downs)), atol=1e-6
        )


TOY = torch.tensor([[4.0, -3, 2, 1], [-2, -5, 3, 0], [1, 6, 3, -4]])


class TestToys:
    @pytest.mark.parametrize(
        ("convention", "weights", "expected"),
        [
            ("mergekit", (), [4, -4, 3, -4]),
            ("peft", (), [4, -4, 3, -4]),
            ("paper", (), [4, -4, 3, -4]),
            ("peft", (0.5, 0.3, 0.2), [2, -1.5, 0.9, -0.8]),
            ("mergekit", (0.5, 0.3, 0.2), [4, -3.75, 3, -4]),
            ("peft", (1, 1, -1), [4, -4, 3, 4]),
            ("mergekit", (1, 1, -1), [4, -14, 3, -4]),
        ],
    )
    def test_ties(self, convention, weights, expected):
        chosen = recipe("ties", density=0.5, weights=weights, convention=Convention(convention))
        found = merged_entries(chosen, HeldUpdates(TOY[:, None]), "x")
        torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float32))

    def test_regmean(self):
        weights = np.array([[[2.0, 0], [0, 0]], [[0, 4], [0, 2]]])
        inputs = np.array([np.diag([3.0, 1]), np.diag([1.0, 3])])
        np.testing.assert_allclose(least_squares(weights, inputs), [[1.5, 3], [0, 1.5]], atol=1e-14)

    def test_data_free_regmean(self):
        ups = [np.eye(2)[:, :1], np.eye(2)[:, :1]]
        downs = [np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])]
        found = merged(recipe("regmean", ridge=0.0), (ups, downs))
        np.testing.assert_allclose(found, [[1, 1], [0, 0]], atol=1e-12)

    @pytest.mark.parametrize(("density", "kept"), [(0.1, 0.4393), (0.2, 0.6498), (0.5, 0.9287)])
    def test_trimming_gaussian_entries_keeps_a_known_energy(self, density, kept):
        t = normal.ppf(1 - density / 2)
        assert density + 2 * t * normal.pdf(t) == pytest.approx(kept, abs=1e-4)
        values = torch.randn(1, 1000, 1000, generator=torch.Generator().manual_seed(0))
        found = merged_entries(recipe("ties", density=density), HeldUpdates(values), "x")
        assert float(found.square().sum() / values.square().sum()) == pytest.approx(kept, rel=0.01)
        assert int((found != 0).sum()) == int(density * values.numel())

    @pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
    def test_dare_loses_one_over_density_minus_one(self, density):
        values = torch.randn(1, 1000, 1000, generator=torch.Generator().manual_seed(0))
        found = merged_entries(recipe("dare", density=density, seed=3), HeldUpdates(values), "x")
        lost = float((found - values[0]).square().sum() / values.square().sum())
        assert lost == pytest.approx(1 / density - 1, rel=0.01)

    def test_della_keeps_large_entries_more_often(self):
        values = torch.rand(1, 200, 500, generator=torch.Generator().manual_seed(0)) + 0.01
        found = merged_entries(recipe("della", density=0.5, epsilon=0.3, seed=1), HeldUpdates(values), "x")[..., :]
        order = values[0].argsort(dim=1)
        kept = (found != 0).gather(1, order).float().mean(0)
        assert float(kept[:50].mean()) == pytest.approx(0.23, abs=0.02)
        assert float(kept[-50:].mean()) == pytest.approx(0.77, abs=0.02)

    def test_breadcrumbs_drops_both_tails(self):
        values = torch.arange(1.0, 101.0).reshape(1, 10, 10)
        found = merged_entries(recipe("breadcrumbs", density=0.5, gamma=0.1), HeldUpdates(values), "x")
        assert found[found != 0].tolist() == list(range(41, 91))


class TestSelection:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), share=st.floats(0, 1), steps=st.integers(1, 40))
    def test_streams_are_cut_where_a_sort_would_cut_them(self, seed, share, steps):
        # Few distinct values: ties at the cut.
        values = torch.randn(2, 7, 30, generator=torch.Generator().manual_seed(seed))
        values = (values * steps).round() / steps
        dropped = int(share * 210)
        selection = Selection([[dropped]] * 2)
        for chunk in values.split(2, dim=1):
            selection.count(chunk)
        selection.locate()
        for chunk in values.split(3, dim=1):
            selection.collect(chunk)
        assert selection.cuts() == cuts_of(values.flatten(1), [[dropped]] * 2)
        kept = torch.cat(
            [_kept(chunk, rule) for rule in [_trim(values, dropped)] for chunk in values.split(2, dim=1)], dim=1
        )
        assert kept.flatten(1).sum(1).tolist() == [210 - dropped] * 2
        least = torch.where(kept, values.abs(), torch.inf).flatten(1).min(1).values
        most = torch.where(kept, 0.0, values.abs()).flatten(1).max(1).values
        assert bool((least >= most).all())

    def test_random_numbers_do_not_depend_on_how_rows_are_read(self):
        values = torch.randn(3, 50, 33, generator=torch.Generator().manual_seed(1))
        for method in ("dare", "dare-ties", "della"):
            chosen = recipe(method, density=0.4, seed=8)
            whole = entry_rule(chosen, HeldUpdates(values), "x")(values)
            rule = entry_rule(chosen, HeldUpdates(values), "x")
            pieces = torch.cat([rule(chunk) for chunk in values.split(7, dim=1)])
            torch.testing.assert_close(pieces, whole, rtol=0, atol=0)
            other = entry_rule(replace(chosen, seed=9), HeldUpdates(values), "x")(values)
            assert not torch.equal(other, whole)


def _trim(values: torch.Tensor, dropped: int) -> list[Keeper]:
    return [Keeper(cuts[0]) for cuts in cuts_of(values.flatten(1), [[dropped]] * len(values))]


def _kept(chunk: torch.Tensor, keepers: list) -> torch.Tensor:
    return torch.stack([keeper.above(row.abs()) for row, keeper in zip(chunk, keepers, strict=True)])
