"""How often lineage alarms: on noise about one time in twenty, on what is planted the more often the stronger it is.

Run with `-s -m slow` it prints the tables of the README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.bench.measure import table
from tests.planted import families, gram_of, noise
from uws_core.analysis.attributes import explained, overlap
from uws_core.analysis.evidence import evidence
from uws_core.analysis.lineage import lineage
from uws_core.analysis.model_map import model_map
from uws_core.zoo import synthetic

SHAPES = {"layer": (64, 32)}
N, D = 24, 800
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
LIKENESS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


def alarms(collections: int) -> Mapping[str, float]:
    """The share of noise collections in which each test of the lineage alarms."""
    found: dict[str, list[bool]] = {}
    for seed in range(collections):
        rng = np.random.default_rng([seed, 1])
        gram = gram_of(noise(N, D, seed=20_000 + seed) * np.exp(0.2 * rng.standard_normal((N, 1))))
        family, names = lineage(gram), [f"task-{i % 4}" for i in rng.permutation(N)]
        groups, points = rng.permutation(np.arange(N) % 5), model_map(gram, kept=2)
        pairs = family.cosines[np.triu_indices(N, 1)]
        ratios = explained(points, names, name="task", draws=99, seed=seed)
        amount = explained(points, rng.standard_normal(N).tolist(), name="score", draws=99, seed=seed)
        heavy = gram_of(rng.laplace(size=(N, D)))
        seen = {
            "a column explains the groups": overlap(groups, names, name="task", draws=99, seed=seed).p <= 0.05,
            "a column explains component 1": ratios.p[0] <= 0.05,
            "a column explains component 2": ratios.p[1] <= 0.05,
            "a quantity explains component 1": amount.p[0] <= 0.05,
            "a cosine beyond chance": bool(pairs.max() > family.chance),
            "groups of noise": family.sizes.size < N,
            "copies in noise": bool(family.duplicates),
            "something odd about heavy-tailed noise": bool(lineage(heavy).outliers),
        }
        for name, alarm in seen.items():
            found.setdefault(name, []).append(bool(alarm))
    return {name: float(np.mean(one)) for name, one in found.items()}


def powers(collections: int, strengths: Sequence[float] = STRENGTHS) -> Mapping[float, tuple[float, float]]:
    """How often a planted direction is seen: components beyond noise, and concentration, by strength (1: BBP)."""
    rates = {}
    for strength in strengths:
        seen = []
        for seed in range(collections):
            made = synthetic.spike(strength=strength, count=1, shapes=SHAPES, seed=seed)
            told = evidence(gram_of(made.layers["layer"].reshape(40, -1)), draws=39, seed=seed)
            seen.append([told[claim].p <= 0.05 for claim in ("components", "concentrated")])
        first, second = np.mean(seen, axis=0)
        rates[strength] = (float(first), float(second))
    return rates


def kinship(collections: int) -> Mapping[float, float]:
    """How often two planted families are found exactly, by the cosine inside them."""
    truth = np.repeat([0, 1], 8)
    return {
        likeness: float(
            np.mean(
                [
                    np.array_equal(lineage(gram_of(families([8, 8], 2048, likeness=likeness, seed=seed))).groups, truth)
                    for seed in range(collections)
                ]
            )
        )
        for likeness in LIKENESS
    }


# What is tested at 5 %; the others must hardly ever alarm.
NOMINAL = (
    "a column explains the groups",
    "a column explains component 1",
    "a column explains component 2",
    "a quantity explains component 1",
    "a cosine beyond chance",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_test_of_the_lineage_alarms_on_noise_about_one_time_in_twenty() -> None:
    rates = alarms(200)
    rows = [(name, f"{rate:.1%}", "5 %" if name in NOMINAL else "0 %") for name, rate in rates.items()]
    table("False alarms of the lineage in 200 collections of noise", ["test", "alarms", "nominal"], rows)
    # At a true rate of 5 %, 200 collections stay between 2 and 9 % with a probability of 97 % a test.
    assert all(0.02 <= rates[name] <= 0.09 for name in NOMINAL), rates
    assert all(rate <= 0.02 for name, rate in rates.items() if name not in NOMINAL), rates


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_power_curve_rises_at_the_threshold_that_theory_gives() -> None:
    rates = powers(20)
    rows = [
        (f"{strength:g}" + (" (BBP threshold)" if strength == 1 else ""), f"{one:.0%}", f"{other:.0%}")
        for strength, (one, other) in rates.items()
    ]
    table("Power: one planted direction, 40 models", ["strength", "components beyond noise", "concentrates"], rows)
    found = kinship(20)
    kin = [(f"{likeness:g}", f"{rate:.0%}") for likeness, rate in found.items()]
    table("Power: two planted families of eight", ["cosine inside", "found exactly"], kin)
    assert max(rates[0.25]) <= 0.2
    assert rates[4.0][0] >= 0.95
    assert rates[4.0][0] > rates[1.0][0]
    assert found[0.5] == 1


def test_a_few_collections_show_the_same() -> None:
    rates = alarms(40)
    # Six or more of 40 happen once in 70 at a true rate of 5 %; the seeds are fixed.
    assert all(rates[name] <= 0.15 for name in NOMINAL), rates
    assert all(rate <= 0.05 for name, rate in rates.items() if name not in NOMINAL), rates
    weak, strong = powers(6, (0.25, 4.0)).values()
    assert weak[0] < strong[0] == 1
