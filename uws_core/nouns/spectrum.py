"""What an eigen-decomposition of a Gram says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.chance import NullBand as NullBand
from uws_core.nouns.chance import ScalarNull as ScalarNull
from uws_core.nouns.gram import RESOLVED, Axis
from uws_core.nouns.models import LayerKey, LeftOut


@dataclass(frozen=True, slots=True)
class Rank:
    """A number of directions; `censored` means "more than this many": no more were kept, or the others are rounding."""

    k: int
    censored: bool = False

    def __str__(self) -> str:
        return f"more than {self.k}" if self.censored else str(self.k)


@dataclass(frozen=True)
class Spectrum:
    """Variances along the principal directions, descending: eigenvalues of the Gram, not divided by n.

    `total` is the full variance (the trace), also where fewer `variances` were kept; `floor` the size below which a
    variance is rounding; `ceiling` the largest number of non-zero variances there can be (n - 1 about the mean on
    the models axis); `clipped` counts negative eigenvalues set to 0. `about`, `unit` and `single` (precision) say how
    it was made, `n` counts the models in it and `left_out` names those that have no direction (zero norm) and so no
    place in a `unit` spectrum.
    """

    variances: Floats
    total: float
    floor: float
    ceiling: int
    n: int
    d: int
    axis: Axis = Axis.MODELS
    about: str = "mean"
    unit: bool = False
    clipped: int = 0
    left_out: tuple[LeftOut, ...] = ()
    single: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "variances", frozen(self.variances))

    @property
    def resolved(self) -> int:
        """How many leading variances stand above the floor; 0 where the first is not `RESOLVED` times as large.

        Below that, all shares are made of rounding: nothing can be counted, and nothing compared with chance.
        """
        if not self.variances.size or self.variances[0] <= RESOLVED * self.floor:
            return 0
        return int(np.count_nonzero(self.variances > self.floor))

    @property
    def blurred(self) -> bool:
        """Whether rounding hides what distinguishes the models, so that one cannot tell whether they differ."""
        return not self.resolved and self.floor > 0

    @property
    def precision(self) -> str:
        """The precision that products were formed in, in words."""
        return "single precision" if self.single else "double precision"

    @property
    def ratio(self) -> Floats:
        """Each direction's share of the total variance; all zero when there is no variance."""
        return self.variances / self.total if self.total > 0 else np.zeros_like(self.variances)

    @property
    def cumulative(self) -> Floats:
        """The share carried by the first k directions, at most 1."""
        return np.minimum(np.cumsum(self.ratio), 1.0)

    @property
    def effective_rank(self) -> float:
        """`exp(entropy of the shares)`, 0 when there is no variance. Source: Roy and Vetterli 2007."""
        shares = self.ratio[self.ratio > 0]
        return float(np.exp(-np.sum(shares * np.log(shares)))) if shares.size else 0.0

    def rank_for(self, share: float) -> Rank:
        """The fewest directions that carry `share` of the variance; "more than k" if others are not kept, or rounding.

        Raises:
            ValueError: `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise ValueError(f"A share lies above 0 and at most at 1; found {share}")
        if self.total <= 0 and not self.blurred:
            return Rank(0)
        # Sums of float64 shares end at 1 only to rounding; 1e-12 is far above that and far below any share asked for.
        reached = np.flatnonzero(self.cumulative >= share - 1e-12)
        most = min(self.resolved, self.variances.size)
        found = int(reached[0]) + 1 if reached.size else self.variances.size + 1
        return Rank(found) if found <= most else Rank(most, censored=True)


@dataclass(frozen=True)
class PooledSpectrum:
    """Mean and standard deviation over layers of the shares and of their running sums; every array is (k,).

    Shorter spectra are filled with zeros, which is what a direction beyond a ceiling carries. `layers` counts the
    layers that were pooled, `empty` those without any variance above rounding, which have no shares.
    """

    mean: Floats
    std: Floats
    cumulative_mean: Floats
    cumulative_std: Floats
    layers: int
    empty: int = 0

    def __post_init__(self) -> None:
        for name in ("mean", "std", "cumulative_mean", "cumulative_std"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


@dataclass(frozen=True)
class LayerSpectrum:
    """One layer's spectrum with its band, as pages and frames take it; `layers` counts the layers summed into it.

    `left_out` names the models that take no part in them.
    """

    layer: LayerKey
    spectrum: Spectrum
    band: NullBand | None = None
    layers: int = 1
    left_out: tuple[LeftOut, ...] = ()
