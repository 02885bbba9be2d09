"""Stored numbers of every way to share a basis, and how layers share a budget of bytes.

Letters: n models, a layer m x p, k directions a side, r the rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uws_core.errors import BudgetError
from uws_core.nouns.arrays import Floats, Ints
from uws_core.nouns.models import LayerKey
from uws_core.nouns.storage import LayerPlan, Method


def plan(layer: LayerKey, method: Method, k: int, *, mean: bool = False, rank: int = 0) -> LayerPlan:
    """Returns the exact counts of a layer at k directions.

    two-sided `k (m + p)` once and `k^2` a model, or `2 k r` for updates of at most `rank` r where that is less;
    diagonal `k (m + p)` and `k`; in `k p` and `m k`; out `k m` and `k p`. `mean` adds the stored centre `m p`.
    """
    m, p = layer.shape
    # A side has no more directions than entries.
    k_out, k_in = min(k, m), min(k, p)
    once, each = {
        Method.TWO_SIDED: (k_out * m + k_in * p, k_out * k_in),
        Method.DIAGONAL: (k * (m + p), k),
        Method.IN: (k_in * p, m * k_in),
        Method.OUT: (k_out * m, k_out * p),
    }[method]
    thin = method is Method.TWO_SIDED and 0 < rank * (k_out + k_in) < each
    each = rank * (k_out + k_in) if thin else each
    return LayerPlan(layer, method, k, once + (m * p if mean else 0), each, rank if thin else 0)


@dataclass(frozen=True)
class Curve:
    """A layer's expected squared relative error at k = 0, 1, ... directions, and the models' squared norms (n,).

    `rank` is the largest of updates that are adapters.
    """

    layer: LayerKey
    errors2: Floats
    norms2: Floats
    rank: int = 0


def spend(curves: Sequence[Curve], method: Method, *, budget: int, mean: bool = False) -> tuple[LayerPlan, ...]:
    """Returns the layers' plans for at most `budget` stored numbers: the most error removed per number first.

    Greedy over the convex hull of each layer's error against its numbers, so that a layer whose first directions bring
    little is not passed over for that. Every layer gets at least one direction; layers count by their share of the
    models' squared norms.

    Raises:
        BudgetError: one direction a layer is more than the budget; the message says the least.
    """
    n = curves[0].norms2.size
    totals = np.maximum(sum(curve.norms2 for curve in curves), 1e-300)
    prices = [_prices(curve, method, n, mean) for curve in curves]
    hulls = [
        _steps(curve.errors2, price, float(np.mean(curve.norms2 / totals)))
        for curve, price in zip(curves, prices, strict=True)
    ]
    ks = [1] * len(curves)
    spent = sum(price[1] for price in prices)
    if spent > budget:
        raise BudgetError(f"One direction a layer takes {spent} numbers, the budget has {budget}; raise the budget")
    slopes, corners = (np.concatenate([hull[part] for hull in hulls]) for part in (0, 1))
    indices = np.repeat(np.arange(len(hulls)), [hull[1].size for hull in hulls])
    order = np.lexsort((corners, indices, slopes))
    for index, k in zip(indices[order].tolist(), corners[order].tolist(), strict=True):
        more = prices[index][k] - prices[index][ks[index]]
        if k > ks[index] and spent + more <= budget:
            spent, ks[index] = spent + more, k
    # What is left of the budget goes to single directions.
    for index, (curve, price) in enumerate(zip(curves, prices, strict=True)):
        while ks[index] + 1 < len(price) and curve.errors2[ks[index]] > 0:
            more = price[ks[index] + 1] - price[ks[index]]
            if spent + more > budget:
                break
            spent, ks[index] = spent + more, ks[index] + 1
    return tuple(plan(curve.layer, method, k, mean=mean, rank=curve.rank) for curve, k in zip(curves, ks, strict=True))


def reach(curves: Sequence[Curve], method: Method, *, error: float, mean: bool = False) -> tuple[LayerPlan, ...]:
    """Returns the fewest directions a layer whose expected relative error is at most `error`."""
    plans = []
    for curve in curves:
        good = np.flatnonzero(curve.errors2 <= error**2)
        k = int(good[0]) if good.size else curve.errors2.size - 1
        plans.append(plan(curve.layer, method, max(k, 1), mean=mean, rank=curve.rank))
    return tuple(plans)


def _prices(curve: Curve, method: Method, n: int, mean: bool) -> list[int]:
    """The stored numbers of a layer of n models at k = 0, 1, ... directions."""
    (m, p), ks = curve.layer.shape, np.arange(curve.errors2.size, dtype=np.int64)
    outs, ins = np.minimum(ks, m), np.minimum(ks, p)
    if method is Method.TWO_SIDED:
        cores = outs * ins
        thin = curve.rank * (outs + ins)
        found = outs * m + ins * p + n * (np.where((thin > 0) & (thin < cores), thin, cores))
    elif method is Method.DIAGONAL:
        found = ks * (m + p + n)
    else:
        found = ins * p + n * m * ins if method is Method.IN else outs * m + n * p * outs
    prices: list[int] = (found + (m * p if mean else 0)).tolist()
    return prices


def _steps(errors2: Floats, prices: Sequence[int], share: float) -> tuple[Floats, Ints]:
    """The slopes that lead to the corners of the lower convex hull of error against numbers, and the corners k.

    A point on or above the line between its neighbours is no corner, whatever else goes, so all such go at once: two or
    three rounds, where a stack that takes one point after the other takes 2 ms a layer of 1024.
    """
    paid, ks = np.asarray(prices, dtype=np.float64), np.arange(1, errors2.size)

    def slope(start: Ints, stop: Ints) -> Floats:
        return np.asarray((errors2[stop] - errors2[start]) / np.maximum(paid[stop] - paid[start], 1))

    above = np.ones(1, dtype=bool)
    while ks.size > 2 and above.any():
        above = slope(ks[:-2], ks[1:-1]) >= slope(ks[:-2], ks[2:])
        ks = ks[np.concatenate([[True], ~above, [True]])]
    return share * slope(ks[:-1], ks[1:]), ks[1:]
