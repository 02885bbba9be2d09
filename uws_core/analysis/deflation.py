"""How many directions stand above noise, one after another: each against noise as strong as what is left without them.

Shares of the whole hide all but the strongest: behind one direction that carries 99 %, the next ones carry less than
a direction of pure noise. So those that were counted are taken away, from the models and from the noise alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import nnls

from uws_core.analysis.measures import descending
from uws_core.analysis.noise import MATCHING_STEPS, batches, strong, wishart
from uws_core.nouns.arrays import Floats

# Each further direction costs its own draws; collections with more of them than that are counted up to there.
MOST_STEPS = 12


def more_directions(
    inner: Floats,
    *,
    known: int,
    dof: float,
    draws: int,
    level: float,
    rng: np.random.Generator,
    report: Callable[[float, str], None],
) -> tuple[int, bool]:
    """How many leading directions stand above noise when `known` do, and whether there may be more than were tried.

    `inner` (s, s) is about the models' mean. Direction j + 1 counts while at most a share `level` of the draws have a
    larger first share of what is left without j directions. Price: `draws` decompositions a step, `MOST_STEPS` at most.

    Source: Horn 1965; Choi, Taylor and Tibshirani 2017 (sequential tests in what is left).
    """
    values, vectors = descending(inner)
    most = int(np.count_nonzero(values > 1e-12 * values.max(initial=0.0)))
    for found in range(known, min(known + MOST_STEPS, most)):
        rest = values[found:]
        # The last directions have nothing left to be compared with.
        if most - found < 3:
            return found, False
        report(1.0, f"direction {found + 1}")
        noise = _first_shares(values, vectors, found, dof=dof, draws=draws, rng=rng)
        if 1 + np.count_nonzero(noise >= rest[0] / rest.sum()) > level * (1 + draws):
            return found, False
    return min(known + MOST_STEPS, most), most > known + MOST_STEPS


def _first_shares(
    values: Floats, vectors: Floats, taken: int, *, dof: float, draws: int, rng: np.random.Generator
) -> Floats:
    """The first share (draws,) of noise as strong as the models are without their first `taken` directions."""
    s = values.size
    away = np.hstack([np.full((s, 1), s**-0.5), vectors[:, :taken]])
    keep = np.eye(s) - away @ away.T
    squares = np.einsum("ij,j,ij->i", vectors[:, taken:], values[taken:], vectors[:, taken:])
    return np.concatenate([_shares(batch) for batch in _drawn(keep, squares, dof=dof, draws=draws, rng=rng)])


def _drawn(keep: Floats, squares: Floats, *, dof: float, draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Draws (b, s, s) of noise without the same directions, of these squared lengths (s,) as far as that goes."""
    start, back = nnls(keep**2, squares)[0], np.linalg.pinv(keep**2, rcond=0.01)
    for size in batches(draws, squares.size):
        noise = wishart(rng, count=size, side=squares.size, dof=dof)
        aim = np.broadcast_to(start, noise.shape[:2])
        for _ in range(MATCHING_STEPS):
            away = np.einsum("bii->bi", keep @ strong(noise, np.sqrt(aim)) @ keep)
            aim = np.maximum(aim + (squares - away) @ back, 0.0)
        yield np.asarray(keep @ strong(noise, np.sqrt(aim)) @ keep)


def _shares(inner: Floats) -> Floats:
    values = np.maximum(np.linalg.eigvalsh(inner), 0.0)
    return np.asarray(values[:, -1] / values.sum(axis=1))
