"""Whether networks were trained independently."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.arrays import Floats, frozen

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class HiddenLayer:
    """The matrices around one hidden layer of an MLP: `name`, and each layer with the side its hidden units are on.

    `sides` are "out" (units are the rows, as stored) or "in" (columns), one for each of `layers`, all of which have
    `units` of them.
    """

    name: str
    layers: tuple[str, ...]
    sides: tuple[str, ...]
    units: int


@dataclass(frozen=True)
class IndependenceTest:
    """An exact test on `networks` networks by `units` hidden units of each.

    `statistic` is the mean cosine of units at the same place; `p` is exact at `1 / (1 + copies)`; `samples` (copies,)
    are the statistics of permuted copies. `hidden` names the hidden layer, `labels` the networks, where known.
    """

    networks: int
    units: int
    statistic: float
    p: float
    copies: int
    seed: int
    samples: Floats
    hidden: str = ""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", frozen(self.samples))

    def __str__(self) -> str:
        compared = f"p = {self.p:.2g} with {self.copies} permuted copies"
        if self.p > LEVEL:
            return f"No sign of a common origin: units at the same place are no more alike than others, {compared}."
        who = "Not trained independently" if self.networks == 2 else "At least two were not trained independently"
        return f"{who}: hidden units at the same place have a mean cosine of {self.statistic:.2g}, {compared}."
