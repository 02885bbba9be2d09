"""Records of coefficient training: the rows of a fair comparison, its trainings, and captured gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Final

import numpy as np

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.shown import Shown


class Row(StrEnum):
    """What is trained beside the head; docs/adapt.md has the formulas."""

    HEAD = "head only"
    SHARED = "shared"
    RANDOM = "random"
    BASE = "base SVD"
    LORA = "LoRA"
    FULL = "full"
    DIAGONAL = "shared diagonal"
    RANDOM_DIAGONAL = "random diagonal"
    MIXTURE = "mixture"


DEFAULT_ROWS: Final = (Row.HEAD, Row.SHARED, Row.RANDOM, Row.BASE, Row.LORA, Row.FULL)
# AdamW's largest step size, two a decade: cores want about 0.1, LoRA 0.01 to 0.03, whole weights less.
RATES: Final = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SEEDS: Final = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """One finished training: a row at one rate and one seed.

    `trainables` counts trained numbers without the head, which every row trains alike. Scores are on the validation
    and the test split, higher is better. `resumed_at` are the steps at which an interrupted training went on. A
    training whose loss became NaN or infinite has `diverged`, and its scores are NaN.
    """

    task: str
    row: Row
    seed: int
    rate: float
    trainables: int
    validation: float
    score: float
    steps: int = 0
    seconds: float = 0.0
    resumed_at: tuple[int, ...] = ()
    diverged: bool = False

    @property
    def name(self) -> str:
        """The name of the training within its task, also that of its files."""
        return f"{self.row.replace(' ', '-')} rate {self.rate:g} seed {self.seed}"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The mean training loss of the steps up to `step` since the point before."""

    task: str
    run: str
    step: int
    loss: float


@dataclass(frozen=True)
class RowScore:
    """A row of one task at its own best rate: test scores (seeds,) in the order of `seeds`.

    `at_edge` says that the best rate is the smallest or largest that was tried, so a better one may lie outside.
    """

    task: str
    row: Row
    trainables: int
    rate: float
    seeds: tuple[int, ...]
    scores: Floats
    at_edge: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", frozen(self.scores))

    @property
    def mean(self) -> float:
        """The mean score."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class PairedDifference:
    """Score of `row` minus score of `other`, pair by pair, with the 95 % interval of the mean (Student's t).

    Pairs are seeds where `task` names one task, and whole tasks, each the mean over its seeds, where it is empty.
    The interval is NaN where there is one pair.
    """

    row: Row
    other: Row
    task: str
    differences: Floats
    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "differences", frozen(self.differences))

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(np.mean(self.differences))

    @property
    def verdict(self) -> str:
        """Whether the row is better, worse, or neither; one pair cannot tell."""
        if np.isnan(self.low):
            return "one pair"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference"


@dataclass(frozen=True)
class Comparison(Shown):
    """The finished trainings of a fair comparison, of one task or several.

    `expected` counts the trainings of the whole plan, `metric` names the score.
    """

    runs: tuple[TrainedRun, ...]
    metric: str = "score"
    expected: int = 0

    @classmethod
    def joined(cls, parts: Sequence[Comparison]) -> Comparison:
        """The comparisons of several tasks as one."""
        runs = tuple(run for part in parts for run in part.runs)
        return cls(runs, parts[0].metric if parts else "score", sum(part.expected for part in parts))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(dict.fromkeys(run.task for run in self.runs))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows, in order."""
        present = {run.row for run in self.runs}
        return tuple(row for row in Row if row in present)

    @property
    def complete(self) -> bool:
        """Whether every training of the plan is finished."""
        return len(self.runs) >= self.expected

    def __str__(self) -> str:
        """The verdict: the shared basis against a random one."""
        return str(import_module("uws_core.notebook").sentence(self))


@dataclass(frozen=True)
class Judged:
    """A comparison with its rows at their best rates, in one `task` or, where it is empty, in all.

    `differences` are those of the shared basis to every other row, and of the shared to the random diagonal.
    """

    comparison: Comparison
    task: str
    scores: tuple[RowScore, ...]
    differences: tuple[PairedDifference, ...]

    def difference(self, row: Row, other: Row) -> PairedDifference | None:
        """The paired difference of two rows; None where they share no seed."""
        return next((each for each in self.differences if (each.row, each.other) == (row, other)), None)

    def mean(self, row: Row) -> float:
        """The mean score of a row, tasks alike; NaN where it was not trained."""
        scores = [score.mean for score in self.scores if score.row is row]
        return float(np.mean(scores)) if scores else float("nan")


@dataclass(frozen=True)
class GradientShare:
    """The share of one batch's gradient of a layer that lies in a subspace of k x k numbers.

    `shared`, `base` are shares of its squared norm; `chance` is `k_out k_in / (m p)`, the mean over random subspaces,
    `chance_high` their largest of 20 drawings in 20 (95 %). `members` are the shares that the basis holds of the
    updates it was made from, smallest, median and largest; NaN where that is not known.
    """

    layer: str
    k: tuple[int, int]
    shared: float
    base: float
    chance: float
    chance_high: float
    members: tuple[float, float, float]
    # Squared norm of the gradient, the weight of the layer in the mean over layers.
    norm2: float = 1.0


def pooled(shares: Sequence[GradientShare]) -> tuple[float, float, float]:
    """Returns the shares over all layers together: shared basis, base's own directions, chance."""
    weights = np.array([share.norm2 for share in shares])
    if not weights.sum() > 0:
        return 0.0, 0.0, float(np.mean([share.chance for share in shares])) if shares else 0.0
    parts = np.array([(share.shared, share.base, share.chance) for share in shares])
    shared, base, chance = (weights / weights.sum()) @ parts
    return float(shared), float(base), float(chance)
