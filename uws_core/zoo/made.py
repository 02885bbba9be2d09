"""A collection in memory, and what its makers are made of."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.models import Value

Shapes = Mapping[str, tuple[int, int]]

MODELS = 40
SHAPES: Shapes = {
    f"blocks.{depth}.mlp.{name}.weight": shape
    for depth in range(2)
    for name, shape in (("up", (64, 32)), ("down", (32, 64)))
}
# Every n models carry this many task names in turn; nothing in the weights depends on them.
TASKS = 8
NOISE_STD = 0.02


@dataclass(frozen=True)
class Made:
    """A collection in memory: `layers[name]` is (n, m, p); `table` and `truth` hold one value a model.

    `base[name]` (m, p) is what the models started from, where they have one start in common.
    """

    layers: Mapping[str, Floats]
    table: Mapping[str, tuple[Value, ...]]
    truth: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    base: Mapping[str, Floats] | None = None


def generator(name: str, seed: int) -> np.random.Generator:
    """Random numbers of one maker."""
    # Two makers with one seed must not draw the same noise.
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def chosen_of(rng: np.random.Generator, n: int, fraction: float) -> Bools:
    """Which of n models (n,) are the changed ones.

    Raises:
        ValueError: a fraction outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is the share of the models that is changed, from 0 to 1; found {fraction}")
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[rng.permutation(n)[: round(fraction * n)]] = True
    return chosen


def trained(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Weights (m, p) of spread 1 / sqrt(p) with the heavier tails that training leaves."""
    return rng.laplace(scale=math.sqrt(0.5 / shape[1]), size=shape)


def updates(rng: np.random.Generator, n: int, shape: tuple[int, int], drift: float) -> Floats:
    """Independent normal updates (n, m, p), `drift` times as large as trained weights."""
    return drift / math.sqrt(shape[1]) * rng.standard_normal((n, *shape))


def table(n: int, seed: int, starts: list[str]) -> dict[str, tuple[Value, ...]]:
    """What a user would know of n models."""
    return {
        "model": tuple(f"model-{i:03d}" for i in range(n)),
        "task": tuple(f"task-{i % TASKS}" for i in range(n)),
        "kind": ("synthetic",) * n,
        "seed": (seed,) * n,
        "initialisation": tuple(starts),
    }
