"""Words and numbers that several answer lines share.

An answer line has the verdict first, at most 30 words, at most three numbers, one comparison and no brackets.
`tests/wording.py` counts them; digits of names in backticks are no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

# Kinds of `nouns.lineage.KINDS` that need other words in a sentence.
_KINDS = {
    "strength": "unusual norms",
    "constant": "constant entries",
    "non-finite": "non-finite entries",
    "never trained": "models that look never trained",
    "as if never trained": "entries as if never trained",
    "equal cosines": "all cosines are equal",
    "no relative": "models without relatives",
    "reordered": "neurons in another order",
}
_SEVERAL = re.compile(r"\b(?:all )?(\d+) layers taken as one")


def where(location: str) -> str:
    """The layer or layers of a line: several layers lose their number, which the sidebar shows."""
    together = _SEVERAL.sub("these layers together", location)
    return re.sub(r"^\d+ layers$", "these layers", together)


def warning(kinds: Iterable[str]) -> str:
    """A short sentence on the first two kinds of outliers and near copies; empty without any."""
    words = list(dict.fromkeys(_KINDS.get(kind, kind) for kind in kinds))[:2]
    return f"Check first: {', '.join(words)}." if words else ""


def share_text(share: float) -> str:
    """A share as a percentage: `90 %`, `2.5 %`, and `0 %` below 0.05 %."""
    percent = 100 * share
    if abs(percent) < 0.05:
        return "0 %"
    return f"{percent:.0f} %" if abs(percent) >= 10 else f"{percent:.1f} %"


def level_text(share: float) -> str:
    """A chosen share with all its digits: `90 %`, `99.9 %`."""
    return f"{100 * share:.4g} %"


def counted(number: object, noun: str) -> str:
    """A number with its noun in singular or plural: `1 model`, `40 models`."""
    return f"{number} {noun}" + ("" if str(number) == "1" else "s")


def directions(side: str) -> str:
    """The directions of an axis in words."""
    return {"in": "input directions", "out": "output directions"}.get(side, "directions")


def median(values: Sequence[float]) -> float:
    """The median of the known values; NaN without any."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")
