"""The three-sided decomposition of a layer's models: its error at some directions a side, bounded or exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats, frozen


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
