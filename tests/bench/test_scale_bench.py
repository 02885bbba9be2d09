"""The scale plan: constants measured here, and the formula's prediction against three sizes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from tests.bench.measure import table
from tests.bench.test_passes_bench import LAYER, SANE, written
from uws_core.analysis.cost import scan_cost
from uws_core.nouns.cost import BUDGET, Throughput, planned
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.throughput import _measured, measured_throughput
from uws_core.sources.opening import _source_cache
from uws_core.store.results import Store

pytestmark = pytest.mark.bench

SIZES = ((40, 2048, 2048), (120, 1536, 1536), (400, 512, 1024))
# Many small layers: what opening and finding costs.
SMALL, SMALL_LAYERS = (200, 32, 32), 60
# The paper's collections: models, layers of m x p, and how they are stored.
PLANS = (
    ("500 ViT-B/16, float32", 500, [LayerKey("w", (768, 768))] * 48 + [LayerKey("w", (3072, 768))] * 24, 4, 0),
    (
        "50 Llama-3-8B, bfloat16",
        50,
        ([LayerKey("w", (4096, 4096))] * 2 + [LayerKey("w", (1024, 4096))] * 2 + [LayerKey("w", (14336, 4096))] * 3)
        * 32,
        2,
        0,
    ),
    ("500 Mistral-7B LoRA, rank 16", 500, [LayerKey("w", (4096, 4096))] * 96, 4, 16 * 500),
)


def test_predictions_against_three_sizes(tmp_path: Path) -> None:
    throughput = measured_throughput()
    table(
        "the throughput of this machine",
        ("reading, GB/s", "products, G multiply-adds/s", "sums, M weights/s", "opening, ms", "finding, ms"),
        [
            (
                throughput.bytes_per_second / 1e9,
                throughput.steps_per_second / 1e9,
                throughput.entries_per_second / 1e6,
                throughput.seconds_per_open * 1e3,
                throughput.seconds_per_read * 1e3,
            )
        ],
    )
    rows = []
    for n, m, p in SIZES:
        collection = written(tmp_path / f"{n}", n, m, p)
        # Machines drift: the pace is that of the same minute.
        predicted = scan_cost(planned(collection.layers, n=n), n=n, budget=BUDGET, throughput=_measured()).seconds
        uws.gram(collection, LAYER)
        seconds = sorted(_timed(collection) for _ in range(3))[1]
        rows.append((f"{n} x ({m} x {p})", predicted, seconds, predicted / seconds))
    rows.append(_small(tmp_path, _measured()))
    table("prediction against measurement", ("collection", "predicted, s", "measured, s", "ratio"), rows)
    plans = [
        (name, bytes_ / 1e12, *(hours for _, hours in found))
        for name, bytes_, found in (_planned(throughput, *plan) for plan in PLANS)
    ]
    names = tuple(name for name, _ in _machines(throughput))
    table("predicted hours for the paper's collections", ("collection", "TB", *names), plans)
    within = sum(1 / 1.3 <= ratio <= 1.3 for *_, ratio in rows)
    print(f"within 30 %: {within} of {len(rows)}")
    # A shared machine drifts; so far off is a fault of the formula.
    assert all(1 / SANE < ratio < SANE for *_, ratio in rows)


def _small(folder: Path, throughput: Throughput) -> tuple[str, float, float, float]:
    """Prediction and measurement of a scan of many small layers, by a process that has not met the models."""
    n, m, p = SMALL
    (folder / "small").mkdir()
    for number in range(n):
        weights = {f"blocks.{i}.weight": torch.randn(m, p) for i in range(SMALL_LAYERS)}
        save_file(weights, folder / "small" / f"m{number:04d}.safetensors")
    collection = uws.collect(str(folder / "small"))
    predicted = scan_cost(planned(collection.layers, n=n), n=n, budget=BUDGET, throughput=throughput).seconds
    seconds = []
    for turn in range(3):
        _source_cache.clear()
        with Store(folder / f"results-{turn}") as store:
            began = time.perf_counter()
            assert len(list(uws.scan(collection, store=store))) == SMALL_LAYERS
            seconds.append(time.perf_counter() - began)
    return f"{SMALL_LAYERS} layers of {n} x ({m} x {p})", predicted, sorted(seconds)[1], predicted / sorted(seconds)[1]


def _machines(throughput: Throughput) -> tuple[tuple[str, Throughput], ...]:
    """This machine with everything in memory, the same with a disk of a laptop, ten of these, and one GPU.

    Rates that nobody measured are assumptions: 2 GB/s of a disk, 5 GB/s of a server's, and on an H200 half of its
    33e12 multiply-adds/s in float32 and ten sweeps at 4.8 TB/s over the weights.
    """
    laptop = replace(throughput, bytes_per_second=2e9)
    ten = replace(
        laptop,
        bytes_per_second=10 * laptop.bytes_per_second,
        steps_per_second=10 * throughput.steps_per_second,
        entries_per_second=10 * throughput.entries_per_second,
        seconds_per_open=throughput.seconds_per_open / 10,
        seconds_per_read=throughput.seconds_per_read / 10,
    )
    gpu = replace(throughput, bytes_per_second=5e9, steps_per_second=1.6e13, entries_per_second=1.2e11)
    return (("in memory", throughput), ("laptop", laptop), ("ten workers", ten), ("one H200", gpu))


def _planned(
    throughput: Throughput, name: str, n: int, layers: list[LayerKey], item: int, ranks: int
) -> tuple[str, int, list[tuple[str, float]]]:
    read = planned(layers, n=n, item_bytes=item, ranks=ranks)
    costs = [(machine, scan_cost(read, n=n, budget=BUDGET, throughput=one)) for machine, one in _machines(throughput)]
    return name, costs[0][1].bytes, [(machine, cost.seconds / 3600) for machine, cost in costs]


def _timed(collection: Collection) -> float:
    began = time.perf_counter()
    uws.gram(collection, LAYER)
    return time.perf_counter() - began
