"""The sentence about truncating all three axes of a layer at once."""

from __future__ import annotations

from uws_core.answers.wording import share_text
from uws_core.nouns.spectrum import TuckerBounds
from uws_core.nouns.storage import Storage


def answer(bounds: TuckerBounds, error: float, size: Storage) -> str:
    """The relative squared `error` of the truncation, its lower bound, and the size of a basis on both sides."""
    times = f"{size.ratio:.2f} times fewer" if size.ratio >= 1 else f"{1 / size.ratio:.2f} times more"
    return (
        f"Truncating all axes to these ranks leaves an error of {share_text(error)}, where the spectra allow "
        f"{share_text(bounds.low)} at best; a basis on both sides stores {times} numbers."
    )
