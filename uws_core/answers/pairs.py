"""The answer line on two models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from uws_core.answers.wording import share_text
from uws_core.nouns.lineage import PairLayer


def answer(items: Sequence[PairLayer], *, left: str, right: str) -> str:
    """Where two models differ: in how many layers, and most in which; `left` and `right` are their names."""
    names = f"`{left}` and `{right}`"
    known = [item for item in items if not isnan(item.difference)]
    if not known:
        return f"One cannot tell: {names} have no layer whose difference is known."
    differing = [item for item in known if item.differs]
    if not differing:
        return f"No difference: {names} are equal in every layer, as far as rounding can tell."
    largest = max(differing, key=lambda item: item.difference)
    size = f"most in `{largest.layer.short}`, by {share_text(largest.difference)} of their norms"
    if len(differing) < len(known):
        return f"{names} differ in {len(differing)} of {len(known)} layers, {size}."
    # Orthogonal weights of equal norms are sqrt(2) norms apart.
    return f"{names} differ in every layer, {size}; unrelated models of equal norms differ by 141 %."
