"""How many numbers a shared representation stores, counted out loud."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from uws_core.nouns.gram import Axis


@dataclass(frozen=True, slots=True)
class Storage:
    """Stored numbers of `n` models at `kept` directions a layer, as integers; one entry a layer in each tuple.

    `basis` and `mean` are stored once for all models, `coefficients` are those of all `n` models together, `dense`
    is what the layers take without sharing: every weight, or the numbers of the stored `factors`. `untouched` are all
    other tensors of all models, stored as they are. `axis` None means both sides, with `kept` of the outputs and
    `kept_in` of the inputs. `notes` says which k was clipped.
    """

    axis: Axis | None
    n: int
    layers: tuple[str, ...]
    kept: tuple[int, ...]
    kept_in: tuple[int, ...]
    basis: tuple[int, ...]
    mean: tuple[int, ...]
    coefficients: tuple[int, ...]
    dense: tuple[int, ...]
    untouched: int = 0
    notes: tuple[str, ...] = ()
    factors: bool = False

    @property
    def shared(self) -> int:
        """Numbers stored for the analysed layers: basis and mean once, coefficients for every model."""
        return sum(self.basis) + sum(self.mean) + sum(self.coefficients)

    @property
    def whole(self) -> int:
        """Numbers stored for the whole checkpoints: the analysed layers shared, all else at full size."""
        return self.shared + self.untouched

    @property
    def ratio(self) -> float:
        """How many times smaller the analysed layers become; below 1 they grow."""
        return float(Fraction(sum(self.dense), self.shared)) if self.shared else float("inf")

    @property
    def ratio_whole(self) -> float:
        """How many times smaller the whole checkpoints become."""
        return float(Fraction(sum(self.dense) + self.untouched, self.whole)) if self.whole else float("inf")

    def per_model(self, layer: int) -> Fraction:
        """One model's share of what layer number `layer` stores: its coefficients, an `n`-th of basis and mean."""
        return Fraction(self.basis[layer] + self.mean[layer] + self.coefficients[layer], self.n)
