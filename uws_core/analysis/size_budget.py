"""Stored numbers of every way to share a basis, and how layers share a budget of bytes.

Letters: n models, a layer m x p, k directions a side, r the rank of an adapter.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uws_core.errors import BudgetError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.compression import LayerPlan, Method
from uws_core.nouns.models import LayerKey


def plan(layer: LayerKey, method: Method, k: int, *, rank: int = 0, mean: bool = False) -> LayerPlan:
    """Returns the exact counts of a layer at k directions.

    two-sided `k (m + p)` once and `k^2` a model (or `2 k r`, its thin core, where that is less); diagonal `k (m + p)`
    and `k`; in `k p` and `m k`; out `k m` and `k p`. `mean` adds the stored centre `m p`.
    """
    m, p = layer.shape
    once, each = {
        Method.TWO_SIDED: (k * (m + p), min(k * k, 2 * k * rank) if rank else k * k),
        Method.DIAGONAL: (k * (m + p), k),
        Method.IN: (k * p, m * k),
        Method.OUT: (k * m, k * p),
    }[method]
    return LayerPlan(layer, method, k, once + (m * p if mean else 0), each)


@dataclass(frozen=True)
class Curve:
    """A layer's squared relative error, averaged over models, at k = 0, 1, ... directions; never rising with k."""

    layer: LayerKey
    errors2: Floats
    rank: int = 0


def spend(
    curves: Sequence[Curve], method: Method, *, n: int, budget: int, mean: bool = False, weights: Floats | None = None
) -> tuple[LayerPlan, ...]:
    """Returns the layers' plans for at most `budget` stored numbers, the best next direction first.

    Greedy by error removed per number; exact for falling returns, as sorted eigenvalues give. `weights` is each layer's
    share of the models' energy. Every layer gets at least one direction.

    Raises:
        BudgetError: one direction a layer is more than the budget; the message says the least.
    """
    share = np.ones(len(curves)) if weights is None else weights
    ks = [1] * len(curves)

    def numbers(index: int, k: int) -> int:
        at = plan(curves[index].layer, method, k, rank=curves[index].rank, mean=mean)
        return at.shared_numbers + n * at.member_numbers

    spent = sum(numbers(index, 1) for index in range(len(curves)))
    if spent > budget:
        raise BudgetError(f"One direction a layer takes {spent} numbers; the budget has {budget}. Raise it to that")
    queue: list[tuple[float, int]] = []

    def push(index: int) -> None:
        k, errors2 = ks[index], curves[index].errors2
        if k + 1 < errors2.size and errors2[k] > 0:
            price = numbers(index, k + 1) - numbers(index, k)
            heapq.heappush(queue, (-float(share[index] * (errors2[k] - errors2[k + 1])) / max(price, 1), index))

    for index in range(len(curves)):
        push(index)
    while queue:
        _, index = heapq.heappop(queue)
        price = numbers(index, ks[index] + 1) - numbers(index, ks[index])
        if spent + price <= budget:
            spent += price
            ks[index] += 1
            push(index)
    return tuple(plan(curve.layer, method, k, rank=curve.rank, mean=mean) for curve, k in zip(curves, ks, strict=True))


def reach(curves: Sequence[Curve], method: Method, *, error: float, mean: bool = False) -> tuple[LayerPlan, ...]:
    """Returns the fewest directions a layer whose expected relative error is at most `error`."""
    plans = []
    for curve in curves:
        good = np.flatnonzero(curve.errors2 <= error**2)
        k = int(good[0]) if good.size else curve.errors2.size - 1
        plans.append(plan(curve.layer, method, max(k, 1), rank=curve.rank, mean=mean))
    return tuple(plans)
