"""The sentence about truncating all three axes of a layer at once."""

from __future__ import annotations

from uws_core.nouns.hosvd import TuckerBounds
from uws_core.nouns.storage import Storage


def answer(bounds: TuckerBounds, error: float, size: Storage) -> str:
    """What keeping the ranks of `bounds` on all three axes costs, and the relative squared `error` it leaves."""
    ranks = bounds.kept
    return (
        f"With {ranks.models} directions of models, {ranks.out} of outputs and {ranks.into} of inputs the error is "
        f"{error:.1%} (the spectra alone say between {bounds.low:.1%} and {bounds.high:.1%}). A basis on both sides at "
        f"{ranks.out} x {ranks.into} stores {size.shared:,} numbers instead of {sum(size.dense):,}: "
        f"{size.ratio:.2f} times fewer."
    )
