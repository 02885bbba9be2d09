"""The sentence that answers whether models move along the base's own strongest directions, against chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.answers.angles import ALL, LEVEL, number, side_text
from uws_core.nouns.angles import Angles, ChanceLevel

_CENTRES = {"mean": "their mean", "zero": "zero", "base": "the base"}


def answer(every: Sequence[Angles], levels: Sequence[ChanceLevel], *, place: str, side: str, about: str) -> str:
    """The answer for all models: `place` is the layer in words, `about` the centre."""
    rows = [row for row, one in enumerate(every) if one.k]
    if not rows:
        return "One cannot tell: neither the base nor the models have directions here."
    overlap = np.array([every[row].overlap for row in rows])
    chance, low, high = (np.array([getattr(levels[row], name) for row in rows]) for name in ("overlap", "low", "high"))
    own, based = (_span([every[row].cosines.shape[axis] for row in rows]) for axis in (0, 1))
    its = "own" if own == based else f"own {based}"
    said = (
        f"In {place}, the {own} leading {side_text(side)} of each of these {len(rows)} models about "
        f"{_CENTRES.get(about, about)} overlap with the base's {its} by {number(float(np.median(overlap)))}"
    )
    said += f" (median of {len(rows)})" if len(rows) > 1 else ""
    middle = float(np.median(chance))
    if middle > ALL:
        return f"{said}: these are all the directions there are, so choose fewer to learn something."
    above, below = int((overlap > high).sum()), int((overlap < low).sum())
    return f"{said}; random directions overlap by {number(middle)}: {_verdict(overlap / chance, above, below)}."


def _verdict(times: np.ndarray, above: int, below: int) -> str:
    """In words; `times` (N,) is each model's overlap over its chance, the counts are beyond 95 % of random ones."""
    half = times.size / 2
    if above > half:
        return f"{float(np.median(times)):.1f} times chance, they lean towards what the base is strongest in"
    if below > half:
        return "less than chance, they keep away from what the base is strongest in"
    if above + below >= half:
        return f"{above} above and {below} below 95 % of random ones, {times.size - above - below} at chance"
    if above + below > LEVEL * times.size:
        return f"mostly no more than chance, but {above} above and {below} below 95 % of random ones"
    return "no more than chance"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
