"""The pass on a CUDA device against the processor of the same machine: the same numbers, and how much sooner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import uws_core as uws
from tests.bench.measure import medians, table
from tests.bench.test_passes_bench import LAYER, written

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize(("n", "m", "p"), [(100, 768, 3072), (1000, 768, 768)])
def test_cuda_against_two_cores(tmp_path: Path, n: int, m: int, p: int) -> None:
    collection = written(tmp_path, n, m, p)
    torch.set_num_threads(2)
    found = medians({where: lambda where=where: uws.gram(collection, LAYER, device=where) for where in ("cpu", "cuda")})
    gain = found["cpu"] / found["cuda"]
    exact = uws.gram(collection, LAYER, device="cpu", precision="double").values
    off = np.abs(uws.gram(collection, LAYER, device="cuda").values - exact).max() / np.linalg.norm(exact, 2)
    rows = [(where, seconds, found["cpu"] / seconds) for where, seconds in found.items()]
    title = f"gram, {n} x ({m} x {p}) float32, page cache, {torch.cuda.get_device_name()}"
    table(title, ("device", "seconds", "times the processor"), rows)
    print(f"cuda / two cores: {gain:.1f} times (target at least 5: {'met' if gain >= 5 else 'MISSED'})")
    print(f"largest error / largest eigenvalue: {off:.1e}")
    assert off < 1e-6
