"""Joint bases against planted truths, bounds and tensorly's decompositions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorly
from hypothesis import given
from hypothesis import strategies as st
from tensorly.decomposition import parafac, partial_tucker

from uws_core.analysis import joint_basis
from uws_core.analysis.joint_basis import ThinUpdates


def updates(n: int, m: int, p: int, rank: int, seed: int = 0, *, norms: np.ndarray | None = None) -> ThinUpdates:
    generator = np.random.default_rng(seed)
    sizes = np.ones(n) if norms is None else norms
    ups = [size * generator.standard_normal((m, rank)) for size in sizes]
    return ThinUpdates.of(ups, [generator.standard_normal((rank, p)) for _ in range(n)])


def dense(stack: ThinUpdates) -> np.ndarray:
    ups, downs = stack.parts(stack.up.T), stack.parts(stack.down)
    return np.stack([up.T @ down for up, down in zip(ups, downs, strict=True)])


def rebuilt(basis: joint_basis.JointBasis) -> np.ndarray:
    cores = [np.diag(core) if core.ndim == 1 else core for core in basis.cores]
    return np.stack([basis.left @ core @ basis.right.T for core in cores])


def orthogonal_updates(n: int, rank: int) -> ThinUpdates:
    """Updates with unit singular values and mutually orthogonal inputs and outputs."""
    generator = np.random.default_rng(1)
    size = n * rank
    left, right = (np.linalg.qr(generator.standard_normal((size, size)))[0] for _ in range(2))
    blocks = [slice(i * rank, (i + 1) * rank) for i in range(n)]
    return ThinUpdates.of([left[:, block] for block in blocks], [right[:, block].T for block in blocks])


@pytest.mark.parametrize("k", [4, 16, 40, 80])
def test_orthogonal_updates_share_exactly_their_portion(k: int):
    basis = joint_basis.two_sided(orthogonal_updates(20, 4), k)
    assert 1 - basis.errors2.sum() / basis.norms2.sum() == pytest.approx(k / 80, abs=1e-12)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 9))
def test_errors_lie_between_the_larger_and_the_sum_of_the_one_sided_ones(seed: int, k: int):
    stack = updates(5, 10, 9, 2, seed)
    scaled = dense(stack) / np.sqrt(stack.norms2)[:, None, None]
    tails = []
    for unfolded in (scaled.transpose(1, 0, 2).reshape(10, -1), scaled.transpose(2, 0, 1).reshape(9, -1)):
        tails.append(float(np.square(np.linalg.svd(unfolded, compute_uv=False)[k:]).sum()))
    basis = joint_basis.two_sided(stack, k)
    error = float((basis.errors2 / basis.norms2).sum())
    assert max(tails) - 1e-9 <= error <= sum(tails) + 1e-9


def test_the_two_sided_basis_is_tensorlys_partial_tucker():
    stack = updates(6, 12, 11, 2)
    scaled = dense(stack) / np.sqrt(stack.norms2)[:, None, None]
    (core, _), _ = partial_tucker(tensorly.tensor(scaled), rank=[5, 5], modes=[1, 2], n_iter_max=500, tol=1e-12)
    theirs = float(np.square(scaled).sum() - np.square(core).sum())
    basis = joint_basis.two_sided(stack, 5)
    assert float((basis.errors2 / basis.norms2).sum()) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("kind", "exact"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_the_steps_of_large_layers_end_where_full_decompositions_do(monkeypatch, kind: type, exact: float):
    shared, own = updates(1, 40, 36, 3, 1), updates(30, 40, 36, 2, 2)
    mixed = np.random.default_rng(3).standard_normal((3, 60))
    up, down = shared.up @ mixed + 0.05 * own.up, mixed.T @ shared.down + 0.05 * own.down
    stack = ThinUpdates(up.astype(kind), down.astype(kind), (2,) * 30)
    whole = joint_basis.two_sided(stack, 3)
    monkeypatch.setattr(joint_basis, "_SMALL_SIDE", 0)
    steps = joint_basis.two_sided(stack, 3)
    assert steps.errors2 / stack.norms2 == pytest.approx(whole.errors2 / stack.norms2, abs=exact)
    # Updates that span fewer directions than asked give that many here too.
    fewer = ThinUpdates((shared.up @ mixed).astype(kind), (mixed.T @ shared.down).astype(kind), (2,) * 30)
    assert joint_basis.two_sided(fewer, 6).left.shape == (40, 3)


def test_the_diagonal_basis_is_no_worse_than_tensorlys_parafac():
    stack = updates(6, 12, 11, 2)
    scaled = dense(stack) / np.sqrt(stack.norms2)[:, None, None]
    theirs = min(
        float(
            np.square(
                scaled - tensorly.cp_to_tensor(parafac(tensorly.tensor(scaled), 4, n_iter_max=300, random_state=seed))
            ).sum()
        )
        for seed in range(3)
    )
    basis = joint_basis.diagonal(stack, 4)
    assert float((basis.errors2 / basis.norms2).sum()) <= 1.02 * theirs


@pytest.mark.parametrize("fit", [joint_basis.two_sided, joint_basis.diagonal])
def test_reported_errors_are_those_of_the_rebuilt_matrices(fit):
    stack = updates(7, 10, 8, 3)
    basis = fit(stack, 4)
    parts = zip(dense(stack), rebuilt(basis), basis.cores, basis.relative_errors, strict=True)
    for matrix, found, core, error in parts:
        assert np.linalg.norm(matrix - found) / np.linalg.norm(matrix) == pytest.approx(error, abs=1e-9)
        up, down = joint_basis.thin(basis.left, core, basis.right, 4)
        np.testing.assert_allclose(up @ down, found, atol=1e-9)


def test_a_basis_as_wide_as_the_stack_is_lossless():
    stack = updates(4, 20, 18, 2)
    assert joint_basis.two_sided(stack, 8).relative_errors.max() < 1e-7


@pytest.mark.parametrize(("axis", "k", "rank"), [("both", 16, 4), ("models", 4, 80), ("models", 19, 4)])
def test_a_shared_basis_of_both_sides_keeps_the_rank_and_one_of_models_does_not(axis: str, k: int, rank: int):
    stack = updates(20, 90, 100, 4)
    if axis == "both":
        matrix = rebuilt(joint_basis.two_sided(stack, k))[3]
    else:
        flat = dense(stack).reshape(20, -1)
        center = flat.mean(axis=0)
        basis = np.linalg.svd(flat - center, full_matrices=False)[2][:k]
        matrix = (center + (flat[3] - center) @ basis.T @ basis).reshape(90, 100)
    assert np.linalg.matrix_rank(matrix, tol=1e-9) == rank


def test_weak_models_are_not_sacrificed_to_strong_ones():
    stack = updates(12, 24, 24, 3, norms=np.geomspace(0.1, 10, 12))
    weighted = joint_basis.two_sided(stack, 12).relative_errors
    plain = joint_basis.two_sided(stack, 12, weights=np.ones(12)).relative_errors
    assert weighted.max() < plain.max() - 0.1
    assert np.ptp(weighted) < np.ptp(plain) / 3


@pytest.mark.parametrize("fit", [joint_basis.two_sided, joint_basis.diagonal])
def test_another_gauge_of_the_factors_changes_no_rebuilt_matrix(fit):
    stack = updates(5, 9, 10, 3)
    generator = np.random.default_rng(3)
    ups, downs = [], []
    for up, down in zip(stack.parts(stack.up.T), stack.parts(stack.down), strict=True):
        turn = generator.standard_normal((3, 3)) + 3 * np.eye(3)
        ups.append(up.T @ np.linalg.inv(turn))
        downs.append(turn @ down)
    matrices = [rebuilt(fit(one, 4)) for one in (stack, ThinUpdates.of(ups, downs))]
    # Alternating least squares stops where a sweep gains less than 1e-7 of the error, near its minimum.
    away = 1e-10 if fit is joint_basis.two_sided else 1e-6
    np.testing.assert_allclose(*matrices, rtol=0, atol=away * np.abs(matrices[0]).max())


def test_a_zero_update_costs_nothing_and_breaks_nothing():
    stack = updates(4, 8, 8, 2)
    stack.up[:, :2] = 0
    for basis in (joint_basis.two_sided(stack, 3), joint_basis.diagonal(stack, 3)):
        assert np.isfinite(basis.cores).all()
        assert basis.relative_errors[0] == 0


def test_large_layers_take_the_iterative_way_to_the_same_basis(monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(0)
    shared = generator.standard_normal((60, 4))
    ups = [shared @ generator.standard_normal((4, 3)) + 0.05 * generator.standard_normal((60, 3)) for _ in range(20)]
    stack = ThinUpdates.of(ups, [generator.standard_normal((3, 50)) for _ in range(20)])
    exact = joint_basis.two_sided(stack, 4)
    monkeypatch.setattr(joint_basis, "_SMALL_SIDE", 8)
    iterated = joint_basis.two_sided(stack, 4)
    np.testing.assert_allclose(iterated.relative_errors, exact.relative_errors, atol=2e-3)


def test_own_svd_is_numpys():
    stack = updates(3, 9, 7, 4)
    errors = joint_basis.own_svd_errors(stack, [0, 1, 2, 4])
    for index, matrix in enumerate(dense(stack)):
        sizes = np.linalg.svd(matrix, compute_uv=False)
        expected = [np.sqrt(np.square(sizes[rank:]).sum() / np.square(sizes).sum()) for rank in (0, 1, 2, 4)]
        np.testing.assert_allclose(errors[:, index], expected, atol=1e-7)


def test_the_mean_is_the_mean():
    stack = updates(5, 8, 6, 2)
    matrices = dense(stack)
    expected = np.square(matrices - matrices.mean(axis=0)).sum(axis=(1, 2))
    np.testing.assert_allclose(joint_basis.mean_errors2(stack), expected, rtol=1e-10)


@pytest.mark.parametrize(("bits", "share"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_rounding_normal_numbers_loses_the_known_share(bits: int, share: float):
    # One bit: 1 - 2/pi; more: Max 1960, table 1.
    values = np.random.default_rng(0).standard_normal((64, 4096))
    lost = np.square(values - joint_basis.rounded(values, bits)).sum() / np.square(values).sum()
    assert lost == pytest.approx(share, rel=0.01)


def test_one_bit_of_laplace_numbers_loses_half():
    values = np.random.default_rng(0).laplace(size=(64, 4096))
    lost = np.square(values - joint_basis.rounded(values, 1)).sum() / np.square(values).sum()
    assert lost == pytest.approx(0.5, rel=0.01)


def test_errors_of_rounded_factors_are_those_of_their_products():
    stack = updates(3, 12, 9, 2)
    up, down = joint_basis.rounded(stack.up.T, 4).T, joint_basis.rounded(stack.down, 4)
    rounded = dense(ThinUpdates(up, down, stack.ranks))
    expected = np.square(dense(stack) - rounded).sum(axis=(1, 2))
    np.testing.assert_allclose(joint_basis.rounded_errors2(stack, 4), expected, rtol=1e-8)


def test_the_expected_curve_brackets_the_fit():
    stack = updates(8, 14, 12, 2)
    curve = joint_basis.expected_errors2(stack)
    assert curve[0] == pytest.approx(1)
    assert (np.diff(curve) <= 1e-12).all()
    for k in (2, 5, 9):
        basis = joint_basis.two_sided(stack, k)
        assert float((basis.errors2 / basis.norms2).mean()) == pytest.approx(curve[k], abs=0.12)
