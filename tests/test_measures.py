"""The numbers of the evidence table against the same numbers worked out from the weights themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from tests.planted import families, gram_of, noise, spiked
from uws_core.analysis.accounting import storage
from uws_core.analysis.group_findings import between_share, representatives, times_smaller
from uws_core.analysis.measures import (
    cut,
    davis_kahan,
    descending,
    held_out_share,
    joined,
    mean_only_share,
    measure,
    top,
)
from uws_core.analysis.noise import as_strong, centred, wishart
from uws_core.analysis.shared_findings import mean_share
from uws_core.nouns.chance import effective_rank
from uws_core.nouns.models import Collection, LayerKey, ModelRef

ROWS = spiked(12, 60, strengths=[400, 200], seed=0) + 2.0
INNER = gram_of(ROWS).about("mean")


def basis(rows: np.ndarray, kept: int) -> np.ndarray:
    """The leading directions (d, k) of some weights about their own mean."""
    return np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:kept].T


def test_overlap_of_halves_is_that_of_the_subspaces_themselves() -> None:
    cuts = cut(12, rng=np.random.default_rng(1))
    angles = [subspace_angles(basis(ROWS[left], 3), basis(ROWS[right], 3)) for left, right in cuts.plain]
    assert measure(INNER, cuts, kept=3).overlap == pytest.approx(np.mean([np.mean(np.cos(one) ** 2) for one in angles]))


def test_captured_share_is_that_of_the_weights_held_out() -> None:
    folds = np.arange(12) % 3
    inside = total = 0.0
    for fold in range(3):
        out = ROWS[folds == fold] - ROWS[folds == fold].mean(axis=0)
        inside += np.sum((out @ basis(ROWS[folds != fold], 2)) ** 2)
        total += np.sum(out**2)
    assert held_out_share(INNER, folds, kept=2) == pytest.approx(inside / total)
    assert inside / total > 0.5


def test_nothing_is_held_out_of_one_fold_or_of_equal_models() -> None:
    assert np.isnan(held_out_share(INNER, None, kept=2))
    assert np.isnan(held_out_share(INNER, np.zeros(12, dtype=np.intp), kept=2))
    assert np.isnan(held_out_share(np.zeros((4, 4)), np.array([0, 0, 1, 1]), kept=2))


def test_shares_and_growth_are_those_of_the_weights() -> None:
    cuts = cut(12, rng=np.random.default_rng(2))
    seen = measure(INNER, cuts, kept=2)
    variances = np.linalg.svd(ROWS - ROWS.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(seen.shares, variances / variances.sum(), atol=1e-10)
    unit = ROWS - ROWS.mean(axis=0)
    unit = np.linalg.svd(unit / np.linalg.norm(unit, axis=1)[:, None], compute_uv=False) ** 2
    np.testing.assert_allclose(seen.unit_shares, unit / unit.sum(), atol=1e-10)
    parts = [basis_shares(ROWS[half]) for pair in cuts.plain for half in pair]
    halves = np.mean([float(effective_rank(part)) for part in parts])
    assert seen.growth == pytest.approx(np.log2(float(effective_rank(seen.shares)) / halves))


def basis_shares(rows: np.ndarray) -> np.ndarray:
    variances = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    return np.asarray(variances / variances.sum())


def test_the_bound_is_that_of_the_covariances_themselves() -> None:
    cuts = cut(12, rng=np.random.default_rng(3))
    away = ROWS - ROWS.mean(axis=0)
    errors = [
        away[left].T @ away[left] / left.size - away[right].T @ away[right] / right.size for left, right in cuts.plain
    ]
    largest = np.mean([np.linalg.norm(one, 2) for one in errors]) / 2
    total = np.mean([np.linalg.norm(one) for one in errors]) / 2
    values = np.linalg.eigvalsh(away.T @ away / 12)[::-1]
    k = np.arange(1, 12)
    expected = 2 * np.minimum(np.sqrt(k) * largest, total) / (np.sqrt(k) * (values[:11] - values[1:12]))
    np.testing.assert_allclose(davis_kahan(*descending(INNER), cuts.plain), expected, rtol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_for_directions_that_are_known(seed: int) -> None:
    truth = np.eye(300)[:, :1]
    rng = np.random.default_rng(seed)
    rows = 60 * rng.standard_normal((200, 1)) @ truth.T + rng.standard_normal((200, 300))
    bounds = measure(gram_of(rows).about("mean"), cut(200, rng=rng), kept=1).bounds
    sine = np.sin(subspace_angles(basis(rows, 1), truth)[0])
    assert sine <= bounds[0] <= 0.5


def test_cuts_keep_groups_whole_and_folds_hold_two_groups_at_least() -> None:
    groups = np.repeat(np.arange(6), 4)
    cuts = cut(24, rng=np.random.default_rng(4), groups=groups)
    for left, right in cuts.whole:
        assert not set(groups[left]) & set(groups[right])
        assert left.size == right.size == 12
    assert any(set(groups[left]) & set(groups[right]) for left, right in cuts.plain)
    assert cuts.group_folds is not None
    for fold in range(int(cuts.group_folds.max()) + 1):
        inside = set(groups[cuts.group_folds == fold])
        assert len(inside) >= 2
        assert not inside & set(groups[cuts.group_folds != fold])
    assert np.bincount(cuts.folds).tolist() == [5, 5, 5, 5, 4]


def test_halves_keep_the_lineage_whole_beside_a_column() -> None:
    column, kin = np.arange(24) % 6, np.repeat(np.arange(2), 12)
    assert joined(column, kin).max() == 0
    assert joined(np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 1, 2, 3, 3])).tolist() == [0, 0, 0, 0, 1, 1]
    cuts = cut(24, rng=np.random.default_rng(4), groups=column, lineage_groups=kin)
    for left, right in cuts.whole:
        assert not set(kin[left]) & set(kin[right])
    assert cuts.kin_folds is not None
    assert all(len(set(cuts.kin_folds[kin == one])) == 1 for one in range(2))


def test_what_the_mean_of_the_others_takes_away_is_that_of_the_weights() -> None:
    folds, left = np.arange(12) % 3, 0.0
    for fold in range(3):
        left += np.sum((ROWS[folds == fold] - ROWS[folds != fold].mean(axis=0)) ** 2)
    assert mean_only_share(gram_of(ROWS).about("zero"), folds) == pytest.approx(1 - left / np.sum(ROWS**2))
    assert np.isnan(mean_only_share(INNER, np.zeros(12, dtype=np.intp)))


def test_one_group_that_is_nearly_all_is_cut_at_random() -> None:
    cuts = cut(10, rng=np.random.default_rng(5), groups=np.array([0] * 8 + [1, 2]))
    assert cuts.whole is cuts.plain


def test_centres_of_groups_are_taken_away() -> None:
    groups = np.array([0, 1, 0, 1, 1, 2])
    rows = noise(6, 30, seed=6)
    about = rows - np.array([rows[groups == group].mean(axis=0) for group in groups])
    np.testing.assert_allclose(centred((rows @ rows.T)[None], groups)[0], about @ about.T, atol=1e-10)


def test_drawn_noise_lies_as_far_from_its_groups_means_as_asked() -> None:
    groups = np.repeat([0, 1, 2], [6, 5, 1])
    rows = noise(12, 4000, seed=7, norms=np.geomspace(1, 2, 12))
    squares = np.diag(centred((rows @ rows.T)[None], groups)[0])
    drawn = as_strong(wishart(np.random.default_rng(8), count=20, side=12, dof=4000), squares, groups)
    away = np.einsum("bii->bi", centred(drawn, groups))
    # Small groups are matched to 2e-3, where a draw that is not matched is off by 5 %.
    np.testing.assert_allclose(away[:, :11], np.broadcast_to(squares[:11], (20, 11)), rtol=5e-3)
    np.testing.assert_allclose(away[:, 11], 0, atol=1e-12)


def test_families_hold_what_siblings_share_and_strangers_do_not() -> None:
    rows = families([10, 10, 10, 10], 2000, likeness=0.7, seed=9)
    groups = np.repeat(np.arange(4), 10)
    seen = measure(gram_of(rows).about("mean"), cut(40, rng=np.random.default_rng(10), groups=groups), kept=3)
    assert seen.captured > 0.6
    assert seen.captured_groups < 0.02
    assert seen.overlap < 0.02
    assert top(seen.shares, 3) > 0.6


def test_small_numbers_are_those_of_the_weights() -> None:
    rows, groups = noise(9, 40, seed=19) + 1, np.array([0, 0, 1, 1, 1, 2, 2, 2, 2])
    means = np.array([rows[groups == group].mean(axis=0) for group in groups])
    inside, all_of_it = np.sum((rows - means) ** 2), np.sum((rows - rows.mean(axis=0)) ** 2)
    inner = gram_of(rows).about("mean")
    assert between_share(inner, groups) == pytest.approx(1 - inside / all_of_it)
    nearest = [int(np.linalg.norm((rows - means)[groups == g], axis=1).argmin()) for g in range(3)]
    assert representatives(inner, groups).tolist() == [nearest[0], 2 + nearest[1], 5 + nearest[2]]
    energy = 9 * np.sum(rows.mean(axis=0) ** 2) / np.sum(rows**2)
    assert float(mean_share(gram_of(rows).about("zero"))) == pytest.approx(energy)


def test_space_is_what_accounting_counts() -> None:
    layer = LayerKey("a", (20, 30))
    refs = tuple(ModelRef("r", str(i)) for i in range(10))
    collection = Collection("c", refs, tuple("abcdefghij"), (layer,), "f")
    counted = storage(collection, kept=4, axis="models")
    assert float(times_smaller(10, 600, 4)) == pytest.approx(counted.ratio)
