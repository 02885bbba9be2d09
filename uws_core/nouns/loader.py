"""What became of every key of a model's files: nothing is used, or passed over, without being listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What became of one key."""

    USED = "used"
    IGNORED = "ignored"
    UNKNOWN = "unknown"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True)
class KeyFate:
    """One key: `used` for a layer, `ignored` on purpose, `unknown`, or `unmatched` without its other half."""

    key: str
    fate: Fate
    why: str


@dataclass(frozen=True, slots=True)
class ScaleFound:
    """The factor before `up @ down` of a layer, of how many ranks, and where it was found."""

    layer: str
    rank: int
    scale: float
    where: str


@dataclass(frozen=True, slots=True)
class LoaderReport:
    """How one model was read: its format, the dialects of its keys, every key's fate, every scale, and what to know."""

    model: str
    format: str
    dialects: tuple[str, ...]
    keys: tuple[KeyFate, ...]
    scales: tuple[ScaleFound, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[Fate, int]:
        """The number of keys of each fate, all four."""
        found = Counter(key.fate for key in self.keys)
        return {fate: found[fate] for fate in Fate}
