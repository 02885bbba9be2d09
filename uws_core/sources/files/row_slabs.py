"""Every model's rows of one layer, slab after slab, in memory that is allocated once.

One slab is computed on while the next is read: two buffers, filled in turn by a small pool of reader threads. A budget
decides how many rows a slab has; nothing else grows with the size of a layer or the number of models.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from uws_core.errors import LayerError
from uws_core.nouns.cost import slab_rows
from uws_core.nouns.models import LayerKey
from uws_core.sources.base import Rows, Source
from uws_core.sources.files.blob import bytes_of
from uws_core.sources.files.buffers import buffer_of

if TYPE_CHECKING:
    from torch import Tensor

# Reading from the page cache is a copy and takes cores from the products; a network source reads ahead by itself.
READERS = 2
# Beside a GPU the cores have nothing else to do, and one core copies more slowly than the device computes.
READERS_BESIDE_GPU = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Slab:
    """Rows `start` to `stop` of a layer of every model: `values` is (n, stop - start, p) and may be overwritten."""

    start: int
    stop: int
    values: Tensor


def at_once(sources: Sequence[Source], layer: LayerKey, *, dtype: torch.dtype, budget: int) -> Tensor | None:
    """A dense layer of every model in one tensor (n, m, p), or None where that is more than `budget`."""
    n, (m, p) = len(sources), layer.shape
    if n * m * p * dtype.itemsize > budget:
        return None
    block = buffer_of(n, m, p, dtype)
    with ThreadPoolExecutor(READERS, thread_name_prefix="uws-read") as pool:
        for done in [pool.submit(reader.read, 0, m) for reader in _readers(sources, layer, block, READERS)]:
            done.result()
    return block


def slabs(
    sources: Sequence[Source],
    layer: LayerKey,
    *,
    dtype: torch.dtype,
    budget: int,
    pin: bool = False,
    rows: Rows = None,
) -> Iterator[Slab]:
    """The slabs of a dense layer, in row order, every model in the order of `sources`, cast to `dtype`.

    `pin` is for a CUDA device: the buffers' pages are locked, so that copies to it run beside its work, and slabs are
    larger. With `rows` only these are read.

    Raises:
        BudgetError: not even one row of every model fits.
        SourceError: a model cannot be read; the first one met is named.
    """
    first, last = rows or (0, layer.shape[0])
    height = slab_rows(len(sources), layer, item_bytes=dtype.itemsize, budget=budget, beside_gpu=pin)
    ranges = [(start, min(start + height, last)) for start in range(first, last, height)]
    buffers = [buffer_of(len(sources), height, layer.shape[1], dtype, pin=pin) for _ in ranges[:2]]
    threads = READERS_BESIDE_GPU if pin else READERS
    readers = [_readers(sources, layer, buffer, threads) for buffer in buffers]
    with ThreadPoolExecutor(threads, thread_name_prefix="uws-read") as pool:
        ahead = [pool.submit(reader.read, *ranges[0]) for reader in readers[0]]
        for index, (start, stop) in enumerate(ranges):
            for done in ahead:
                done.result()
            if index + 1 < len(ranges):
                ahead = [pool.submit(reader.read, *ranges[index + 1]) for reader in readers[(index + 1) % 2]]
            yield Slab(start, stop, buffers[index % 2][:, : stop - start])


def _readers(sources: Sequence[Source], layer: LayerKey, buffer: Tensor, threads: int) -> list[SlabReader]:
    """One reader for each thread, of a run of models."""
    share = -(-len(sources) // threads)
    parts = [slice(first, first + share) for first in range(0, len(sources), share)]
    return [SlabReader(sources[part], layer, buffer[part]) for part in parts]


class SlabReader:
    """Reads rows of a dense layer of every model, one after the other, into `buffer` (n, rows, p)."""

    def __init__(self, sources: Sequence[Source], layer: LayerKey, buffer: Tensor) -> None:
        # One for each stored type: models are read one after the other.
        pieces: dict[torch.dtype, Tensor] = {}
        self._parts = [_part(source, layer, target, pieces) for source, target in zip(sources, buffer, strict=True)]

    def read(self, start: int, stop: int) -> None:
        """Rows `start` to `stop` into the first rows of the buffer.

        Raises:
            LayerError: a model holds factors here.
            SourceError: a model cannot be read.
        """
        for part in self._parts:
            part(start, stop)


def _part(
    source: Source, layer: LayerKey, target: Tensor, pieces: dict[torch.dtype, Tensor]
) -> Callable[[int, int], object]:
    """What reads one model's rows into the first of `target` (rows, p)."""
    reader = source.reader(layer.name)
    if reader is not None and reader.dtype == target.dtype:
        return partial(reader.raw, memory=bytes_of(target))
    if reader is not None:
        piece = pieces.setdefault(reader.dtype, reader.piece(target.shape[0]))
        return partial(reader.cast, into=target, piece=piece)

    def read(start: int, stop: int) -> None:
        if not isinstance(source.read(layer.name, (start, stop), into=target[: stop - start]), torch.Tensor):
            raise LayerError(f"{source.ref}: {layer.name} is low-rank here and dense in other models")

    return read
