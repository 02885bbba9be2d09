"""A layer summed by several threads, each on slabs of its own: it reads one, sums it alone, and takes its next.

One product on all cores has them wait for each other many times a slab, and for the readers in between; lanes never
wait, and what one reads is still in the cache of the core that sums it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from threading import Barrier, Lock, Semaphore

import torch
from torch import Tensor

from uws_core.analysis.cores import one_core_each
from uws_core.nouns.cost import slab_rows, slabs_at_once
from uws_core.nouns.models import LayerKey
from uws_core.passes.moments import Moments
from uws_core.sources.base import Source
from uws_core.sources.buffers import buffers
from uws_core.sources.slabs import SlabReader

# Each lane holds an n x n matrix: beyond so many models one lane with all cores takes less memory.
MOST_MODELS = 2048
_SMALL = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_FIRST_USE = Lock()


def summed(
    sources: Sequence[Source],
    layer: LayerKey,
    rows: tuple[int, int],
    *,
    budget: int,
    kind: torch.dtype,
    begin: Callable[[], Moments],
    done: Callable[[int], None],
) -> Moments:
    """The sums of rows `(start, stop)` of a dense layer, from `begin()` in each lane; `done(rows)` after each slab.

    The slabs of all lanes take at most `budget` bytes. A lane's slabs are fixed beforehand and the lanes are added in
    order, so that the same call gives the same bits.

    Raises:
        BudgetError: not even one row of every model fits twice.
        SourceError: a model cannot be read; the first one met is named.
    """
    threads = _threads()
    size = {"item_bytes": kind.itemsize, "budget": budget}
    height = slab_rows(len(sources), layer, **size)
    count = slabs_at_once(len(sources), layer, **size, cores=threads.cores)
    ranges = [(start, min(start + height, rows[1])) for start in range(rows[0], rows[1], height)]
    shape, held = (len(sources), height, layer.shape[1]), _held(sources, layer, kind)
    with buffers().lent(min(count, len(ranges)), shape, held) as lent, one_core_each():
        work = [
            _Lane(SlabReader(sources, layer, buffer), buffer, ranges[lane::count], begin(), threads.slots)
            for lane, buffer in enumerate(lent)
        ]
        if len(ranges) == 1:
            # One slab needs no other thread.
            done(work[0].step())
            return work[0].sums
        _drive(threads.pool, work, done)
    total = work[0].sums
    for lane in work[1:]:
        total.absorb(lane.sums)
    return total


def in_every_lane(work: Callable[[], None]) -> int:
    """Does `work` once a core, all at the same time, each as a lane would; returns how many cores."""
    threads = _threads()
    with one_core_each():
        for done in [threads.pool.submit(work) for _ in range(threads.cores)]:
            done.result()
    return threads.cores


class _Lane:
    """One lane's slabs to come, its buffer, and its sums."""

    def __init__(
        self,
        reader: SlabReader,
        buffer: Tensor,
        ranges: Sequence[tuple[int, int]],
        sums: Moments,
        slots: Semaphore,
    ) -> None:
        self.ranges = list(ranges)
        self.sums = sums
        self._slots, self._buffer, self._reader = slots, buffer, reader

    def step(self) -> int:
        """Reads and adds the next slab; returns its rows."""
        start, stop = self.ranges.pop(0)
        self._reader.read(start, stop)
        with self._slots:
            self.sums.add(self._buffer[:, : stop - start].flatten(1))
        return stop - start


def _held(sources: Sequence[Source], layer: LayerKey, kind: torch.dtype) -> torch.dtype:
    """The type of a slab's numbers: small ones stay as stored, to be widened where the sums find them in the cache."""
    (stored, *others) = {source.stored_type(layer.name) for source in sources}
    found = _SMALL.get(stored, kind) if not others else kind
    return found if found.itemsize < kind.itemsize else kind


def _drive(pool: ThreadPoolExecutor, lanes: Sequence[_Lane], done: Callable[[int], None]) -> None:
    """Has every lane take its next slab as soon as it is through with one."""
    running = {pool.submit(lane.step): lane for lane in lanes}
    try:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                lane = running.pop(future)
                read = future.result()
                if lane.ranges:
                    running[pool.submit(lane.step)] = lane
                done(read)
    finally:
        # After an error or a cancel a lane may still be at its slab.
        wait(running)


@dataclass(frozen=True, slots=True)
class _Threads:
    """One thread more than there are cores, so that one reads while the others compute: `slots` lets no more do so."""

    pool: ThreadPoolExecutor
    slots: Semaphore
    cores: int


def _threads() -> _Threads:
    with _FIRST_USE:
        return _started()


@cache
def _started() -> _Threads:
    """Threads in which torch uses one core each.

    torch keeps the number for each thread, and for threads to come; the latter is put back once all have started.
    """
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(cores + 1, "uws-lane", initializer=torch.set_num_threads, initargs=(1,))
    together = Barrier(cores + 2)
    for _ in range(cores + 1):
        pool.submit(together.wait)
    together.wait()
    torch.set_num_threads(cores)
    return _Threads(pool, Semaphore(cores), cores)


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_started.cache_clear)
