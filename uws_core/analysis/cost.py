"""What a scan costs, from sizes alone: the formulas behind the estimate on the page and in the scale plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from uws_core.errors import BudgetError
from uws_core.nouns.block_grams import most_blocks
from uws_core.nouns.cost import Cost, Reading, Throughput, result_bytes, slabs_at_once
from uws_core.nouns.gram import Axis

# Memory that does not depend on the sizes: thread stacks, the products' own buffers.
FIXED_BYTES = 60 * 2**20
# Bytes a second of a modest connection to the Hub.
NETWORK = 10e6
# Products of ranks of adapters that are formed at once, and bytes of each: four in single, two in double.
_BLOCK_PRODUCTS, _BLOCK_ITEM = 2**20, 16


def scan_cost(readings: Sequence[Reading], *, n: int, budget: int, throughput: Throughput | None = None) -> Cost:
    """The cost of one Gram of `n` models a layer, with slabs of `budget` bytes.

    Seconds are of reading and of computing, which share the cores, of opening the models once and finding each tensor,
    and of what the Hub sends: `n o + bytes / R + n d / E + n^2 d / F + n t + far / N` with its o and t (s),
    R (bytes/s), E (entries/s) and F (multiply-adds/s). Memory is a slab a core and one more, within the budget, a
    float64 matrix of n x n for each and four more, block Grams for each and two more, and a fixed part. Adapters of
    `R = sum r` ranks take `R^2 (m + p) / 2` multiply-adds, and their factors twice in memory. A layer that the budget
    has no room for costs nothing and is named in `refused`.
    """
    speed = throughput or Throughput()
    possible, refused = _possible(readings, budget)
    read = sum(one.bytes for one in possible)
    far = sum(one.far for one in possible)
    work = sum(_computing(one, speed) for one in possible)
    opening = _opening(possible, speed)
    seconds = read / speed.bytes_per_second + work + opening + far / NETWORK
    held = max((_held(one, budget, speed.cores) for one in possible), default=0)
    stored = result_bytes(len(possible), n=n)
    return Cost(len(possible), read, held + _matrices(n, speed.cores) + FIXED_BYTES, seconds, far, stored, refused)


def side_cost(readings: Sequence[Reading], *, axis: Axis, budget: int, throughput: Throughput | None = None) -> Cost:
    """The cost of one side Gram a layer: two reads, `n d s` multiply-adds with `s` the side; three matrices of s x s.

    A model's own matrix is held beside the centre, both in single precision, or all models' within the budget; the
    mean of dense layers is read in slabs, which are refused as a scan's are.
    """
    speed = throughput or Throughput()
    possible, refused = _possible([one for one in readings if not one.ranks], budget)
    # Adapters are multiplied out one at a time.
    readings = [*possible, *(one for one in readings if one.ranks)]
    read, far = 2 * sum(one.bytes for one in readings), sum(one.far for one in readings)
    sides = [one.layer.shape[1 if axis is Axis.IN else 0] for one in readings]
    steps = sum(one.models * one.layer.entries * side for one, side in zip(readings, sides, strict=True))
    opening = 2 * _opening([replace(one, ranks=0) for one in readings], speed)
    seconds = max(read / speed.bytes_per_second, steps / speed.steps_per_second) + opening + far / NETWORK
    memory = max(
        (
            min(budget, one.models * one.layer.entries * one.item_bytes)
            + 2 * one.layer.entries * one.item_bytes
            + 3 * 8 * side**2
            for one, side in zip(readings, sides, strict=True)
        ),
        default=0,
    )
    stored = sum(8 * side**2 for side in sides)
    return Cost(len(readings), read, memory + FIXED_BYTES, seconds, far, stored, refused)


def _opening(readings: Sequence[Reading], throughput: Throughput) -> float:
    """The seconds to open each model once, and to find each tensor; an adapter's update lies in two."""
    opened = max((one.models for one in readings), default=0) * throughput.seconds_per_open
    return opened + sum((2 if one.ranks else 1) * one.models for one in readings) * throughput.seconds_per_read


def _possible(readings: Sequence[Reading], budget: int) -> tuple[list[Reading], tuple[str, ...]]:
    """The readings that the budget has room for, and of the others why it has none."""
    possible, refused = list[Reading](), list[str]()
    for one in readings:
        try:
            one.rows(budget)
        except BudgetError as error:
            refused.append(str(error))
        else:
            possible.append(one)
    return possible, tuple(refused)


def _held(one: Reading, budget: int, cores: int) -> int:
    """The bytes of one layer's weights in memory at once."""
    if one.ranks:
        # At least those of one model with all.
        products = min(max(_BLOCK_PRODUCTS, one.ranks**2 // max(one.models, 1)), one.ranks**2)
        return 2 * one.factors * one.item_bytes + _BLOCK_ITEM * products
    at_once = slabs_at_once(one.models, one.layer, item_bytes=one.item_bytes, budget=budget, cores=cores)
    return min(at_once * one.rows(budget), one.layer.shape[0]) * one.models * one.layer.shape[1] * one.item_bytes


def _matrices(n: int, cores: int) -> int:
    """The bytes of the n x n matrices of the workers and of their blocks, and of the result on its way to the store."""
    blocks = 2 * most_blocks(n) * 4 * (n + 2) ** 2
    return (cores + 1 + 4) * 8 * n * n + (cores + 1 + 2) * blocks


def _computing(one: Reading, throughput: Throughput) -> float:
    if one.ranks:
        return one.ranks**2 * sum(one.layer.shape) / 2 / throughput.steps_per_second
    n, d = one.models, one.layer.entries
    return n * d / throughput.entries_per_second + n * n * d / throughput.steps_per_second
