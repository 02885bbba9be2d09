"""Two models side by side: how one layer of them differs."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.models import LayerKey


@dataclass(frozen=True, slots=True)
class PairLayer:
    """The difference of two models in one layer.

    `cosine` is that of the raw weights, NaN where a norm is rounding. `difference` is `|W_l - W_r|` over the mean of
    the two norms: 0 for equal weights, about 1.4 for unrelated ones of one norm. `differs` is False where it is
    rounding. `effective_rank` is that of `W_l - W_r`, NaN where it was not computed; `at_least` marks a lower bound,
    where not all singular values are known. `most` is the largest possible rank, min(m, p).
    """

    layer: LayerKey
    cosine: float
    difference: float
    differs: bool
    effective_rank: float = float("nan")
    at_least: bool = False

    @property
    def most(self) -> int:
        """The largest possible rank."""
        return min(self.layer.shape)
