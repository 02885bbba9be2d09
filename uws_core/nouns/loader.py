"""How models are read: what may be chosen, and what became of every key of their files.

Nothing is used, or passed over, without being listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from uws_core.nouns.models import ModelRef

# Whose names the keys of adapters may be in.
DIALECTS: Final = ("peft", "kohya", "diffusers", "comfyui")


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


@dataclass(frozen=True, slots=True)
class Located:
    """A model that a place holds: its label, where it lies, and whether it is compared or was left out."""

    label: str
    ref: ModelRef
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may choose about how a place is read; the first of each is what happens without a choice.

    With `common_rows`, layers that differ in their number of rows alone are compared in the rows that all have. With
    `pickled`, torch's own files are read through its weights-only loader. With a `dialect`, one of `DIALECTS`, only
    adapters of that trainer's names are taken.
    """

    common_rows: bool = False
    pickled: bool = False
    dialect: str = ""

    def __post_init__(self) -> None:
        """Every value is checked, since it may come from a file.

        Raises:
            ValueError: a dialect that nobody speaks, or a switch that is neither on nor off.
        """
        if not (isinstance(self.common_rows, bool) and isinstance(self.pickled, bool)):
            raise ValueError(f"a switch is on or off; found {self.common_rows!r} and {self.pickled!r}")
        if self.dialect not in ("", *DIALECTS):
            raise ValueError(f"a dialect is one of {', '.join(DIALECTS)}; found {str(self.dialect)[:40]!r}")

    def __bool__(self) -> bool:
        return self != Choices()

    def __str__(self) -> str:
        said = ["rows in common"] * self.common_rows + ["pickled files read"] * self.pickled
        return ", ".join([*said, *([f"{self.dialect} only"] if self.dialect else [])])


# Nothing chosen.
USUAL: Final = Choices()
