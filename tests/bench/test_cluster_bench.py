"""Two Dask workers of one thread against one of them, on layers where the products are most of the work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from tests.bench.measure import table
from tests.loopback import Cluster
from uws_core import cluster
from uws_core.nouns.models import Collection
from uws_core.store.results import Store

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

MODELS, LAYERS, SHAPE = 2000, 6, (192, 192)
ROUNDS = 3


def test_two_workers_against_one(tmp_path: Path) -> None:
    collection = uws.collect(str(written(tmp_path / "models")))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for workers in seconds:
        (tmp_path / f"cluster-{workers}").mkdir()
    running = {workers: Cluster(tmp_path / f"cluster-{workers}") for workers in seconds}
    try:
        for workers, one in running.items():
            for _ in range(workers):
                one.add_worker()
            while cluster.inspected(one.address).workers < workers:
                time.sleep(0.2)
        # The first turn opens files and starts libraries on the workers.
        for turn in range(ROUNDS + 1):
            for workers, one in running.items():
                spent = scanned(collection, one.address, tmp_path / f"results-{workers}-{turn}")
                if turn:
                    seconds[workers].append(spent)
    finally:
        for one in running.values():
            one.close()
    found = {workers: sorted(times)[len(times) // 2] for workers, times in seconds.items()}
    gain = found[1] / found[2]
    rows = [(workers, spent, found[1] / spent) for workers, spent in found.items()]
    title = f"scan on Dask workers, {LAYERS} layers of {MODELS} x ({SHAPE[0]} x {SHAPE[1]}) float32"
    table(title, ("workers of one thread", "seconds", "times one worker"), rows)
    assert gain > 1, "the second worker is of use"
    print(f"two workers / one: {gain:.2f} (target at least 1.6: {'met' if gain >= 1.6 else 'MISSED'})")


def scanned(collection: Collection, address: str, results: Path) -> float:
    """Seconds of a scan of everything, connection included."""
    began = time.perf_counter()
    with Store(results) as store, cluster.connected(address) as executor:
        assert len(list(uws.scan(collection, store=store, executor=executor))) == LAYERS
    return time.perf_counter() - began


def written(folder: Path) -> Path:
    """Random models on disk, 1.8 GB."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(MODELS):
        weights = {f"blocks.{i}.weight": torch.randn(SHAPE, generator=generator) for i in range(LAYERS)}
        save_file(weights, folder / f"m{number:04d}.safetensors")
    return folder
