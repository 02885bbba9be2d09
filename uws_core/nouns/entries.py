"""What the entries of each model's layer look like, from their raw moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats, frozen


@dataclass(frozen=True)
class EntryStats:
    """Raw moments of the entries of each model's layer, so that layers and slabs add; every array is (n,).

    `power1` to `power4` are sums of entries, squares, cubes and fourth powers over `count` entries; `largest` is the
    largest magnitude and `non_finite` counts NaN and infinities (moments of such a model are NaN).
    """

    count: int
    power1: Floats
    power2: Floats
    power3: Floats
    power4: Floats
    largest: Floats
    non_finite: Floats

    def __post_init__(self) -> None:
        for name in ("power1", "power2", "power3", "power4", "largest", "non_finite"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __add__(self, other: EntryStats) -> EntryStats:
        sums = {f"power{i}": getattr(self, f"power{i}") + getattr(other, f"power{i}") for i in (1, 2, 3, 4)}
        return EntryStats(
            count=self.count + other.count,
            largest=np.maximum(self.largest, other.largest),
            non_finite=self.non_finite + other.non_finite,
            **sums,
        )

    @classmethod
    def of_norms(cls, norms2: Floats, count: int) -> EntryStats:
        """The statistics of a pass that learns only the squared norms (n,); every other moment is NaN."""
        unknown = np.full(norms2.shape, np.nan)
        return cls(count, unknown, norms2, unknown, unknown, unknown, (~np.isfinite(norms2)).astype(np.float64))

    @property
    def norm(self) -> Floats:
        """The Frobenius norm of each model's layer."""
        return np.sqrt(self.power2)

    @property
    def mean(self) -> Floats:
        """The mean entry."""
        return self.power1 / self.count

    @property
    def std(self) -> Floats:
        """The standard deviation of the entries (divisor `count`)."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.maximum(self.power2 / self.count - self.mean**2, 0.0))

    @property
    def kurtosis(self) -> Floats:
        """The excess kurtosis of the entries: 0 for a normal, -1.2 for a uniform distribution, NaN if constant."""
        mean, c = self.mean, self.count
        with np.errstate(divide="ignore", invalid="ignore"):
            fourth = self.power4 / c - 4 * mean * self.power3 / c + 6 * mean**2 * self.power2 / c - 3 * mean**4
            variance = self.std**2
            return np.where(variance > 0, fourth / variance**2 - 3, np.nan)
