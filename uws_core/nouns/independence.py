"""Whether networks were trained independently."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.arrays import Floats, frozen


@dataclass(frozen=True)
class IndependenceTest:
    """An exact test on `networks` networks with `units` hidden units each.

    `statistic` is the mean cosine of units at the same place; `p` is exact at `1 / (1 + copies)`; `samples` (copies,)
    are the statistics of permuted copies.
    """

    networks: int
    units: int
    statistic: float
    p: float
    copies: int
    seed: int
    samples: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", frozen(self.samples))

    def __str__(self) -> str:
        if self.p > 0.05:
            return (
                f"No sign of a common origin: units at the same place are no more alike than others, p = {self.p:.2g}."
            )
        return (
            f"Not trained independently: hidden units at the same place have a cosine of {self.statistic:.2f}, "
            f"p = {self.p:.2g} with {self.copies} permuted copies."
        )
