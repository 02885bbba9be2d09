"""The null of a side axis: every model keeps its singular values, its directions are random on both sides."""

from __future__ import annotations

import numpy as np

from uws_core.analysis.noise import noise_norms
from uws_core.analysis.nulls import band_of
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import LayerError
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.spectrum import NullBand

# Rounds in which a draw gets the observed singular values again after it was centred. With 3 to 10 models of decaying
# spectra 2 to 5 rounds bring false alarms from 10 to 100 % to 2 to 8 %, with one model four times as strong too.
_ROUNDS = 4
# Multiply-adds of all rounds, some minutes; where one costs more the draws keep the spectra that centring leaves.
MOST_MATCHING = 4e12


def haar_band(gram: Gram, factors: Factors, *, draws: int = 20, seed: int = 0, unit: bool = False) -> NullBand:
    """Returns the band of each component's share on a side axis when models share no direction on either side.

    A draw is `W_i = U_i diag(s_i) V_i^T` with orthonormal `U_i`, `V_i` from Haar measure, centred and scaled as the
    observed models are: a decaying spectrum inside every model, which alone bends the curve, is part of the null.
    Centring mixes spectra, so about the mean a draw is projected in turn on models with the observed singular values
    and on models whose sum is zero. `gram` and `factors` are of one layer, the same models and the same centre; `unit`
    as the Gram was made.
    Price: about `6 draws * n * m p min(m, p)` multiply-adds, and about the mean a decomposition of every drawn model
    in each of at most four rounds.

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
    rng = np.random.default_rng(seed)
    singular, centred, shape = factors.singular[usable], factors.about == "mean", gram.layer.shape
    shares = []
    for _ in range(draws):
        # Models (n, m, p) with these singular values (n, r) and random directions.
        models = np.empty((len(singular), *shape))
        for model, own in zip(models, singular, strict=True):
            rank = max(min(int(np.count_nonzero(own > 1e-7 * own[0])), *shape), 1)
            # Rotating the signs by R's diagonal is not needed: only products U diag V^T with independent signs matter.
            left, right = (np.linalg.qr(rng.standard_normal((side, rank)))[0] for side in shape)
            np.matmul(left * own[:rank], right.T, out=model)
        if centred:
            models = _centred(models, singular, draws=draws)
        if unit:
            models = models / np.linalg.norm(models, axis=(1, 2), keepdims=True)
        stacked = models.reshape(-1, models.shape[2]) if gram.axis is Axis.IN else np.hstack(list(models)).T
        values = np.maximum(np.linalg.eigvalsh(stacked.T @ stacked)[::-1], 0.0)
        shares.append(values / values.sum())
    seen = spectrum(gram)
    samples = np.array(shares)[:, : seen.variances.size]
    return band_of(seen.ratio, samples, kind="strength", seed=seed, resolved=seen.resolved)


def _centred(models: Floats, singular: Floats, *, draws: int) -> Floats:
    """Random models (n, m, p) of these singular values (n, r) moved to ones that have them about their mean."""
    n, shape = len(models), models.shape[1:]
    squares = np.square(singular).sum(axis=1)
    # Before it is subtracted, their mean takes from each model what noise of such norms would leave.
    moved = models * (noise_norms(squares) / np.sqrt(squares))[:, None, None]
    moved = moved - moved.mean(axis=0)
    strengths = np.zeros((n, min(shape)))
    strengths[:, : singular.shape[1]] = singular[:, : min(shape)]
    for _ in range(min(int(MOST_MATCHING / (20.0 * draws * n * models[0].size * min(shape))), _ROUNDS)):
        left, _, right = np.linalg.svd(moved, full_matrices=False)
        moved = (left * strengths[:, None, :]) @ right
        moved -= moved.mean(axis=0)
    return np.asarray(moved)
