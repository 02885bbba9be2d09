"""Models with as many shared directions as one chooses, at six kinds of norms: as exact Grams, and as weights.

Letters: n models of d weights. Strengths are multiples of the detection limit of equal noise, `sqrt(n d)` in squares.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.block_grams import gram_of
from tests.nothing_shared import M, N, P
from uws_core.analysis.noise import wishart
from uws_core.analysis.shared_directions import shared_directions
from uws_core.nouns.gram import EntryStats, Gram
from uws_core.nouns.models import LayerKey

Random = np.random.Generator
Planted = Callable[[Random], np.ndarray]
# Weights of a Gram that is drawn as inner products, and of one that is made from weights.
D, D_OF_WEIGHTS = 4096, M * P
NORMS: dict[str, Planted] = {
    "equal": lambda rng: np.ones(N),
    "one 3x": lambda rng: np.r_[3.0, np.ones(N - 1)],
    "one 5x": lambda rng: np.r_[5.0, np.ones(N - 1)],
    "three 4x": lambda rng: np.r_[np.full(3, 4.0), np.ones(N - 3)],
    "log-normal .5": lambda rng: np.exp(0.5 * rng.standard_normal(N)),
    "log-normal 1": lambda rng: np.exp(rng.standard_normal(N)),
}
STRENGTHS = (0, 2, 3, 5, 10, 40)
GRADED = (5.0, 7.0, 10.0, 14.0, 20.0)


# As inner products: coordinates (n, k) in units of one noise entry.


def gram_from(rng: Random, norms: np.ndarray, coordinates: np.ndarray) -> Gram:
    """The exact Gram of noise of these norms plus directions with `coordinates` (n, k)."""
    k = coordinates.shape[1]
    inner = wishart(rng, count=1, side=N, dof=D - k)[0]
    along = rng.standard_normal((N, k)) + coordinates
    inner = (inner + along @ along.T) * np.outer(norms, norms)
    center = np.eye(N) - 1 / N
    values = center @ inner @ center
    return Gram(
        layers=(LayerKey("layer", (64, 64)),),
        labels=tuple(f"m{i}" for i in range(N)),
        values=values,
        to_center=np.zeros(N),
        center_norm2=0.0,
        d=D,
        floor=1e-12 * float(np.trace(values)),
        entry_stats=EntryStats.of_norms(np.diag(values), D),
    )


def one_direction(strength: float) -> Planted:
    """One direction with random coordinates."""

    def planted(rng: Random) -> np.ndarray:
        along = rng.standard_normal((N, 1))
        return along * np.sqrt(strength * np.sqrt(N * D)) / np.linalg.norm(along)

    return planted


def graded(rng: Random) -> np.ndarray:
    basis = np.linalg.qr(rng.standard_normal((N, 5)))[0]
    return basis * np.sqrt(np.array(GRADED[::-1]) * np.sqrt(N * D))


def four_of_80_percent(rng: Random) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((N, 4)))[0] * np.sqrt(N * D)


def copies(rng: Random) -> np.ndarray:
    return np.where(np.arange(N)[:, None] < 2, np.sqrt(9.0 * D), 0.0)


def groups(rng: Random) -> np.ndarray:
    """Six groups of four models, each about a centre of its own: five directions among their centres."""
    return np.kron(np.eye(6), np.ones((4, 1))) * np.sqrt(D)


def counts_of_grams(norms: str, planted: Planted, repetitions: int, *, absolute: bool = False) -> np.ndarray:
    """The count under the strength null in each of `repetitions` collections.

    Coordinates are scaled by a model's norm, or with `absolute` the same however noisy it is.
    """
    rng = np.random.default_rng(0)
    found = []
    for seed in range(repetitions):
        sizes, coordinates = NORMS[norms](rng), planted(rng)
        coordinates = coordinates / sizes[:, None] if absolute else coordinates
        found.append(shared_directions(gram_from(rng, sizes, coordinates), kind="strength", seed=seed).count)
    return np.array(found)


# As weights (n, d), whose blocks can be flipped.


def spikes(rng: Random, strengths: tuple[float, ...]) -> np.ndarray:
    """Noise and a shared direction of each strength."""
    weights = rng.standard_normal((N, D_OF_WEIGHTS))
    for strength in strengths:
        direction = rng.standard_normal(D_OF_WEIGHTS)
        coordinates = rng.standard_normal(N)
        coordinates -= coordinates.mean()
        coordinates *= np.sqrt(strength * np.sqrt(N * D_OF_WEIGHTS)) / np.linalg.norm(coordinates)
        weights += coordinates[:, None] * direction / np.linalg.norm(direction)
    return weights


def mostly_shared(rng: Random) -> np.ndarray:
    """Four directions that hold 80 % of the variance of every model."""
    shared = rng.standard_normal((N, 4)) @ np.linalg.qr(rng.standard_normal((D_OF_WEIGHTS, 4)))[0].T
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    return np.sqrt(0.2) * rng.standard_normal((N, D_OF_WEIGHTS)) + np.sqrt(0.8 * D_OF_WEIGHTS) * shared


def near_copies(rng: Random) -> np.ndarray:
    """Independent models, two of which differ by a tenth."""
    weights = rng.standard_normal((N, D_OF_WEIGHTS))
    weights[-1] = weights[-2] + 0.1 * rng.standard_normal(D_OF_WEIGHTS)
    return weights


def six_groups(rng: Random) -> np.ndarray:
    """Six groups of four models about six points, which half of the variance lies between."""
    return _grouped(rng, rng.standard_normal((N, D_OF_WEIGHTS)))


def grouped_about_fixed_points(rng: Random) -> np.ndarray:
    """Six groups whose points stay where they are: only each model's own noise is larger or smaller."""
    return _grouped(rng, rng.standard_normal((N, D_OF_WEIGHTS)) * NORMS["log-normal .5"](rng)[:, None])


def _grouped(rng: Random, noise: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(0.5) * (noise + rng.standard_normal((6, D_OF_WEIGHTS))[np.arange(N) % 6]))


def counts_of_weights(norms: str, planted: Planted, repetitions: int) -> np.ndarray:
    """The count under flipped blocks in each of `repetitions` collections, every model scaled by its norm."""
    found = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        weights = planted(rng) * NORMS[norms](rng)[:, None]
        found.append(shared_directions(gram_of(weights.reshape(N, M, P)), seed=seed).count)
    return np.array(found)


# What is planted in weights and in inner products, and how many directions that is.
MORE: dict[str, tuple[Planted, Planted, int]] = {
    "one": (lambda rng: spikes(rng, (10.0,)), one_direction(10), 1),
    "five": (lambda rng: spikes(rng, GRADED), graded, 5),
    "four of 80 %": (mostly_shared, four_of_80_percent, 4),
    "a pair": (near_copies, copies, 1),
    "six groups": (six_groups, groups, 5),
}


def truth(planted: str, norms: str, *, null: str) -> int:
    """How many directions that is.

    Six points that all lie in one another's span have five directions between them; where models are scaled as a
    whole, to many norms, they lie on six rays instead, whose points span six.
    """
    rays = planted == "six groups" and null == "profile" and norms.startswith("log-normal")
    return MORE[planted][2] + rays
