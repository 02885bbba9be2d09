"""Second opinions from random matrix theory: the whole bulk of noise, its largest eigenvalue, one direction in it.

The letters are those of `uws_core.analysis.laws`: `side` eigenvalues, `dof` entries behind each inner product,
`gamma = side / dof`, and noise of variance 1.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from uws_core.analysis.laws import marchenko_pastur_edges
from uws_core.nouns.arrays import Floats


def marchenko_pastur_quantiles(side: int, dof: float, *, points: int = 4096) -> Floats:
    """The `side` noise eigenvalues one expects, descending, as shares of their sum.

    They are the quantiles of the bulk at `(i - 1/2) / side`. With `side > dof` only `dof` of them are not zero.
    """
    alive = int(min(side, dof))
    gamma = side / dof
    low, high = marchenko_pastur_edges(gamma)
    # x = center + radius cos(angle) takes the square roots of the density's ends away.
    angles = np.linspace(0.0, pi, points)
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angles)
    weight = np.sin(angles) ** 2 / np.maximum(x, np.finfo(np.float64).tiny)
    below = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    quantiles = np.interp((np.arange(alive)[::-1] + 0.5) / alive, below / below[-1], x)
    return np.concatenate([quantiles / quantiles.sum(), np.zeros(side - alive)])


def tracy_widom_first(side: int, dof: float) -> tuple[float, float]:
    """Mean and standard deviation of the largest eigenvalue of a real Wishart matrix of `dof` degrees of freedom.

    Source: Johnstone 2001, theorem 1, with the mean -1.2065 and the deviation 1.268 of the Tracy-Widom law of order 1.
    """
    more, less = sqrt(max(dof - 1, 0.0)), sqrt(side)
    a = more + less
    scale = a * (1 / more + 1 / less) ** (1 / 3)
    return a**2 - 1.2065 * scale, 1.268 * scale


def bbp_threshold(gamma: float) -> float:
    """The population variance above which a shared direction shows at all: `1 + sqrt(gamma)`.

    Source: Baik, Ben Arous and Peche 2005.
    """
    return 1 + sqrt(gamma)


def bbp_position(spike: float, gamma: float) -> float:
    """Where a shared direction of variance `spike` shows: above the bulk, or at its edge if it is too weak."""
    if spike <= bbp_threshold(gamma):
        return marchenko_pastur_edges(gamma)[1]
    return spike * (1 + gamma / (spike - 1))


def bbp_overlap(spike: float, gamma: float) -> float:
    """The squared cosine between the direction seen and the true one; 0 below the threshold."""
    if spike <= bbp_threshold(gamma):
        return 0.0
    return (1 - gamma / (spike - 1) ** 2) / (1 + gamma / (spike - 1))
