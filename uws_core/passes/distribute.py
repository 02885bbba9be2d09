"""Layers computed side by side by any `concurrent.futures.Executor`: threads here, or the workers of a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from uws_core.errors import ClusterError, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.blocks import BLOCK_BYTES, block, joined, lean, row_blocks
from uws_core.sources.base import Rows

# How often somebody who pressed stop is heard while workers are busy.
_BEAT_SECONDS = 0.5
# References waiting in the queue of an executor, over all items; each item carries those of all models.
_REFS_WAITING = 2**18
_LEAST_WAITING = 64

# Called with the weights of blocks that are done in layers that are not, and a message; raises Cancelled.
Beat = Callable[[int, str], None]


def spread(
    collection: Collection,
    layers: Sequence[LayerKey],
    executor: Executor,
    *,
    options: Mapping[str, object],
    budget: int,
    beat: Beat,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[LayerKey, Gram | UwsError]]:
    """Each layer with its Gram, or with what went wrong, as they finish; large ones are split in blocks of rows.

    Raises:
        Cancelled: `beat` was told to stop; items that wait are withdrawn.
    """
    work = _Spread(collection, executor, options)
    for layer in layers:
        work.ask(layer, row_blocks(collection, layer, budget=budget, block_bytes=block_bytes))
    try:
        while work.unfinished:
            work.submit()
            done, _ = wait(work.running, timeout=_BEAT_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                yield from work.collected(future)
            beat(work.entries_done, f"{len(work.unfinished)} layers to go, {len(work.running)} items with the workers")
    finally:
        for future in work.running:
            future.cancel()


class _Spread:
    """The items that wait, those that run, and the blocks that are done."""

    def __init__(self, collection: Collection, executor: Executor, options: Mapping[str, object]) -> None:
        self._collection, self._executor, self._options = collection, executor, options
        self._waiting: deque[tuple[LayerKey, Rows]] = deque()
        self._most = max(_REFS_WAITING // max(len(collection), 1), _LEAST_WAITING)
        self._blocks: dict[str, int] = {}
        self._parts: dict[str, dict[Rows, Gram]] = {}
        self.running: dict[Future[Gram], tuple[LayerKey, Rows]] = {}
        self.unfinished: set[str] = set()

    @property
    def entries_done(self) -> int:
        """The weights, of one model, of blocks that are done in layers that are not."""
        return sum(part.d for name in self.unfinished for part in self._parts[name].values())

    def ask(self, layer: LayerKey, ranges: Sequence[Rows]) -> None:
        """Put a layer's blocks in the queue."""
        self.unfinished.add(layer.name)
        self._blocks[layer.name], self._parts[layer.name] = len(ranges), {}
        self._waiting.extend((layer, rows) for rows in ranges)

    def submit(self) -> None:
        """Hand out items while the executor's queue is short."""
        while self._waiting and len(self.running) < self._most:
            layer, rows = self._waiting.popleft()
            if layer.name not in self.unfinished:
                continue
            try:
                item = self._executor.submit(block, lean(self._collection, layer), layer, rows, self._options)
            except Exception as error:
                item = Future()
                item.set_exception(error)
            self.running[item] = (layer, rows)

    def collected(self, future: Future[Gram]) -> Iterator[tuple[LayerKey, Gram | UwsError]]:
        """The layer that this item completes, if it does."""
        layer, rows = self.running.pop(future)
        if layer.name not in self.unfinished:
            return
        try:
            self._parts[layer.name][rows] = future.result()
        # Whatever a worker, or what carries its answer, dies of: a killed worker is an error of Dask's own.
        except Exception as error:
            self.unfinished.discard(layer.name)
            yield layer, error if isinstance(error, UwsError) else _lost(layer, error)
            return
        parts = self._parts[layer.name]
        if len(parts) < self._blocks[layer.name]:
            return
        gram = joined(layer, [parts[rows] for rows in sorted(parts, key=lambda rows: rows or (0, 0))])
        if gram is None:
            # Some model is not finite in some blocks: all rows must agree on which models they are about.
            self.ask(layer, [None])
            return
        self.unfinished.discard(layer.name)
        yield layer, gram


def _lost(layer: LayerKey, error: BaseException) -> ClusterError:
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ClusterError(
        f"{layer.name}: the worker that had it failed or was lost ({cause}). What is finished is kept; start the scan "
        "again when the workers are back, or without them"
    )
