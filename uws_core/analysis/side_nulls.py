"""The null of a side axis: every model keeps its singular values, its directions are random on both sides."""

from __future__ import annotations

from math import ceil

import numpy as np

from uws_core.analysis.noise import noise_norms
from uws_core.analysis.nulls import band_of
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import LayerError
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.spectrum import NullBand

# Rounds in which the drawn models' spectra are corrected until, centred, they are those observed, and at least so many
# centred models a round: with 3 to 10 models and decaying spectra false alarms fall from 10 to 100 % to 2 to 8 %.
_ROUNDS, _MODELS_A_ROUND = 8, 12
# Multiply-adds above which spectra are not corrected: they barely change where models are many.
MOST_MATCHING = 2e12


def haar_band(gram: Gram, factors: Factors, *, draws: int = 20, seed: int = 0, unit: bool = False) -> NullBand:
    """Returns the band of each component's share on a side axis when models share no direction on either side.

    A draw is `W_i = U_i diag(s_i) V_i^T` with orthonormal `U_i`, `V_i` from Haar measure, centred and scaled as the
    observed models are: a decaying spectrum inside every model, which alone bends the curve, is part of the null. About
    the mean the `s_i` are such that the *centred* draws have the centred models' singular values, because centring
    mixes spectra. `gram` and `factors` are of one layer, the same models and the same centre; `unit` as the Gram was
    made.
    Price: about `6 draws * n * m p min(m, p)` multiply-adds, and eight times `n` decompositions for the spectra.

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
    singular, centred = factors.singular[usable], factors.about == "mean"
    if centred:
        singular = _before_centring(rng, singular, gram.layer.shape)
    shares = []
    for _ in range(draws):
        models = _drawn(rng, singular, gram.layer.shape, centred=centred)
        if unit:
            models = models / np.linalg.norm(models, axis=(1, 2), keepdims=True)
        stacked = models.reshape(-1, models.shape[2]) if gram.axis is Axis.IN else np.hstack(list(models)).T
        values = np.maximum(np.linalg.eigvalsh(stacked.T @ stacked)[::-1], 0.0)
        shares.append(values / values.sum())
    seen = spectrum(gram)
    samples = np.array(shares)[:, : seen.variances.size]
    return band_of(seen.ratio, samples, kind="strength", seed=seed, resolved=seen.resolved)


def _drawn(rng: np.random.Generator, singular: Floats, shape: tuple[int, int], *, centred: bool) -> Floats:
    """Models (n, m, p) with these singular values (n, r) and random directions, about their mean if `centred`."""
    models = np.empty((len(singular), *shape))
    for model, own in zip(models, singular, strict=True):
        rank = max(min(int(np.count_nonzero(own > 1e-7 * own[0])), *shape), 1)
        # Rotating the signs by R's diagonal is not needed: only products U diag V^T with independent signs matter.
        left, right = (np.linalg.qr(rng.standard_normal((side, rank)))[0] for side in shape)
        np.matmul(left * own[:rank], right.T, out=model)
    return models - models.mean(axis=0) if centred else models


def _before_centring(rng: np.random.Generator, singular: Floats, shape: tuple[int, int]) -> Floats:
    """The singular values (n, r) of models whose centred ones are `singular`."""
    n = len(singular)
    squares = np.square(singular).sum(axis=1)
    guess = singular * (noise_norms(squares) / np.sqrt(squares))[:, None]
    repeats = ceil(_MODELS_A_ROUND / n)
    if n < 2 or 20.0 * _ROUNDS * repeats * n * min(shape) ** 3 > MOST_MATCHING:
        return np.asarray(guess)
    for step in range(_ROUNDS):
        energy = np.zeros_like(guess)
        for _ in range(repeats):
            values = np.linalg.svd(_drawn(rng, guess, shape, centred=True), compute_uv=False)[:, : guess.shape[1]]
            energy += np.square(values) / repeats
        ratio = np.divide(singular, np.sqrt(energy), out=np.ones_like(guess), where=energy > 0)
        # Half steps first: a full one overshoots while the spectra are far off.
        guess = guess * np.clip(np.sqrt(ratio) if step < 3 else ratio, 0.5, 2.0)
        guess = np.sort(guess, axis=1)[:, ::-1]
    return np.asarray(guess)
