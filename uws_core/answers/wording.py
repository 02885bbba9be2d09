"""Words and numbers that several answer lines share.

An answer line has the verdict first, at most 30 words, at most three numbers, one comparison and no brackets.
`measured` counts them; names in backticks are names, not numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MOST_WORDS = 30
MOST_NUMBERS = 3
_NAME = re.compile(r"`[^`]*`")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Kinds of `nouns.lineage.KINDS` that need other words in a sentence.
_KINDS = {"strength": "unusual norms", "constant": "constant entries", "non-finite": "non-finite entries"}
_SEVERAL = re.compile(r"\b(?:all )?(\d+) layers taken as one")


@dataclass(frozen=True, slots=True)
class Measured:
    """The size of an answer line: counts of words, numbers and brackets."""

    words: int
    numbers: int
    brackets: int

    @property
    def short(self) -> bool:
        """True where the line keeps all limits."""
        return self.words <= MOST_WORDS and self.numbers <= MOST_NUMBERS and not self.brackets


def measured(line: str) -> Measured:
    """The counts of a line; a name in backticks is one word, and `90 %` is one word and one number."""
    plain = _NAME.sub("name", line).replace(" %", "%")
    return Measured(len(plain.split()), len(_NUMBER.findall(plain)), len(re.findall(r"[()\[\]{}]", plain)))


def where(place: str) -> str:
    """The layer or layers of a line: several layers lose their number, which the sidebar shows."""
    together = _SEVERAL.sub("these layers together", place)
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
