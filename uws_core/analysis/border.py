"""A model more or less: inner products grown by a border, what they are without the old weights, incremental SVD.

Letters: n old models, t new ones, inner products about a fixed reference (zero, the base), so that old ones stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats


def grown(values: Floats, cross: Floats, own: Floats) -> Floats:
    """Returns inner products (n + t, n + t) from the old (n, n), those of old with new (n, t), and the new (t, t)."""
    return np.block([[values, cross], [cross.T, own]])


def centred(values: Floats) -> Floats:
    """Returns inner products about the models' mean from those about any reference: `J G J`."""
    toward = values.mean(axis=0)
    return np.asarray(values - toward[:, None] - toward[None, :] + toward.mean())


def cross_bound(old_residuals: Floats, new_residual: float) -> Floats:
    """Returns how far off (n,) an inner product with a new model can be when a basis stands for the old weights.

    With coefficients C = P W of the old models, `|<W_i, y> - <P W_i, y>| <= |(I - P) W_i| |(I - P) y|`; 0 where either
    residual is. Source: Cauchy-Schwarz.
    """
    return np.asarray(old_residuals * new_residual)


@dataclass(frozen=True)
class RunningSvd:
    """The leading singular values (k,) and directions (d, k) of rows seen so far about their `mean` (d,), and `lost`.

    `lost` is the energy that was cut off; with the kept it is all there is, so the captured share is a lower bound.
    """

    sizes: Floats
    directions: Floats
    mean: Floats
    count: int
    lost: float = 0.0

    @property
    def kept(self) -> float:
        """The energy of the kept directions."""
        return float(np.square(self.sizes).sum())

    @classmethod
    def of(cls, rows: Floats, k: int) -> RunningSvd:
        """The leading k of some rows (n, d)."""
        mean = rows.mean(axis=0)
        _, sizes, right = np.linalg.svd(rows - mean, full_matrices=False)
        return cls(sizes[:k], right[:k].T, mean, len(rows), float(np.square(sizes[k:]).sum()))

    def with_row(self, row: Floats, k: int) -> RunningSvd:
        """Returns the same with one more row (d,), cut to k directions; exact while nothing was cut.

        Price: `d k^2`. Source: Brand 2002; Ross, Lim, Lin and Yang 2008 for the mean.
        """
        n = self.count
        step = np.sqrt(n / (n + 1)) * (row - self.mean)
        # Twice: one projection leaves 1e-8 of the directions in a row that lies almost among them.
        inside = self.directions.T @ step
        rest = step - self.directions @ inside
        again = self.directions.T @ rest
        inside, rest = inside + again, rest - self.directions @ again
        size = float(np.linalg.norm(rest))
        # A row among the directions adds none; what is left of it is rounding.
        new = size > 1e-12 * max(float(np.linalg.norm(step)), 1e-300)
        core = np.zeros((self.sizes.size + 1, self.sizes.size + new))
        core[:-1, : self.sizes.size] = np.diag(self.sizes)
        core[-1] = [*inside, size] if new else inside
        _, sizes, turned = np.linalg.svd(core, full_matrices=False)
        wide = np.column_stack([self.directions, rest / size]) if new else self.directions
        lost = self.lost + float(np.square(sizes[k:]).sum())
        mean = self.mean + (row - self.mean) / (n + 1)
        return RunningSvd(sizes[:k], wide @ turned[:k].T, mean, n + 1, lost)
