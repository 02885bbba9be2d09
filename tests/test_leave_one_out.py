"""Every model left out by one decomposition of all agrees with decomposing the others of each."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planted import noise, spiked
from uws_core.analysis.leave_one_out import LEAST_MODELS, left_out_alone
from uws_core.analysis.residuals import rebuilt, within

N = 120
EVERYONE = np.arange(N)
KINDS = {
    "spiked": spiked(N, 400, strengths=(60, 40), seed=0),
    "fewer weights than models": spiked(N, 50, strengths=(30,), seed=1),
    "three copies of each": np.repeat(noise(N // 3, 200, seed=2), 3, axis=0),
    "equal eigenvalues": np.eye(N),
    "one strong model": noise(N, 400, seed=3) * np.r_[100.0, np.ones(N - 1)][:, None],
    "one at the centre": np.vstack([noise(N - 1, 400, seed=4), np.zeros((1, 400))]),
}


@pytest.mark.parametrize("about", ["mean", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_a_decomposition_of_the_others(kind: str, about: str) -> None:
    inner = within(KINDS[kind] @ KINDS[kind].T, EVERYONE, about)
    found = left_out_alone(inner, EVERYONE, EVERYONE, about=about, floor=0.0)
    assert found is not None
    for row in (0, 1, 57, N - 1):
        expected = rebuilt(inner, np.delete(EVERYONE, row), np.array([row]), EVERYONE, about=about, floor=0.0)
        scale = float(np.diag(inner).max())
        np.testing.assert_allclose(found[row].start2, expected.start2, atol=1e-12 * scale)
        np.testing.assert_allclose(found[row].residual2, expected.residual2, atol=1e-8 * scale)
        assert found[row].ceiling == expected.ceiling


def test_eigenvalues_of_too_wide_a_range_and_few_models_are_left_to_the_decomposition() -> None:
    wide = noise(N, 400, seed=5) * np.geomspace(1, 1e-5, N)[:, None]
    assert left_out_alone(wide @ wide.T, EVERYONE, EVERYONE, about="zero", floor=0.0) is None
    few = noise(LEAST_MODELS - 1, 400, seed=6)
    assert left_out_alone(few @ few.T, np.arange(3), EVERYONE, about="zero", floor=0.0) is None
