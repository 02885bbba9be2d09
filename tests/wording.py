"""The size of an answer line: at most 30 words, three numbers, and no bracket."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_WORDS = 30
MOST_NUMBERS = 3
_NAME = re.compile(r"`[^`]*`")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts of words, numbers and brackets."""

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
