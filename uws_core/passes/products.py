"""Products of blocks with themselves, by whichever of numpy's and torch's BLAS is the faster here for their shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import torch

from uws_core.analysis.cores import one_core_each

# torch replaces numpy only where it is that much faster, so that noise does not decide between two processes.
_CLEARLY = 1.3
# Multiply-adds of one measured product, a millisecond: numbers as they come in a chunk, and no more.
_STEPS = 5e7
_MEASURING = Lock()


def block_products(blocks: Any) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
    """The products (blocks, rows, rows) of each block (blocks, rows, entries) with itself, in its type."""
    if not isinstance(blocks, np.ndarray):
        return torch.matmul(blocks, blocks.mT)
    with _MEASURING:
        multiply = _fastest(blocks.shape[1], blocks.dtype.name)
    return multiply(blocks)


@cache
def _fastest(rows: int, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """The faster on one core for blocks of so many rows: numpy forms half a product with itself from the other half.

    Measured once a process for each number of rows; on AMD numpy wins (110 against 80 GFLOP/s at 100 rows), on Intel
    torch's MKL may be twice as fast.
    """
    if rows < 16:
        return _by_numpy
    entries = int(np.clip(_STEPS / rows**2, 256, 4096))
    blocks = np.ones((1, rows, entries), dtype=dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_core_each():
            numpy_seconds, torch_seconds = _seconds(_by_numpy, blocks), _seconds(_by_torch, blocks)
    finally:
        torch.set_num_threads(before)
    return _by_torch if torch_seconds * _CLEARLY < numpy_seconds else _by_numpy


def _by_numpy(blocks: np.ndarray) -> np.ndarray:
    return np.asarray(np.matmul(blocks, blocks.mT))


def _by_torch(blocks: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(blocks)
    return np.asarray(torch.bmm(values, values.mT).numpy())


def _seconds(multiply: Callable[[np.ndarray], np.ndarray], blocks: np.ndarray) -> float:
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        multiply(blocks)
        best = min(best, time.perf_counter() - began)
    return best
