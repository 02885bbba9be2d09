"""How a comparison is trained, and the data it is trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from uws_core.errors import TrainingError
from uws_core.nouns.adapting import RATES, SEEDS

# A batch is whatever the caller's loss takes.
Batch = Any
Loss = Callable[[nn.Module, Batch], Tensor]
Score = Callable[[nn.Module, Sequence[Batch]], float]
Report = Callable[[float, str], None]

# Fewer cannot be split in three parts of one batch each and a training part of more.
_FEWEST_BATCHES = 5


@dataclass(frozen=True)
class AdaptData:
    """Batches for training, for choosing the rate, and for the score that is reported.

    `train` is a sequence, gone through in an order that follows from the seed, or a function of seed and step.
    """

    train: Sequence[Batch] | Callable[[int, int], Batch]
    validation: Sequence[Batch]
    test: Sequence[Batch]

    @classmethod
    def of(cls, data: AdaptData | Sequence[Batch]) -> AdaptData:
        """The data as they are; a plain sequence of batches is split 60 : 20 : 20 in its order.

        Raises:
            TrainingError: no validation or test data, or fewer than five batches to split.
        """
        if not isinstance(data, AdaptData):
            whole = list(data)
            if len(whole) < _FEWEST_BATCHES:
                raise TrainingError(
                    f"{len(whole)} batches cannot be split into training, validation and test; give at least "
                    f"{_FEWEST_BATCHES}, or AdaptData(train=, validation=, test=)"
                )
            fifth = len(whole) // 5
            return cls(whole[: len(whole) - 2 * fifth], whole[-2 * fifth : -fifth], whole[-fifth:])
        parts = {"training": data.train, "validation": data.validation, "test": data.test}
        given: dict[str, Any] = {name: part for name, part in parts.items() if name != "training" or not callable(part)}
        for name, batches in given.items():
            if not hasattr(batches, "__len__") or (name == "training" and not hasattr(batches, "__getitem__")):
                raise TrainingError(
                    f"The {name} data are a {type(batches).__name__}, which every row cannot go through in the same "
                    "order; give list(...) of it, or for training a function of seed and step"
                )
        empty = [name for name, batches in given.items() if not len(batches)]
        if empty:
            raise TrainingError(
                f"There is no {' and no '.join(empty)} data. The rate of each row is chosen on validation data and its "
                "score taken on test data, so that neither is fitted to the other; hold back some batches for each"
            )
        return data

    def batch(self, seed: int, step: int) -> Batch:
        """The training batch of a step: the same for every row, and after a restart."""
        if callable(self.train):
            return self.train(seed, step)
        epoch, position = divmod(step, len(self.train))
        return self.train[_order(seed, epoch, len(self.train))[position]]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, batches: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(batches).tolist()
    return order


@dataclass(frozen=True)
class AdaptOptions:
    """How a comparison is trained.

    `steps` of AdamW for every training, at each of `rates` and `seeds`. `head` names modules or parameters that every
    row trains whole. `score(model, batches)` is higher for the better model; without one it is minus the mean loss.
    `held_out` names the members that belong to the target's own group. `folder` receives the log; the same call goes
    on from it, at the last step that is a multiple of `keep_every`. `check_base` compares the model with the base of
    the basis, where that can be read.
    """

    steps: int = 300
    seeds: tuple[int, ...] = SEEDS
    rates: tuple[float, ...] = RATES
    head: tuple[str, ...] = ()
    score: Score | None = None
    metric: str = "minus loss"
    task: str = "task"
    held_out: tuple[str, ...] = ()
    folder: str | Path | None = None
    keep_every: int = 100
    check_base: bool = True

    def checked(self) -> AdaptOptions:
        """The same options, if a comparison can be made with them; one name alone becomes a tuple of it.

        Raises:
            TrainingError: fewer than three seeds, no step or rate, or values that are no such numbers.
        """
        try:
            seeds, steps, keep_every = tuple(map(index, self.seeds)), index(self.steps), index(self.keep_every)
            rates = tuple(map(float, self.rates))
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"Seeds, steps and keep_every are whole numbers, rates are numbers, seeds and rates in tuples ({error})"
            ) from error
        if len(set(seeds)) < 3 or min(seeds) < 0:
            raise TrainingError(
                f"{len(set(seeds))} seed{'s' if len(set(seeds)) > 1 else ''} cannot tell a difference from "
                "luck; give at least three different ones, such as seeds=(0, 1, 2)"
                if len(set(seeds)) < 3
                else f"Seeds are whole numbers from 0 on; found {min(seeds)}"
            )
        if steps < 1 or keep_every < 1 or not rates or not all(0 < rate < math.inf for rate in rates):
            raise TrainingError(
                f"A training needs steps and positive rates; found {steps} steps, kept every {keep_every}, and rates "
                f"{self.rates}"
            )
        return replace(
            self,
            seeds=seeds,
            rates=rates,
            steps=steps,
            keep_every=keep_every,
            head=names_in(self.head),
            held_out=names_in(self.held_out),
        )


def names_in(names: str | Sequence[str]) -> tuple[str, ...]:
    """The names; one alone is not taken apart into its letters."""
    return (names,) if isinstance(names, str) else tuple(names)
