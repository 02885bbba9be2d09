"""Counts of stored numbers, as integers, and budgets that layers share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from uws_core.analysis.size_budget import Curve, _prices, plan, reach, spend
from uws_core.errors import BudgetError
from uws_core.nouns.models import LayerKey
from uws_core.nouns.storage import Method

LARGE = LayerKey("q", (4096, 4096))


@pytest.mark.parametrize(
    ("method", "n", "k", "numbers"),
    [
        (Method.TWO_SIDED, 500, 16, 259_072),
        (Method.TWO_SIDED, 500, 64, 2_572_288),
        (Method.TWO_SIDED, 1000, 16, 387_072),
        (Method.DIAGONAL, 500, 16, 139_072),
        (Method.DIAGONAL, 500, 64, 556_288),
        (Method.DIAGONAL, 1000, 16, 147_072),
    ],
)
def test_numbers_of_adapters_are_the_published_integers(method: Method, n: int, k: int, numbers: int):
    counted = plan(LARGE, method, k)
    assert counted.shared_numbers + n * counted.member_numbers == numbers


@pytest.mark.parametrize(("n", "k", "numbers"), [(500, 64, 1_548_288), (500, 16, 259_072), (1000, 16, 387_072)])
def test_cores_of_rank_16_are_stored_thin_where_that_is_less(n: int, k: int, numbers: int):
    counted = plan(LARGE, Method.TWO_SIDED, k, rank=16)
    assert counted.shared_numbers + n * counted.member_numbers == numbers
    assert counted.core_rank == (16 if k == 64 else 0)


def test_numbers_of_whole_weights():
    layer = LayerKey("up", (64, 32))
    assert plan(layer, Method.IN, 8, mean=True).shared_numbers == 8 * 32 + 64 * 32
    assert plan(layer, Method.IN, 8).member_numbers == 64 * 8
    assert plan(layer, Method.OUT, 8).member_numbers == 8 * 32
    # A side has no more directions than entries.
    assert plan(layer, Method.TWO_SIDED, 40).member_numbers == 40 * 32


def curves(seed: int, sizes: tuple[int, ...]) -> list[Curve]:
    generator = np.random.default_rng(seed)
    made = []
    for number, size in enumerate(sizes):
        energy = np.sort(generator.exponential(size=size) ** 2)[::-1]
        errors2 = np.clip(1 - np.concatenate([[0.0], np.cumsum(energy)]) / energy.sum(), 0, 1)
        made.append(Curve(LayerKey(f"l{number}", (size, 2 * size)), errors2, generator.uniform(0.5, 2, 3)))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_no_other_split_of_the_budget_is_much_better(seed: int):
    layers = curves(seed, (4, 5, 6))
    totals = sum(curve.norms2 for curve in layers)
    share = [float(np.mean(curve.norms2 / totals)) for curve in layers]

    def numbers(ks: tuple[int, ...]) -> int:
        counts = [plan(curve.layer, Method.IN, k) for curve, k in zip(layers, ks, strict=True)]
        return sum(count.shared_numbers + 3 * count.member_numbers for count in counts)

    def error(ks: tuple[int, ...]) -> float:
        return sum(weight * curve.errors2[k] for weight, curve, k in zip(share, layers, ks, strict=True))

    budget = numbers((2, 3, 3))
    found = tuple(count.k for count in spend(layers, Method.IN, budget=budget))
    assert numbers(found) <= budget
    options = itertools.product(range(1, 5), range(1, 6), range(1, 7))
    best = min(error(ks) for ks in options if numbers(ks) <= budget)
    # Greedy leaves at most one step's worth on the table.
    assert (
        error(found) <= best + max(weight * curve.errors2[1] for weight, curve in zip(share, layers, strict=True)) / 2
    )


def test_a_budget_below_one_direction_a_layer_says_the_least():
    with pytest.raises(BudgetError, match=r"takes \d+ numbers, the budget has 3"):
        spend(curves(0, (4, 5)), Method.TWO_SIDED, budget=3)


def test_a_layer_whose_first_directions_bring_little_still_gets_its_share():
    late = np.array([1, 0.999, 0.998, 0.997, 0.05, 0.04, 0.03, 0.02, 0.0])
    early = np.linspace(1, 0.7, 9)
    layers = [Curve(LayerKey(name, (8, 8)), errors, np.ones(2)) for name, errors in (("a", late), ("b", early))]
    ks = {count.layer.name: count.k for count in spend(layers, Method.IN, budget=170)}
    assert ks["a"] >= 4


def test_reach_takes_the_fewest_directions():
    (count,) = reach(
        [Curve(LayerKey("a", (8, 8)), np.array([1, 0.5, 0.26, 0.2, 0.0]), np.ones(2))], Method.IN, error=0.5
    )
    assert count.k == 3


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("rank", [0, 3])
def test_prices_at_every_size_are_those_of_the_plan(method: Method, rank: int):
    curve = Curve(LayerKey("a", (9, 14)), np.linspace(1, 0, 15), np.ones(2), rank)
    plans = [plan(curve.layer, method, k, mean=True, rank=rank) for k in range(15)]
    assert _prices(curve, method, 2, True) == [one.shared_numbers + 2 * one.member_numbers for one in plans]
