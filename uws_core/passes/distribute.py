"""Layers computed side by side by any `concurrent.futures.Executor`: threads here, or the workers of a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import replace

from uws_core.errors import ClusterError, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.blocks import BLOCK_BYTES, block_gram, join_blocks, row_blocks, single_layer_collection
from uws_core.passes.options import ComputeOptions, no_report
from uws_core.sources.base import Rows

# How often a cancel is noticed while workers are busy.
_POLL_SECONDS = 0.5
# References waiting in the queue of an executor, over all items; each item carries those of all models.
_REFS_WAITING = 2**18
_LEAST_WAITING = 64

# Called with the weights of blocks that are done in unfinished layers, and a message; raises Cancelled.
Beat = Callable[[int, str], None]


def distributed_grams(
    collection: Collection,
    layers: Sequence[LayerKey],
    executor: Executor,
    *,
    options: ComputeOptions,
    beat: Beat,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[LayerKey, Gram | UwsError]]:
    """Each layer with its Gram or its error, as they finish; large layers are split in blocks of rows.

    Raises:
        Cancelled: `beat` raised it; items that wait are withdrawn.
    """
    queue = _Queue(collection, executor, replace(options, report=no_report))
    for layer in layers:
        queue.add(layer, row_blocks(collection, layer, budget=options.budget, block_bytes=block_bytes))
    try:
        while queue.unfinished:
            queue.submit()
            done, _ = wait(queue.running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                yield from queue.collect(future)
            message = f"{len(queue.unfinished)} layers to go, {len(queue.running)} items with the workers"
            beat(queue.entries_done, message)
    finally:
        for future in queue.running:
            future.cancel()


class _Queue:
    """The items that wait, those that run, and the blocks that are done."""

    def __init__(self, collection: Collection, executor: Executor, options: ComputeOptions) -> None:
        self._collection, self._executor, self._options = collection, executor, options
        self._waiting: deque[tuple[LayerKey, Rows]] = deque()
        self._most = max(_REFS_WAITING // max(len(collection), 1), _LEAST_WAITING)
        self._blocks: dict[str, int] = {}
        self._parts: dict[str, dict[Rows, Gram]] = {}
        self.running: dict[Future[Gram], tuple[LayerKey, Rows]] = {}
        self.unfinished: set[str] = set()

    @property
    def entries_done(self) -> int:
        """The weights, of one model, of blocks that are done in unfinished layers."""
        return sum(part.d for name in self.unfinished for part in self._parts[name].values())

    def add(self, layer: LayerKey, ranges: Sequence[Rows]) -> None:
        """Puts a layer's blocks in the queue."""
        self.unfinished.add(layer.name)
        self._blocks[layer.name], self._parts[layer.name] = len(ranges), {}
        self._waiting.extend((layer, rows) for rows in ranges)

    def submit(self) -> None:
        """Submits items while the executor's queue is short."""
        while self._waiting and len(self.running) < self._most:
            layer, rows = self._waiting.popleft()
            if layer.name not in self.unfinished:
                continue
            collection = single_layer_collection(self._collection, layer)
            try:
                item = self._executor.submit(block_gram, collection, layer, rows, self._options)
            except Exception as error:
                item = Future()
                item.set_exception(error)
            self.running[item] = (layer, rows)

    def collect(self, future: Future[Gram]) -> Iterator[tuple[LayerKey, Gram | UwsError]]:
        """The layer that this item completes, if it does."""
        layer, rows = self.running.pop(future)
        if layer.name not in self.unfinished:
            return
        try:
            self._parts[layer.name][rows] = future.result()
        # Any exception of a worker or of the transport: a killed worker is an error of Dask's own.
        except Exception as error:
            self.unfinished.discard(layer.name)
            cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            lost = ClusterError(
                f"{layer.name}: the worker that had it failed or was lost ({cause}). What is finished is kept; start "
                "the scan again when the workers are back, or without them"
            )
            yield layer, error if isinstance(error, UwsError) else lost
            return
        parts = self._parts[layer.name]
        if len(parts) < self._blocks[layer.name]:
            return
        gram = join_blocks(layer, [parts[rows] for rows in sorted(parts, key=lambda rows: rows or (0, 0))])
        if gram is None:
            # Some model is not finite in some blocks: all rows must be about the same models.
            self.add(layer, [None])
            return
        self.unfinished.discard(layer.name)
        yield layer, gram
