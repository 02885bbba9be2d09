"""What a rebuilt network can still do, beside how far its weights are off."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    """How a network's weights were made before it was scored."""

    ORIGINAL = "original"
    HELD_OUT = "held out"
    IN_SAMPLE = "in sample"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class FunctionPoint:
    """One network's score after its analysed layers were rebuilt at `kept` directions.

    `weight_error` is the relative squared error of those layers together (0 for the original, 1 for the reference
    itself); at `kept` 0 the mean stands in their place. `score` is what the evaluator says, NaN with the `problem` in
    words where it failed.
    """

    model: str
    group: str
    way: Way
    kept: int
    weight_error: float
    score: float
    problem: str = ""
