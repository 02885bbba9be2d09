"""Models whose singular values decay and whose directions are random, for the null of the side axes."""

from __future__ import annotations

import numpy as np

from tests.planted import side_gram_of
from uws_core.analysis.side_nulls import haar_band
from uws_core.nouns.angles import Factors
from uws_core.nouns.gram import Axis

SIDE = 16
# Singular values by their place 0 .. SIDE - 1.
DECAYS = {
    "flat": np.ones(SIDE),
    "0.9^i": 0.9 ** np.arange(SIDE),
    "0.7^i": 0.7 ** np.arange(SIDE),
    "1 / i": 1 / np.arange(1, SIDE + 1),
}
SIDE_NORMS = ("equal", "log-normal .5", "one 4x")


def factors_of(array: np.ndarray) -> Factors:
    """The factors of models (n, m, p) about their mean, with all singular values and four directions."""
    away = array - array.mean(axis=0)
    left, singular, right = np.linalg.svd(away, full_matrices=False)
    gram = side_gram_of(array, axis=Axis.IN)
    return Factors(
        layer=gram.layer,
        labels=gram.labels,
        about="mean",
        left=left[:, :, :4],
        right=right.transpose(0, 2, 1)[:, :, :4],
        singular=singular,
        norm2=(singular**2).sum(axis=1),
        residual=np.zeros(len(array)),
    )


def haar_models(rng: np.random.Generator, strengths: np.ndarray, n: int) -> np.ndarray:
    """`n` square matrices with these singular values and directions that are random on both sides."""
    side = len(strengths)

    def turn() -> np.ndarray:
        return np.linalg.qr(rng.standard_normal((side, side)))[0]

    return np.array([(turn() * strengths) @ turn().T for _ in range(n)])


def side_alarms(n: int, decay: str, norms: str, repetitions: int) -> dict[str, float]:
    """The rate at which the first component has p <= 5 % on each side axis, for `n` models that share nothing."""
    alarms = dict.fromkeys((Axis.IN, Axis.OUT), 0)
    for seed in range(repetitions):
        rng = np.random.default_rng([seed, n])
        sizes = {
            "equal": np.ones(n),
            "log-normal .5": np.exp(0.5 * rng.standard_normal(n)),
            "one 4x": np.r_[4.0, np.ones(n - 1)],
        }[norms]
        array = haar_models(rng, DECAYS[decay], n) * sizes[:, None, None]
        factors = factors_of(array)
        for axis in alarms:
            band = haar_band(side_gram_of(array, axis=axis), factors, draws=39, seed=seed)
            alarms[axis] += bool(band.p[0] <= 0.05)
    return {str(axis): alarms[axis] / repetitions for axis in alarms}
