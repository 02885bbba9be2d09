"""Were two networks trained independently? An exact test from the order of their hidden units.

Training does not know the order of an MLP's hidden units: a network with its units permuted is as likely as the
network itself. So permuted copies of one network are exchangeable with it as long as the other was trained without
looking at it, and a p-value from such copies is exact whatever the weights are. Source: arXiv 2502.12292.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.independence import IndependenceTest


def unit_products(left: Sequence[Floats], right: Sequence[Floats], *, hidden: Sequence[str] | None = None) -> Floats:
    """Returns inner products (h, h) of every hidden unit of one network with every one of another.

    `left` and `right` are the matrices around one hidden layer in the same order, each with the hidden units on its
    rows (`hidden` "out", the matrix before) or its columns ("in", the matrix after); by default the first is before and
    the rest are after. Products of the matrices are scaled to Frobenius norm 1 each, so that both count alike.

    Raises:
        LayerError: matrices that do not fit each other.
    """
    sides = list(hidden) if hidden is not None else ["out", *["in"] * (len(left) - 1)]
    total = None
    for one, other, side in zip(left, right, sides, strict=True):
        units = [np.asarray(matrix if side == "out" else matrix.T) for matrix in (one, other)]
        if units[0].shape != units[1].shape:
            raise LayerError(f"Hidden layers of one shape were expected; found {units[0].shape} and {units[1].shape}")
        # The mean over units is the same for every order and would only add a constant.
        first, second = (matrix - matrix.mean(axis=0) for matrix in units)
        scale = float(np.linalg.norm(first) * np.linalg.norm(second))
        product = first @ second.T / scale if scale > 0 else np.zeros((len(first), len(second)))
        if total is not None and total.shape != product.shape:
            raise LayerError(f"One number of hidden units was expected; found {len(total)} and {len(product)}")
        total = product if total is None else total + product
    if total is None:
        raise LayerError("At least one matrix beside the hidden layer is needed")
    return np.asarray(total / len(sides))


def permutation_test(
    products: Mapping[tuple[int, int], np.ndarray], *, copies: int = 999, seed: int = 0
) -> IndependenceTest:
    """Returns the exact p-value that the networks of a group were trained independently.

    `products` maps pairs of networks (i, j), i < j, to their `unit_products` (h, h). The statistic is the mean over
    pairs of the trace: how alike units at the same place are. Each copy permutes the units of every network but the
    first. Small p: at least two of them are relatives. Price: `copies * pairs * h`.

    Raises:
        LayerError: no pair, or pairs of several numbers of units.
    """
    sizes = {matrix.shape for matrix in products.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2 or len(set(next(iter(sizes)))) != 1:
        raise LayerError(f"Pairs with one number of hidden units were expected; found {sorted(sizes)}")
    units = next(iter(sizes))[0]
    networks = sorted({network for pair in products for network in pair})
    rng = np.random.default_rng(seed)
    order = np.arange(units)

    def statistic(permutations: Mapping[int, np.ndarray]) -> float:
        traces = [matrix[permutations[i], permutations[j]].sum(dtype=np.float64) for (i, j), matrix in products.items()]
        return float(np.mean(traces))

    observed = statistic(dict.fromkeys(networks, order))
    samples = np.array(
        [
            statistic(
                {network: order if place == 0 else rng.permutation(units) for place, network in enumerate(networks)}
            )
            for _ in range(copies)
        ]
    )
    hits = int((samples >= observed).sum())
    return IndependenceTest(
        networks=len(networks),
        units=units,
        statistic=observed,
        p=(1 + hits) / (1 + copies),
        copies=copies,
        seed=seed,
        samples=samples,
    )
