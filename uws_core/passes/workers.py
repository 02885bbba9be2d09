"""A dense layer summed by several threads: each reads a slab, sums it alone, and takes its next.

A product on all cores makes them wait for each other many times a slab, and for the readers in between. These workers
never wait, and a slab that a worker has read is still in the cache of its core when it sums it.
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
from uws_core.sources.files.buffers import buffers
from uws_core.sources.files.row_slabs import SlabReader

# Each worker holds an n x n matrix: beyond so many models one worker with all cores takes less memory.
MOST_MODELS = 2048
_SMALL = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_FIRST_USE = Lock()


@dataclass(frozen=True, slots=True)
class LayerSlabs:
    """The rows (start, stop) of a layer to read in slabs, which all workers' together take at most `budget` bytes."""

    sources: Sequence[Source]
    layer: LayerKey
    rows: tuple[int, int]
    kind: torch.dtype
    budget: int


def parallel_sums(slabs: LayerSlabs, empty_sums: Callable[[], Moments], report_rows: Callable[[int], None]) -> Moments:
    """The sums of a dense layer, from `empty_sums()` in each worker; calls `report_rows(count)` after each slab.

    The slabs of each worker are fixed beforehand and the workers' sums are added in order, so that the same call gives
    the same bits.

    Raises:
        BudgetError: not even one row of every model fits twice.
        SourceError: a model cannot be read; the first one met is named.
    """
    threads, (first, last), layer = _threads(), slabs.rows, slabs.layer
    n, item_bytes = len(slabs.sources), slabs.kind.itemsize
    height = slab_rows(n, layer, item_bytes=item_bytes, budget=slabs.budget)
    count = slabs_at_once(n, layer, item_bytes=item_bytes, budget=slabs.budget, cores=threads.cores)
    ranges = [(start, min(start + height, last)) for start in range(first, last, height)]
    # Numbers of a small type stay as stored and are widened chunk by chunk, in the cache.
    stored = {source.stored_type(layer.name) for source in slabs.sources}
    small = _SMALL.get(stored.pop(), slabs.kind) if len(stored) == 1 else slabs.kind
    dtype = small if small.itemsize < slabs.kind.itemsize else slabs.kind
    shape = (len(slabs.sources), height, layer.shape[1])
    with buffers().lent(min(count, len(ranges)), shape, dtype) as lent, one_core_each():
        workers = [
            _Worker(SlabReader(slabs.sources, layer, buffer), buffer, ranges[index::count], empty_sums(), threads.slots)
            for index, buffer in enumerate(lent)
        ]
        if len(ranges) == 1:
            # One slab needs no other thread.
            report_rows(workers[0].step())
            return workers[0].sums
        # Every worker takes its next slab as soon as it has summed one.
        running = {threads.pool.submit(worker.step): worker for worker in workers}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    worker = running.pop(future)
                    rows = future.result()
                    if worker.ranges:
                        running[threads.pool.submit(worker.step)] = worker
                    report_rows(rows)
        finally:
            # After an error or a cancel a worker may still be at its slab.
            wait(running)
    total = workers[0].sums
    for worker in workers[1:]:
        total.absorb(worker.sums)
    return total


def worker_threads() -> tuple[ThreadPoolExecutor, int]:
    """Threads in which torch uses one core each, one more than there are cores, and the number of cores."""
    threads = _threads()
    return threads.pool, threads.cores


def on_every_core(work: Callable[[], None]) -> int:
    """Calls `work` once a core, all at the same time, each in a worker's thread; returns how many cores."""
    threads = _threads()
    with one_core_each():
        for done in [threads.pool.submit(work) for _ in range(threads.cores)]:
            done.result()
    return threads.cores


class _Worker:
    """One worker's slabs to come, its buffer, and its sums."""

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
            self.sums.add(self._buffer[:, : stop - start], start)
        return stop - start


@dataclass(frozen=True, slots=True)
class _Threads:
    """One thread more than cores, so that one reads while the others compute; at most `slots` compute at once."""

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
    pool = ThreadPoolExecutor(cores + 1, "uws-worker", initializer=torch.set_num_threads, initargs=(1,))
    together = Barrier(cores + 2)
    for _ in range(cores + 1):
        pool.submit(together.wait)
    together.wait()
    torch.set_num_threads(cores)
    return _Threads(pool, Semaphore(cores), cores)


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_started.cache_clear)
