"""What the others' directions find of each model when it alone is left out: from one decomposition of all models.

Without model `h` the models' covariance in the basis of their eigenvectors is `diag(lambda) - rho y y^T`: `y` the
model's coordinates, `rho = n / (n - 1)` about the mean of the others and 1 about a fixed point. Each eigenvalue `mu`
of it lies between two neighbouring lambda and solves `1 = rho sum_j y_j^2 / (lambda_j - mu)`, and its direction
captures `1 / sum_j (y_j / (lambda_j - mu))^2` of the model. That is `n^2` work a model where a decomposition takes
`n^3`: 300 models 0.7 s of a core instead of 2.9 s.

Source: Golub 1973 (the equation); Li 1994 (LAPACK working note 89, the iteration).
"""

from __future__ import annotations

import numpy as np

from uws_core.analysis.cores import on_every_core
from uws_core.analysis.residuals import Fit, Indices
from uws_core.analysis.subspace import EPS
from uws_core.nouns.arrays import Bools, Floats

# Fewer models are decomposed one by one as fast.
LEAST_MODELS = 96
# Where the eigenvalues span more than that, taking one model away loses digits: 1e7 leaves nine, 1e10 five.
MOST_RANGE = 1e7
# Roots solved at a time: 4 MB of differences for 1,000 models.
_COLUMNS = 512
_STEPS, _SETTLED = 60, 1e-10


def left_out_alone(inner: Floats, targets: Indices, ks: Indices, *, about: str, floor: float) -> list[Fit] | None:
    """What `residuals.rebuilt` returns for each of `targets` from all models but it, to 1e-9 of the start.

    `inner` (n, n) is about the models' mean, or about the fixed point that `about` names. None for few models, which
    are decomposed as fast, and for eigenvalues of too wide a range.
    """
    n = len(inner)
    if n < LEAST_MODELS:
        return None
    values, vectors = np.linalg.eigh(inner)
    values, vectors = values[::-1], vectors[:, ::-1]
    rounding = max(floor, n * EPS * max(float(values[0]), 0.0))
    r = int(np.count_nonzero(values > rounding))
    if not r or values[0] > MOST_RANGE * values[r - 1]:
        return None
    values, squares = values[:r], np.square(vectors[:, :r]) * values[:r]
    # About their own mean the others see the model n / (n - 1) times as far away as all do.
    rho = n / (n - 1) if about == "mean" else 1.0
    start2 = np.maximum(np.diag(inner), 0.0) * rho**2

    def fit(row: int) -> Fit:
        roots, captured = _captured(values, squares[row], rho)
        count = int(np.count_nonzero(roots > rounding))
        left = start2[row] - np.concatenate([[0.0], np.cumsum(captured[:count])])
        return Fit(np.maximum(left[np.minimum(ks, count)], 0.0)[None], start2[row, None], count)

    return list(on_every_core(fit, targets.tolist(), what="model"))


def _captured(values: Floats, squares: Floats, rho: float) -> tuple[Floats, Floats]:
    """The eigenvalues (r,) without one model, descending, and what the direction of each captures of it (r,)."""
    # A coordinate of exactly zero has no root beside it; one of rounding size captures nothing either.
    weights = rho * np.maximum(squares, EPS**2 * max(float(squares.sum()), np.finfo(float).tiny / EPS**2))
    # A guess may fall on a pole, which the bracket corrects.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        parts = [
            _roots(values, weights, np.arange(first, min(first + _COLUMNS, values.size)))
            for first in range(0, values.size, _COLUMNS)
        ]
    roots, norms2 = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return roots, np.divide(rho, norms2, out=np.zeros_like(norms2), where=norms2 > 0)


def _roots(values: Floats, weights: Floats, columns: Indices) -> tuple[Floats, Floats]:
    """The root (c,) below each of these eigenvalues, and `sum_j weights_j / (lambda_j - mu)^2` there."""
    last = columns == values.size - 1
    upper, lower = values[columns], np.append(values[1:], 0.0)[columns]
    gap, middle = upper - lower, np.zeros(columns.size)
    apart = np.flatnonzero(gap > 0)
    middle[apart] = 1 - np.reciprocal(values - (upper - gap / 2)[apart, None]) @ weights
    # Measured from the nearer pole, which tells differences of nearly equal numbers exactly; zero is no pole.
    down = (middle > 0) | last
    pole, sign = np.where(down, upper, lower), np.where(down, -1.0, 1.0)
    above = np.tri(columns.size, values.size, int(columns[0]))
    # The root lies `shift` below or above its pole, between `low` and `high`.
    low, high = np.zeros(columns.size), np.where(last, gap, gap / 2)
    shift, norms2, busy = high.copy(), np.full(columns.size, np.inf), apart
    for _ in range(_STEPS):
        if not busy.size:
            break
        now = shift[busy]
        inverse = np.reciprocal((values - pole[busy, None]) - (sign[busy] * now)[:, None])
        error = 1 - inverse @ weights
        slopes = np.square(inverse, out=inverse) @ weights
        first = np.multiply(inverse, above[busy], out=inverse) @ weights
        norms2[busy] = slopes
        # The equation falls from one pole to the next: where it is above zero the root lies higher.
        beyond = (error > 0) == down[busy]
        high[busy], low[busy] = np.where(beyond, now, high[busy]), np.where(beyond, low[busy], now)
        to_upper = upper[busy] - pole[busy] - sign[busy] * now
        new = _nearer(error, first, slopes - first, to_upper, gap[busy], down[busy], last[busy])
        settled = (np.abs(new - now) <= _SETTLED * now) | (error == 0)
        between = np.where(low[busy] > 0, np.sqrt(low[busy] * high[busy]), high[busy] / 2)
        shift[busy] = np.where(settled | ((new > low[busy]) & (new < high[busy])), new, between)
        busy = busy[~settled]
    return pole + sign * shift, norms2


def _nearer(
    error: Floats, first: Floats, second: Floats, to_upper: Floats, gap: Floats, down: Bools, last: Bools
) -> Floats:
    """How far from its pole (c,) each root lies by the equation with its two poles only, of the same value and slopes.

    `first` and `second` are the slopes of the terms from the upper pole on, and from the lower.
    """
    top, bottom = to_upper**2 * first, (to_upper - gap) ** 2 * second
    constant = error + to_upper * first + (to_upper - gap) * second
    single = top / (error + to_upper * first)
    near, constant = np.where(down, top, bottom), np.where(down, constant, -constant)
    b = constant * gap + top + bottom
    root = np.sqrt(np.maximum(b**2 - 4 * constant * near * gap, 0.0))
    double = np.where(b > 0, 2 * near * gap / (b + root), (b - root) / (2 * constant))
    return np.where(last, single, double)
