"""The bulk of the eigenvalues of pure noise by random matrix theory.

`dof` is the number of independent entries behind each inner product, `side` the number of eigenvalues: on the models
axis about the mean `side = n - 1` and `dof = d`. `gamma = side / dof`. Noise has variance 1 unless said otherwise.
"""

from __future__ import annotations

from math import sqrt


def marchenko_pastur_edges(gamma: float) -> tuple[float, float]:
    """The ends of the bulk of a noise covariance: `(1 - sqrt(gamma))^2` and `(1 + sqrt(gamma))^2`.

    Source: Marchenko and Pastur 1967.
    """
    return (1 - sqrt(gamma)) ** 2, (1 + sqrt(gamma)) ** 2


def share_edge(side: int, dof: float) -> float:
    """The bulk's upper edge as a share of the total variance of `side` noise eigenvalues."""
    return marchenko_pastur_edges(side / dof)[1] / side
