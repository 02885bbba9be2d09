"""The truncated HOSVD: bounds from three spectra, the exact error from one core, and the toy on all three axes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorly
from tensorly.decomposition import tucker

from tests.planted import gram_of, noise, side_gram_of, toy
from uws_core.analysis.hosvd import corners, ranks_at, tucker_bounds
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.spectrum import Core, Kept, Rank, Spectrum


def spectra_of(stack: Floats) -> dict[Axis, Spectrum]:
    _, m, p = stack.shape
    return {
        Axis.MODELS: spectrum(gram_of(stack, shape=(m, p))),
        Axis.OUT: spectrum(side_gram_of(stack, axis=Axis.OUT)),
        Axis.IN: spectrum(side_gram_of(stack, axis=Axis.IN)),
    }


def hosvd_error(stack: Floats, kept: Kept) -> float:
    """The error of the sequentially untruncated HOSVD, the plain way."""
    away = stack - stack.mean(axis=0)
    rebuilt = away
    for axis, k in enumerate((kept.models, kept.out, kept.into)):
        flat = np.moveaxis(away, axis, 0).reshape(away.shape[axis], -1)
        basis = np.linalg.svd(flat, full_matrices=False)[0][:, :k]
        rebuilt = np.moveaxis(np.tensordot(basis @ basis.T, rebuilt, (1, axis)), 0, axis)
    return float(np.sum((away - rebuilt) ** 2) / np.sum(away**2))


def test_the_toy_comes_out_exactly_on_all_three_axes():
    found = spectra_of(toy())
    np.testing.assert_allclose(found[Axis.MODELS].variances, [4, 4, 4, 0], atol=1e-12)
    np.testing.assert_allclose(found[Axis.IN].variances, [8, 4], atol=1e-12)
    np.testing.assert_allclose(found[Axis.OUT].variances, [8, 4], atol=1e-12)


@pytest.mark.parametrize("kept", [Kept(2, 3, 4), Kept(1, 1, 1), Kept(5, 6, 2), Kept(5, 6, 7)])
def test_the_error_lies_between_its_bounds(kept: Kept):
    stack = noise(6, 42, seed=0).reshape(6, 6, 7)
    stack += 4 * np.einsum("n,m,p->nmp", *(noise(1, size, seed=size)[0] for size in (6, 6, 7)))
    bounds = tucker_bounds(spectra_of(stack), kept)
    exact = hosvd_error(stack, kept)
    assert bounds.low - 1e-12 <= exact <= bounds.high + 1e-12
    # The best approximation of that rank is no worse than ours and no better than the bound allows.
    away = stack - stack.mean(axis=0)
    core, bases = tucker(away, rank=[kept.models, kept.out, kept.into], n_iter_max=200, tol=1e-10)
    best = np.sum((away - tensorly.tucker_to_tensor((core, bases))) ** 2) / np.sum(away**2)
    assert bounds.low - 1e-9 <= best <= exact + 1e-9


def test_the_corners_are_all_that_a_share_can_ask_for():
    spectra = spectra_of(noise(6, 42, seed=2).reshape(6, 6, 7))
    found = corners(spectra, [step / 1000 for step in range(1, 1000)])
    assert len(found) == len(set(found)) <= 5 + 6 + 7
    for share in (0.01, 0.333, 0.9, 0.999):
        ranks = ranks_at(spectra, share)
        assert Kept(ranks[Axis.MODELS].k, ranks[Axis.OUT].k, ranks[Axis.IN].k) in found


def test_one_sided_truncation_is_the_spectrum_itself():
    stack = noise(6, 42, seed=1).reshape(6, 6, 7)
    bounds = tucker_bounds(spectra_of(stack), Kept(5, 6, 3))
    assert bounds.low == pytest.approx(bounds.high)
    assert bounds.low == pytest.approx(hosvd_error(stack, Kept(5, 6, 3)))


def test_spectra_of_other_models_are_refused():
    found = spectra_of(noise(6, 42, seed=2).reshape(6, 6, 7))
    other = spectra_of(noise(5, 42, seed=3).reshape(5, 6, 7))
    with pytest.raises(LayerError, match="different models or centres"):
        tucker_bounds(found | {Axis.IN: other[Axis.IN]}, Kept(1, 1, 1))
    with pytest.raises(LayerError, match="in is missing"):
        tucker_bounds({axis: found[axis] for axis in (Axis.MODELS, Axis.OUT)}, Kept(1, 1, 1))


def test_ranks_at_a_share_come_for_each_axis():
    assert ranks_at(spectra_of(toy()), 0.6) == {Axis.MODELS: Rank(2), Axis.OUT: Rank(1), Axis.IN: Rank(1)}


def test_every_corner_of_the_core_is_a_truncation():
    squares = np.arange(24.0).reshape(2, 3, 4)
    core = Core(squares, total2=400.0)
    assert core.error(Kept(1, 2, 3)) == pytest.approx(1 - squares[:1, :2, :3].sum() / 400)
    every = core.errors()
    assert every.shape == (3, 4, 5)
    assert every[1, 2, 3] == pytest.approx(core.error(Kept(1, 2, 3)))
    assert every[0, 0, 0] == 1
    with pytest.raises(ValueError, match="were asked for"):
        core.error(Kept(3, 1, 1))
