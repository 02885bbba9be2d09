"""Power and mean counts of the count of shared directions under flipped blocks, the default null."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.block_grams import gram_of
from tests.nothing_shared import M, N, P
from tests.test_chance_tables import NORMS
from uws_core.analysis.shared_directions import shared_directions

D = M * P
Planted = Callable[[np.random.Generator], np.ndarray]


def spikes(rng: np.random.Generator, strengths: tuple[float, ...]) -> np.ndarray:
    """Noise (N, D) and a shared direction of each strength, in multiples of the detection limit of equal noise."""
    weights = rng.standard_normal((N, D))
    for strength in strengths:
        direction = rng.standard_normal(D)
        coordinates = rng.standard_normal(N)
        coordinates -= coordinates.mean()
        coordinates *= np.sqrt(strength * np.sqrt(N * D)) / np.linalg.norm(coordinates)
        weights += coordinates[:, None] * direction / np.linalg.norm(direction)
    return weights


def mostly_shared(rng: np.random.Generator) -> np.ndarray:
    """Four directions that hold 80 % of the variance of every model."""
    shared = rng.standard_normal((N, 4)) @ np.linalg.qr(rng.standard_normal((D, 4)))[0].T
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    return np.sqrt(0.2) * rng.standard_normal((N, D)) + np.sqrt(0.8 * D) * shared


def near_copies(rng: np.random.Generator) -> np.ndarray:
    """Independent models, two of which differ by a tenth."""
    weights = rng.standard_normal((N, D))
    weights[-1] = weights[-2] + 0.1 * rng.standard_normal(D)
    return weights


def six_groups(rng: np.random.Generator) -> np.ndarray:
    """Six groups of four models about six points, which half of the variance lies between."""
    return np.sqrt(0.5) * (rng.standard_normal((N, D)) + rng.standard_normal((6, D))[np.arange(N) % 6])


# What is planted, and how many directions that is. Six points that all lie in one another's span have five directions
# between them; models that are scaled as a whole lie on six rays instead, whose points span six.
TRUTHS: dict[str, tuple[Planted, dict[str, int]]] = {
    "one": (lambda rng: spikes(rng, (10,)), {}),
    "five": (lambda rng: spikes(rng, (5, 7, 10, 14, 20)), {}),
    "four of 80 %": (mostly_shared, {}),
    "a pair": (near_copies, {}),
    "six groups": (six_groups, {"log-normal .5": 6}),
}
NUMBER = {"one": 1, "five": 5, "four of 80 %": 4, "a pair": 1, "six groups": 5}


def counts(planted: Planted, norms: str, repetitions: int) -> np.ndarray:
    """The count in each of `repetitions` collections, every model scaled by its norm."""
    found = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        weights = planted(rng) * NORMS[norms](rng)[:, None]
        found.append(shared_directions(gram_of(weights.reshape(N, M, P)), seed=seed).count)
    return np.array(found)


def grouped_about_one_point(rng: np.random.Generator) -> np.ndarray:
    """Six groups whose points stay where they are: only each model's own noise is larger or smaller."""
    noise = rng.standard_normal((N, D)) * NORMS["log-normal .5"](rng)[:, None]
    return np.asarray(np.sqrt(0.5) * (noise + rng.standard_normal((6, D))[np.arange(N) % 6]))


@pytest.mark.parametrize(("planted", "truth"), [(grouped_about_one_point, 5), (six_groups, 6)])
def test_groups_at_log_normal_norms_have_as_many_directions_as_their_points_span(planted: Planted, truth: int) -> None:
    """Scaling whole models moves the group points apart along their rays: that is a sixth direction, not an error."""
    norms = "equal" if planted is grouped_about_one_point else "log-normal .5"
    assert abs(counts(planted, norms, 6).mean() - truth) <= 0.2


def test_five_directions_behind_a_strong_model_are_counted() -> None:
    assert abs(counts(TRUTHS["five"][0], "one 5x", 6).mean() - 5) <= 0.2


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_power_table() -> None:
    """False alarms at most 9 % for every kind of norms, and at five times the detection limit 95 % are found."""
    repetitions, wrong = 200, {}
    print("\n| norms, profile null | none planted | 2 | 3 | 5 | 10 | 40 |\n|---|---|---|---|---|---|---|")
    for norms in NORMS:
        rates = [
            100 * float((counts(lambda rng, s=s: spikes(rng, s), norms, repetitions) > 0).mean())
            for s in ((), (2.0,), (3.0,), (5.0,), (10.0,), (40.0,))
        ]
        print(f"| {norms} | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |", flush=True)
        wrong |= {norms: rates} if rates[0] > 9 or min(rates[3:]) < 95 else {}
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_mean_count_is_the_truth() -> None:
    """Within 0.15 for one, five, four, a pair and groups, at four kinds of norms."""
    repetitions, wrong = 60, {}
    print("\n| planted, profile null | norms | truth | mean count |\n|---|---|---|---|")
    for name, (planted, other) in TRUTHS.items():
        for norms in ("equal", "one 3x", "one 5x", "log-normal .5"):
            truth = other.get(norms, NUMBER[name])
            mean = float(counts(planted, norms, repetitions).mean())
            print(f"| {name} | {norms} | {truth} | {mean:.2f} |", flush=True)
            wrong |= {(name, norms): (truth, mean)} if abs(mean - truth) > 0.15 else {}
    assert wrong == {}
