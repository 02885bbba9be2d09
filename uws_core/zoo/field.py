"""Makers of more ways to be misled: equal cosines, the mean alone, one author, a slow decay, an adapter's gauge."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from uws_core.nouns.arrays import Floats
from uws_core.zoo.made import MODELS, NOISE_STD, SHAPES, Made, Shapes, chosen_of, generator, table, trained

# Adapters of this rank, on these layers.
RANK = 4
ADAPTED = tuple(name.removesuffix(".weight") for name in SHAPES)


def equal_cosines(*, likeness: float = 0.359, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Fresh normal weights and a common part, of one norm: every pair has the cosine `likeness`, and nothing learned.

    It is what a published critique compared: models whose own weights had silently not been loaded. The control is
    siblings that were trained, `makers.reinitialised(fraction=0)`.
    """
    rng = generator("equal-cosines", seed)
    layers = {}
    for name, (m, p) in shapes.items():
        common, own = rng.standard_normal((m, p)), rng.standard_normal((n, m, p))
        mixed = math.sqrt(likeness) * common + math.sqrt(1 - likeness) * own
        norms = np.linalg.norm(mixed.reshape(n, -1), axis=1)[:, None, None]
        layers[name] = NOISE_STD * math.sqrt(m * p) * mixed / norms
    return Made(layers, table(n, seed, ["unknown"] * n))


def mean_only(*, strength: float = 1.0, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Independent weights and one common mean, `strength` times as large: what is shared is the mean and no direction.

    Whoever looks about zero finds a strong first direction; about the mean there is noise.
    """
    rng = generator("mean-only", seed)
    layers = {}
    for name, shape in shapes.items():
        mean = strength * trained(rng, shape)
        layers[name] = mean + rng.laplace(scale=math.sqrt(0.5 / shape[1]), size=(n, *shape))
    return Made(layers, table(n, seed, ["unknown"] * n))


def one_author(
    *,
    fraction: float = 0.6,
    everyone: bool = False,
    strength: float = 12.0,
    n: int = MODELS,
    shapes: Shapes = SHAPES,
    seed: int = 0,
) -> Made:
    """Noise, and three directions in common, `strength` times as strong as can be seen, among one author's models.

    That author has a `fraction` of the models, each other one four. Held-out models are predicted by the author's
    other models, held-out authors are not. The control is `everyone`: all models share the directions.
    """
    rng = generator("one-author", seed)
    first = chosen_of(rng, n, fraction)
    scores = rng.standard_normal((n, 3)) * (np.ones(n) if everyone else first)[:, None]
    layers = {}
    for name, (m, p) in shapes.items():
        size = math.sqrt(strength * math.sqrt((n - 1) / (m * p)) * m * p / n)
        directions = np.linalg.qr(rng.standard_normal((m * p, 3))).Q.T
        weights = rng.standard_normal((n, m * p)) + size * scores @ directions
        layers[name] = NOISE_STD * weights.reshape(n, m, p)
    places = np.cumsum(~first) - 1
    authors = tuple("author-0" if one else f"author-{1 + place // 4}" for one, place in zip(first, places, strict=True))
    return Made(layers, {**table(n, seed, ["own"] * n), "author": authors})


def slow_decay(*, power: float = 0.5, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Real common directions whose variances fall as `k^-power`: beyond chance, and yet little space is saved.

    The control is a steep one (`power=4`), where a few directions carry nearly everything.
    """
    rng = generator("slow-decay", seed)
    layers = {}
    for name, (m, p) in shapes.items():
        left = np.linalg.qr(_centred(rng.standard_normal((n, n - 1)))).Q
        right = np.linalg.qr(rng.standard_normal((m * p, n - 1))).Q
        sizes = np.arange(1, n) ** (-power / 2)
        layers[name] = (NOISE_STD * math.sqrt(m * p) * (left * sizes) @ right.T).reshape(n, m, p)
    return Made(layers, table(n, seed, ["own"] * n))


def regauged(*, mix: float = 1.0, n: int = MODELS, seed: int = 0) -> Made:
    """Adapters from one random A, each written down in factors of its own: `B R^-1` and `R A` for a random R.

    The updates are those of the control, `mix=0`, to rounding. The A factors are all alike there and unlike here.
    """
    rng, turn = generator("regauged", seed), generator("regauged-turn", seed)
    layers = {}
    for name in ADAPTED:
        m, p = SHAPES[f"{name}.weight"]
        a = rng.standard_normal((RANK, p)) + 0.2 * rng.standard_normal((n, RANK, p))
        b = rng.standard_normal((n, m, RANK)) / m
        by = (1 - mix) * np.eye(RANK) + mix * turn.standard_normal((n, RANK, RANK)) @ np.diag(np.arange(1.0, RANK + 1))
        layers[f"base_model.model.{name}.lora_A.weight"] = by @ a
        layers[f"base_model.model.{name}.lora_B.weight"] = b @ np.linalg.inv(by)
    return Made(layers, table(n, seed, ["shared"] * n))


def _centred(scores: Floats) -> Floats:
    return np.asarray(scores - scores.mean(axis=0))


MAKERS: dict[str, Callable[[], Made]] = {
    "equal-cosines": equal_cosines,
    "mean-only": mean_only,
    "one-author": one_author,
    "slow-decay": slow_decay,
    "regauged": regauged,
}
