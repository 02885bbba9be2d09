"""The answer line on the count of shared directions, against noise that keeps the profile of the weights."""

from __future__ import annotations

from uws_core.answers.wording import counted, where
from uws_core.nouns.chance import SharedDirections

BEYOND_EQUAL_NOISE = "Beyond equal noise, not beyond the common scale of rows"


def answer(shared: SharedDirections, *, location: str, equal: SharedDirections | None = None) -> str:
    """The count with its largest p; `equal` is the count against noise of equal scales, where it was computed.

    `location` names the layer (or the layers).
    """
    here = where(location)
    if not shared.known:
        return f"One cannot tell in {here}: {shared.reason}."
    if shared.count:
        directions = counted(shared.count, "direction")
        p = f"{float(shared.p[: shared.count].max()):.2g}"
        return f"Beyond chance: these models share {directions} in {here}, with p at most {p}."
    if equal is not None and equal.count:
        passed = counted(equal.count, "direction")
        return f"{BEYOND_EQUAL_NOISE}: of {passed} in {here}, none is left when all models keep their scales."
    strongest = f"; the strongest has p = {float(shared.p[0]):.2g}" if shared.p.size else ""
    return f"No more than chance: these models share no direction in {here}{strongest}."
