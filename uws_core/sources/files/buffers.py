"""Reuses the memory of slabs from layer to layer: allocating it anew costs as much as reading.

What is given back stays some seconds for the next layer of a scan, and then goes to the system.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# Slabs of different layers differ a little in size; rounded up, each can have the memory of another.
_ROUND: Final = 4 * 2**20
_IDLE_SECONDS: Final = 5.0

_Bytes = NDArray[np.uint8]


class Buffers:
    """The buffers that were returned last; those of another size are freed before new ones are allocated."""

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._idle = idle_seconds
        self._lock = threading.Lock()
        self._free: list[_Bytes] = []
        self._used = 0.0
        self._watched = False

    @property
    def free_bytes(self) -> int:
        """The bytes that are held and not in use."""
        with self._lock:
            return sum(one.nbytes for one in self._free)

    @contextmanager
    def lent(self, count: int, shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[list[Tensor]]:
        """Tensors of this shape and type with anything in them, the caller's until the end of the block."""
        size = shape[0] * shape[1] * shape[2] * dtype.itemsize
        if size < _ROUND:
            yield [buffer_of(*shape, dtype) for _ in range(count)]
            return
        rounded = -(-size // _ROUND) * _ROUND
        with self._lock:
            held = [one for one in self._free if one.nbytes == rounded][:count]
            self._free = []
        held += [_memory(rounded) for _ in range(count - len(held))]
        yield [torch.from_numpy(one[:size]).view(dtype).view(shape) for one in held]
        # Not after an error: an interrupted pass may have left a thread that still writes there.
        with self._lock:
            self._free, self._used = held, time.monotonic()
            watched, self._watched = self._watched, True
        if not watched:
            self._watch(self._idle)

    def _watch(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._look)
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        with self._lock:
            left = self._used + self._idle - time.monotonic()
            if left <= 0:
                self._free, self._watched = [], False
        if left > 0:
            self._watch(left)


@cache
def buffers() -> Buffers:
    """The process's own."""
    return Buffers()


def buffer_of(n: int, rows: int, p: int, dtype: torch.dtype, *, pin: bool = False) -> Tensor:
    """Memory (n, rows, p) that nothing was written to yet; `pin` locks its pages for copies to a CUDA device."""
    if pin:
        return torch.empty((n, rows, p), dtype=dtype, pin_memory=True)
    return torch.from_numpy(_memory(n * rows * p * dtype.itemsize)).view(dtype).view(n, rows, p)


def _memory(size: int) -> _Bytes:
    # numpy asks for large pages: a fault for each small one costs as much as reading it.
    return np.empty(size, dtype=np.uint8)


# A forked process has no thread that watches.
os.register_at_fork(after_in_child=buffers.cache_clear)
