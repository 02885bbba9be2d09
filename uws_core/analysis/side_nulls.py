"""The strength-matched null of a side axis: every model keeps its own singular values, its directions are random."""

from __future__ import annotations

import numpy as np

from uws_core.analysis.nulls import band_of
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.factors import Factors
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.spectrum import NullBand


def haar_band(gram: Gram, factors: Factors, *, draws: int = 20, seed: int = 0, unit: bool = False) -> NullBand:
    """The band of each component's share on a side axis when each model's directions are drawn from Haar measure.

    A draw is `sum_i V_i diag(s_i^2) V_i^T` with the centred models' singular values `s_i` and orthonormal `V_i`
    (side, rank): a decaying spectrum inside every model, which alone bends the curve, is part of the null. `gram` and
    `factors` are of one layer, the same models and the same centre; `unit` as the Gram was made.
    Price: `2 draws * n * side * rank^2` multiply-adds, 2e12 for 20 draws of 100 models of 768 x 768: draws are few.

    Raises:
        LayerError: the models axis, other models, or singular values that are not all there.

    Source: Mezzadri 2007 (Haar measure from QR).
    """
    usable = factors.usable & (factors.norm2 > 0)
    if gram.axis is Axis.MODELS or gram.labels != factors.labels or not factors.complete:
        raise LayerError(
            f"{gram.layer.name}: the strength null of a side axis needs a side Gram and all singular values of the same"
            f" {gram.n} models; found the {gram.axis} axis and {factors.singular.shape[1]} values of {factors.n}"
        )
    squares = factors.singular[usable] ** 2
    if unit:
        squares = squares / squares.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    shares = np.array([_draw(rng, len(gram.values), squares) for _ in range(draws)])
    seen = spectrum(gram)
    return band_of(seen.ratio, shares[:, : seen.variances.size], kind="strength", seed=seed, resolved=seen.resolved)


def _draw(rng: np.random.Generator, side: int, squares: Floats) -> Floats:
    """The shares (side,), descending, of one draw over models with squared singular values (n, r)."""
    total = np.zeros((side, side))
    for own in squares:
        rank = min(int(np.count_nonzero(own > 1e-14 * own[0])), side)
        # Rotating the signs by R's diagonal is not needed: only the projections V diag V^T matter.
        basis = np.linalg.qr(rng.standard_normal((side, rank)))[0]
        total += (basis * own[:rank]) @ basis.T
    values = np.maximum(np.linalg.eigvalsh(total)[::-1], 0.0)
    return np.asarray(values / values.sum())
