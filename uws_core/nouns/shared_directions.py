"""The count of directions that models share, each against noise without those before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats, frozen

# Below it a collection is too small for a count: with four directions taken away nothing is left to compare with.
LEAST_MODELS = 5
LEVEL = 0.05


@dataclass(frozen=True)
class SharedDirections:
    """Directions shared beyond chance, one after another, until the first that is not.

    `p` (t,) are the tests in order, found ones first and then the one that failed: `(1 + hits) / (1 + draws)`, never
    below `1 / (1 + draws)`. `tail` (t,) are p-values of a Tracy-Widom law fitted to the draws, for ranking what no draw
    reached; `z` (t,) counts standard deviations of the draws. `loadings` (count, n) are each model's
    coordinates along each direction, in its own noise units; their squares sum to 1 a direction. `noise` (n,) is each model's own noise strength.
    `view` is what was flipped: rows, columns, or nothing for the strength null.
    """

    count: int
    p: Floats
    tail: Floats
    z: Floats
    loadings: Floats
    noise: Floats
    kind: str
    view: str
    draws: int
    seed: int
    # Why there is no count; empty where there is one.
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("p", "tail", "z", "loadings", "noise"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def known(self) -> bool:
        """Whether the collection is large enough for a count."""
        return not self.reason

    def carriers(self, direction: int) -> tuple[int, ...]:
        """Returns the fewest models that hold 80 % of a direction's squared loadings, the strongest first."""
        squares = np.square(self.loadings[direction])
        order = np.argsort(-squares, kind="stable")
        most = int(np.searchsorted(np.cumsum(squares[order]), 0.8 * squares.sum())) + 1
        return tuple(int(row) for row in order[:most])
