"""The answer of a compression: what the folder costs, and whether sharing pays."""

from __future__ import annotations

import math

from uws_core.nouns.cost import bytes_text
from uws_core.nouns.storage import Compression


def answer(compression: Compression) -> str:
    """Returns the verdict in one sentence: sharing against each model's own SVD at the same bytes."""
    own = compression.rival("own SVD")
    loss = f"{compression.worst:.0%}"
    if not math.isfinite(own.worst):
        return f"Sharing reaches a size that single models cannot: the worst model loses {loss}."
    if compression.pays:
        return f"Sharing pays: the worst model loses {loss}, with its own SVD at the same bytes {own.worst:.0%}."
    return f"Sharing does not pay: the worst model loses {loss}, with its own SVD at the same bytes {own.worst:.0%}."


def price(compression: Compression) -> str:
    """Returns both prices: this folder, and one more model."""
    return (
        f"{len(compression.labels)} models in {bytes_text(compression.bytes)} instead of "
        f"{bytes_text(compression.original_bytes)}; one more model costs {bytes_text(compression.bytes_per_member)}."
    )
