"""Spectra, the shared subspace of their leading directions, and the three-sided decomposition of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.chance import NullBand as NullBand
from uws_core.nouns.chance import ScalarNull as ScalarNull
from uws_core.nouns.gram import RESOLVED, Axis
from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.nouns.shown import Shown


@dataclass(frozen=True, slots=True)
class Rank:
    """A number of directions; `censored` means "more than this many": no more were kept, or the others are rounding."""

    k: int
    censored: bool = False

    def __str__(self) -> str:
        return f"more than {self.k}" if self.censored else str(self.k)


@dataclass(frozen=True)
class Spectrum(Shown):
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
    def below_precision(self) -> bool:
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
        if self.total <= 0 and not self.below_precision:
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


@dataclass(frozen=True)
class Subspace:
    """The `k` leading orthonormal directions of some models about one centre, strongest first.

    On `Axis.MODELS` a direction lives in `R^d` and is written without it: direction `j` is `sum_i coefficients[i,
    j] (W_i - c)` with `coefficients` (n, k) over all models of the Gram, zero outside `members`. About the mean
    each column sums to 0, so that any `c` gives the same direction. On the side axes `basis` (side, k) holds the
    directions themselves. The other of the two arrays is empty. `variances` (k,) are the eigenvalues that belong to
    them, `gap` the next one's distance relative to the last kept (0 means that the choice of the last direction is
    arbitrary). `asked` is the k asked for, `ceiling` the most there can be; `floor` is the rounding of `variances`;
    `dimension` is that of the space the directions live in, for chance: the entries of a layer (for a sum of
    unequal layers the number of equal entries that scatter as much), or the side.
    """

    axis: Axis
    about: str
    members: tuple[int, ...]
    coefficients: Floats
    basis: Floats
    variances: Floats
    asked: int
    ceiling: int
    dimension: int
    floor: float
    gap: float

    def __post_init__(self) -> None:
        for name in ("coefficients", "basis", "variances"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def k(self) -> int:
        """The number of directions: at most as many as were asked for."""
        return self.variances.size

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: that k was clipped, or that the last direction is arbitrary."""
        said = []
        if self.k < self.asked:
            said.append(f"{self.asked} directions were asked for, {len(self.members)} models give {self.k}")
        if 0 < self.k < self.ceiling and self.gap < 1e-6:
            said.append(f"directions {self.k} and {self.k + 1} carry equal variance: the cut between them is arbitrary")
        return tuple(said)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many directions are kept on each axis: of models, of outputs, of inputs."""

    models: int
    out: int
    into: int


@dataclass(frozen=True, slots=True)
class TuckerBounds:
    """Between which relative squared errors the truncated HOSVD at `kept` lies, known from three spectra alone.

    `tails` are the shares of the variance beyond k on the three axes, in the order of `Kept`. The error is at least
    the largest and at most their sum. Source: De Lathauwer, De Moor, Vandewalle 2000, property 10.
    """

    kept: Kept
    tails: tuple[float, float, float]

    @property
    def low(self) -> float:
        """The least the error can be."""
        return max(self.tails)

    @property
    def high(self) -> float:
        """The most the error can be; never above 1."""
        return min(sum(self.tails), 1.0)


@dataclass(frozen=True)
class Core:
    """The squared entries (k_models, k_out, k_in) of a layer's HOSVD core, and `total2 = |X|^2` about the mean.

    Every smaller truncation is a corner of the same core, so one pass answers all of them.
    """

    squares: Floats
    total2: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "squares", frozen(self.squares))

    def error(self, kept: Kept) -> float:
        """The relative squared error `(|X|^2 - |core|^2) / |X|^2` at `kept`; NaN without variance.

        Raises:
            ValueError: more directions than the core has.
        """
        if any(k > most for k, most in zip((kept.models, kept.out, kept.into), self.squares.shape, strict=True)):
            raise ValueError(f"The core has {self.squares.shape} directions, {kept} were asked for")
        inside = float(self.squares[: kept.models, : kept.out, : kept.into].sum())
        return max(1 - inside / self.total2, 0.0) if self.total2 > 0 else float("nan")

    def errors(self) -> Floats:
        """The relative squared error at every corner, (k_models + 1, k_out + 1, k_in + 1)."""
        sums = np.pad(self.squares, ((1, 0), (1, 0), (1, 0)))
        for axis in range(3):
            sums = np.cumsum(sums, axis=axis)
        return np.asarray(np.maximum(1 - sums / self.total2, 0.0))
