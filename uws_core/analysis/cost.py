"""What a scan costs, from sizes alone: the formulas behind the estimate on the page and in the scale plan."""

from __future__ import annotations

from collections.abc import Sequence

from uws_core.nouns.cost import Cost, Pace, result_bytes
from uws_core.nouns.models import LayerKey

# From these numbers of models on, products are formed below the diagonal only: 3/4 and 5/8 of the square.
TILES = ((256, 5 / 8), (64, 3 / 4), (0, 1.0))
# Memory that does not depend on the sizes: thread stacks, the products' own buffers.
FIXED_BYTES = 60 * 2**20


def scan_cost(
    layers: Sequence[LayerKey],
    *,
    n: int,
    budget: int,
    item_bytes: int = 4,
    pace: Pace | None = None,
    thin_ranks: int = 0,
) -> Cost:
    """The cost of one Gram a layer over `n` models stored in `item_bytes` a weight, with slabs of `budget` bytes.

    Seconds are the larger of reading and of computing, which overlap, plus opening `n` files a layer:
    `max(n d item / R, n d / E + f(n) n^2 d / F) + n t` with the pace's R (bytes/s), E (entries/s), F (multiply-adds/s)
    and t (s); f is 1, 3/4 or 5/8. Memory is two slabs in float32 within the budget, four float64 matrices of n x n,
    and a fixed part. With `thin_ranks = sum r` the layers are adapters' updates: `R^2 (m + p) / 2` multiply-adds.
    """
    speed = pace or Pace()
    entries = [layer.entries for layer in layers]
    read = n * item_bytes * sum(entries)
    work = sum(_computing(n, count, speed) for count in entries)
    if thin_ranks:
        read = item_bytes * thin_ranks * sum(sum(layer.shape) for layer in layers)
        work = thin_ranks**2 * sum(sum(layer.shape) for layer in layers) / 2 / speed.steps_per_second
    slabs = min(budget, 4 * n * max(entries, default=0))
    seconds = max(read / speed.bytes_per_second, work) + n * len(layers) * speed.seconds_per_read
    stored = result_bytes(len(layers), n=n)
    return Cost(len(layers), read, slabs + 4 * 8 * n * n + FIXED_BYTES, seconds, stored=stored)


def _computing(n: int, d: int, pace: Pace) -> float:
    part = next(part for least, part in TILES if n >= least)
    return n * d / pace.entries_per_second + part * n * n * d / pace.steps_per_second
