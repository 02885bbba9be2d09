"""The answer line on the base: the overlap of each model's directions with the base's strongest, against chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.answers.angles import ALL, ALL_DIRECTIONS, LEVEL, number
from uws_core.answers.wording import directions, where
from uws_core.nouns.angles import Angles, ChanceLevel

_CENTRES = {"mean": "their mean", "zero": "zero", "base": "the base"}


def answer(every: Sequence[Angles], levels: Sequence[ChanceLevel], *, location: str, side: str, about: str) -> str:
    """The answer for all models: `location` names the layer, `about` the centre of the models' directions."""
    rows = [row for row, angles in enumerate(every) if angles.k]
    if not rows:
        return "One cannot tell: neither the base nor the models have directions here."
    overlap = np.array([every[row].overlap for row in rows])
    chance, low, high = (np.array([getattr(levels[row], name) for row in rows]) for name in ("overlap", "low", "high"))
    middle = float(np.median(chance))
    if middle > ALL:
        return ALL_DIRECTIONS
    above, below = int((overlap > high).sum()), int((overlap < low).sum())
    if above + below > LEVEL * len(rows) and max(above, below) <= len(rows) / 2:
        mixed = "Mixed" if above + below >= len(rows) / 2 else "Mostly no more than chance"
        return (
            f"{mixed}: in {where(location)}, {above or 'none'} of {len(rows)} models overlap with the base more than "
            f"random directions, and {below or 'none'} less."
        )
    if above > len(rows) / 2:
        verdict = "Models lean towards the base"
    else:
        verdict = "Models avoid the base" if below > len(rows) / 2 else "No more than chance"
    counts = {every[row].cosines.shape[0] for row in rows}
    k = f"{counts.pop()} " if len(counts) == 1 else ""
    centre = _CENTRES.get(about, f"`{about}`")
    return (
        f"{verdict}: in {where(location)}, their {k}leading {directions(side)} about {centre} overlap with its own by "
        f"{number(float(np.median(overlap)))}, random ones by {number(middle)}."
    )
