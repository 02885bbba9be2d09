"""The answer of a compression: what the folder costs, and whether sharing pays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from uws_core.answers.wording import counted, share_text
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.storage import Compression, Rival, SizePoint

# Below half a percentage point two errors are the same to a reader.
_NOTICED = 0.005


def answer(compression: Compression) -> str:
    """Returns the verdict in one sentence: sharing against each model's own SVD at the same bytes."""
    own = compression.rival("own SVD")
    loss = f"the worst model is {share_text(compression.worst)} off"
    if not math.isfinite(own.worst):
        return f"Sharing reaches a size that single models cannot: {loss}."
    verdict = "Sharing pays" if compression.pays else "Sharing does not pay"
    if abs(compression.worst - own.worst) < _NOTICED:
        verdict = "Sharing changes little"
    best = least(compression)
    other = "" if best is None else f", by {best.name} {share_text(best.worst)}"
    return f"{verdict}: {loss}, by its own SVD at the same bytes {share_text(own.worst)}{other}."


def sizes(points: Sequence[SizePoint], original: int) -> str:
    """Returns from what size on sharing beats each model's own SVD, among sizes below the models as they are."""
    by_size: dict[int, dict[str, float]] = {}
    for point in points:
        by_size.setdefault(point.bytes, {})[point.way] = point.worst
    pairs = [
        (size, ways["shared basis"] < ways["own SVD"] - _NOTICED)
        for size, ways in sorted(by_size.items())
        if {"shared basis", "own SVD"} <= set(ways) and size < original
    ]
    if not pairs:
        return "No tried size is smaller than the models as they are: nothing is saved here."
    wins = [size for size, win in pairs if win]
    span = f"{bytes_text(pairs[0][0])} and {bytes_text(pairs[-1][0])}"
    if not wins:
        return f"Sharing beats each model's own SVD at none of {counted(len(pairs), 'size')} tried between {span}."
    if len(wins) == len(pairs):
        return f"Sharing beats each model's own SVD at every size tried between {span}."
    shown = ", ".join(map(bytes_text, wins))
    return f"Sharing beats each model's own SVD at {shown}, and not at the other sizes tried between {span}."


def least(compression: Compression) -> Rival | None:
    """Returns the way whose worst model is least off at the same bytes; None where it is sharing or the own SVD."""
    known = [rival for rival in compression.rivals if math.isfinite(rival.worst) and rival.name != "own SVD"]
    best = min(known, key=lambda rival: rival.worst, default=None)
    if best is None or best.worst >= min(compression.worst, compression.rival("own SVD").worst) - _NOTICED:
        return None
    return best


def held_out(errors: Floats, held_out_errors: Floats, column: str) -> str:
    """Returns what a basis made without a model's group loses, beside the basis that knows it."""
    values = (np.median(held_out_errors), held_out_errors.max(), np.median(errors))
    out, worst, known = (share_text(float(value)) for value in values)
    return (
        f"With its {column} held out of the basis the median model loses {out} and the worst {worst}; "
        f"with it the median model loses {known}."
    )


def price(compression: Compression) -> str:
    """Returns both prices: this folder, and one more model."""
    return (
        f"{len(compression.labels)} models in {bytes_text(compression.bytes)} instead of "
        f"{bytes_text(compression.original_bytes)}; one more model costs {bytes_text(compression.bytes_per_member)}."
    )
