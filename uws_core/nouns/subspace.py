"""A shared subspace, as far as the analysis needs it: combinations of models, or a basis of one side."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.gram import Axis


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
        """How many directions there are: at most as many as were asked for."""
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
