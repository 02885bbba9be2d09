"""The passes on a CUDA device against the processor of the same machine: the same numbers, and how much sooner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import uws_core as uws
from tests.bench.measure import medians, table
from tests.bench.test_passes_bench import LAYER, written
from uws_core.passes import workers

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

# The processor that a collection is scanned on where there is no GPU: two cores of this machine, and all it has.
CORES = (2, torch.get_num_threads())


@pytest.mark.parametrize(("n", "m", "p"), [(100, 768, 3072), (1000, 768, 768)])
def test_gram(tmp_path: Path, n: int, m: int, p: int) -> None:
    collection = written(tmp_path, n, m, p)
    gain = _compared(f"gram, {n} x ({m} x {p}) float32", lambda device: uws.gram(collection, LAYER, device=device))
    print(f"cuda / two cores: {gain:.1f} times (target at least 5: {'met' if gain >= 5 else 'MISSED'})")
    exact = uws.gram(collection, LAYER, device="cpu", precision="double").values
    off = np.abs(uws.gram(collection, LAYER, device="cuda").values - exact).max() / np.linalg.norm(exact, 2)
    print(f"largest error / largest eigenvalue: {off:.1e}")
    assert off < 1e-6


def test_side_gram_and_factors(tmp_path: Path) -> None:
    collection = written(tmp_path, 40, 768, 3072)
    for axis in ("in", "out"):
        _compared(
            f"side_gram {axis}, 40 x (768 x 3072) float32",
            lambda device, axis=axis: uws.side_gram(collection, LAYER, axis=axis, device=device),
        )
    few = written(tmp_path / "few", 4, 768, 3072)
    _compared(
        "factors, kept 32, 4 x (768 x 3072) float32", lambda device: uws.factors(few, LAYER, device=device), rounds=1
    )


def _compared(what: str, work: Callable[[str], object], *, rounds: int = 3) -> float:
    """How many times sooner the device is done than two cores; prints the table with all cores beside."""
    seconds = medians({"cuda": lambda: work("cuda")}, rounds=rounds)
    for cores in CORES:
        torch.set_num_threads(cores)
        workers._started.cache_clear()
        seconds |= medians({f"{cores} cores": lambda: work("cpu")}, rounds=1)
    rows = [(name, spent, seconds["2 cores"] / spent) for name, spent in seconds.items()]
    table(f"{what}, page cache, {torch.cuda.get_device_name()}", ("device", "seconds", "times two cores"), rows)
    return seconds["2 cores"] / seconds["cuda"]
