"""One model more: borders against fresh products, bounds without old weights, incremental SVD against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import IncrementalPCA

from uws_core.analysis.border import RunningSvd, centred, cross_bound, grown


def decaying(n: int, d: int, power: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    left = np.linalg.qr(generator.standard_normal((n, n)))[0]
    right = np.linalg.qr(generator.standard_normal((d, n)))[0]
    return left * np.arange(1, n + 1.0) ** -power @ right.T


def test_a_border_gives_the_fresh_products_and_eigenvalues_interlace():
    rows = np.random.default_rng(0).standard_normal((24, 300)) + 50
    reference = rows[0]
    about = rows - reference
    old = about[:20] @ about[:20].T
    values = centred(grown(old, about[:20] @ about[20:].T, about[20:] @ about[20:].T))
    away = rows - rows.mean(axis=0)
    np.testing.assert_allclose(values, away @ away.T, atol=1e-12 * np.trace(away @ away.T))
    before = np.linalg.eigvalsh(old)
    after = np.linalg.eigvalsh(grown(old, (about[:20] @ about[20])[:, None], np.array([[about[20] @ about[20]]])))
    slack = 1e-10 * after[-1]
    assert (after[:-1] <= before + slack).all()
    assert (before <= after[1:] + slack).all()


@given(seed=st.integers(0, 10_000), k=st.integers(1, 8))
def test_products_by_coefficients_are_within_the_bound(seed: int, k: int):
    generator = np.random.default_rng(seed)
    rows, new = generator.standard_normal((9, 30)), generator.standard_normal(30)
    basis = np.linalg.qr(generator.standard_normal((30, k)))[0]
    estimate = (rows @ basis) @ (basis.T @ new)
    residuals = np.linalg.norm(rows - rows @ basis @ basis.T, axis=1)
    bound = cross_bound(residuals, float(np.linalg.norm(new - basis @ (basis.T @ new))))
    assert (np.abs(rows @ new - estimate) <= bound * (1 + 1e-12)).all()
    # A new model in the span of the basis is exact.
    inside = basis @ generator.standard_normal(k)
    np.testing.assert_allclose(rows @ inside, (rows @ basis) @ (basis.T @ inside), atol=1e-12)


def streamed(rows: np.ndarray, k: int) -> RunningSvd:
    running = RunningSvd.of(rows[: k + 1], k)
    for row in rows[k + 1 :]:
        running = running.with_row(row, k)
    return running


def test_incremental_svd_is_exact_while_nothing_is_cut():
    rows = np.random.default_rng(1).standard_normal((15, 60)) + 3
    running = streamed(rows, 14)
    exact = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[:14]
    np.testing.assert_allclose(running.sizes, exact, atol=1e-12 * exact[0])
    assert running.lost < 1e-24 * exact[0] ** 2


@pytest.mark.parametrize(
    ("power", "exact", "brand"), [(0.5, 0.6384, 0.6299), (1.0, 0.9424, 0.9414), (2.0, 0.9995, 0.9995)]
)
def test_kept_and_lost_are_the_total_and_the_share_is_a_lower_bound(power: float, exact: float, brand: float):
    rows = decaying(40, 600, power)
    running = streamed(rows, 8)
    away = rows - rows.mean(axis=0)
    total = float(np.square(away).sum())
    assert running.kept + running.lost == pytest.approx(total, rel=1e-12)
    best = float(np.square(np.linalg.svd(away, compute_uv=False)[:8]).sum())
    captured = float(np.square(away @ running.directions).sum())
    assert running.kept <= captured * (1 + 1e-12)
    assert captured <= best * (1 + 1e-12)
    # Near the published shares of other draws, and no worse than scikit-learn's in batches.
    assert best / total == pytest.approx(exact, abs=0.02)
    assert captured / total == pytest.approx(brand, abs=0.03)
    theirs = IncrementalPCA(8, batch_size=9).fit(rows)
    assert captured >= float(np.square(away @ theirs.components_.T).sum()) * 0.98
