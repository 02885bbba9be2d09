"""The other passes and the pass at other sizes: side Grams, factors, adapters, half precision, memory, slopes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from tests.bench.measure import apart, medians, table, verdict
from uws_core.nouns.models import Collection
from uws_core.passes.factors import factors
from uws_core.passes.side import side_gram
from uws_core.store.results import Store

pytestmark = pytest.mark.bench

LAYER = "w.weight"
SIDE_TARGET, FACTORS_TARGET = 2.0, 1.3
# A shared machine may miss a target, which the table says; so many times the target is no drift but a fault.
SANE = 3


def written(folder: Path, n: int, m: int, p: int, dtype: torch.dtype = torch.float32) -> Collection:
    """`n` random models of one layer on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = torch.Generator().manual_seed(0)
    for index in range(n):
        save_file({LAYER: torch.randn(m, p, generator=rng).to(dtype)}, folder / f"m{index:04d}.safetensors")
    return uws.collect(str(folder))


def test_side_gram_against_one_batched_product(tmp_path: Path) -> None:
    collection = written(tmp_path, 100, 768, 768)
    stacked = torch.randn(100, 768, 768)
    flat = stacked.flatten(0, 1)
    routes = {
        "one batched product, in memory": lambda: flat.T @ flat,
        "side_gram in, from files": lambda: side_gram(collection, LAYER, axis="in"),
        "side_gram out, from files": lambda: side_gram(collection, LAYER, axis="out"),
    }
    found = medians(routes)
    yardstick = found["one batched product, in memory"]
    table("side_gram, 100 x (768 x 768) float32", ("route", "seconds", "ratio"), _ratios(found, yardstick))
    for axis in ("in", "out"):
        ratio = found[f"side_gram {axis}, from files"] / yardstick
        print(f"side_gram {axis} / product:", verdict(ratio, SIDE_TARGET))
        assert ratio <= SANE * SIDE_TARGET


def test_factors_against_the_eigen_decompositions_alone(tmp_path: Path) -> None:
    collection = written(tmp_path, 100, 768, 768)
    grams = [matrix.T @ matrix for matrix in torch.randn(100, 768, 768, dtype=torch.float64)]
    routes = {
        "torch.linalg.eigh of the Grams": lambda: [torch.linalg.eigh(gram) for gram in grams],
        "factors, kept 32, from files": lambda: factors(collection, LAYER, kept=32),
    }
    found = medians(routes, rounds=3)
    yardstick = found["torch.linalg.eigh of the Grams"]
    table("factors, 100 x (768 x 768) float32", ("route", "seconds", "ratio"), _ratios(found, yardstick))
    ratio = found["factors, kept 32, from files"] / yardstick
    print("factors / eigh:", verdict(ratio, FACTORS_TARGET))
    assert ratio <= SANE * FACTORS_TARGET


def test_half_precision_files_are_no_slower(tmp_path: Path) -> None:
    single = written(tmp_path / "single", 50, 768, 3072)
    half = written(tmp_path / "half", 50, 768, 3072, torch.bfloat16)
    found = medians({"float32": lambda: uws.gram(single, LAYER), "bfloat16": lambda: uws.gram(half, LAYER)})
    table("gram, 50 x (768 x 3072)", ("stored as", "seconds", "ratio"), _ratios(found, found["float32"]))
    ratio = found["bfloat16"] / found["float32"]
    print("bfloat16 / float32:", verdict(ratio, 1.0))
    assert ratio <= SANE


MEMORY = """
import json, sys, time, torch
from tests.bench.measure import Peak
import uws_core as uws
from uws_core.passes.gram import gram
torch.set_num_threads(2)
collection = uws.collect(sys.argv[1])
torch.ones(64, 64) @ torch.ones(64, 64)
with Peak() as peak:
    began = time.perf_counter()
    gram(collection, "w.weight", budget=int(sys.argv[2]))
    seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_mib": peak.mib}))
"""


@pytest.mark.parametrize(("n", "m"), [(50, 3072), (500, 768), (2000, 192)])
def test_memory_stays_in_the_budget(tmp_path: Path, n: int, m: int) -> None:
    written(tmp_path, n, m, 768)
    rows = []
    for budget in (64, 256):
        figures = apart(MEMORY, str(tmp_path), str(budget * 2**20))
        rows.append((n, f"{m} x 768", budget, figures["peak_mib"], 1.1 * budget + 300, figures["seconds"]))
        assert figures["peak_mib"] <= 1.1 * budget + 300
    table("peak anonymous memory", ("n", "layer", "budget, MiB", "peak, MiB", "allowed, MiB", "seconds"), rows)


def test_cost_grows_linearly_with_the_layer_and_at_most_quadratically_with_the_models(tmp_path: Path) -> None:
    rows = []
    by_rows = {m: written(tmp_path / f"d{m}", 100, m, 768) for m in (192, 768, 3072)}
    by_models = {n: written(tmp_path / f"n{n}", n, 96, 768) for n in (250, 500, 1000)}
    for name, collections in (("d", by_rows), ("n", by_models)):
        found = medians(
            {str(size): lambda one=one: uws.gram(one, LAYER) for size, one in collections.items()}, rounds=3
        )
        rows.append(_slope(name, found))
    rows.append(_slope("layers", _by_layers(tmp_path)))
    table("slopes of seconds in log-log", ("grows with", "seconds", "slope"), rows)
    assert rows[0][2] < 1.3
    assert rows[1][2] < 2.3
    assert rows[2][2] < 1.3


def _slope(name: str, found: Mapping[str, float]) -> tuple[str, str, float]:
    sizes, seconds = np.log([float(size) for size in found]), np.log(list(found.values()))
    told = ", ".join(f"{size}: {value:.3g} s" for size, value in found.items())
    return name, told, float(np.polyfit(sizes, seconds, 1)[0])


def _by_layers(folder: Path) -> dict[str, float]:
    """Seconds of a scan by its number of layers, stored anew each time."""
    (folder / "layers").mkdir()
    for number in range(100):
        weights = {f"blocks.{i}.weight": torch.randn(256, 256) for i in range(64)}
        save_file(weights, folder / "layers" / f"m{number:03d}.safetensors")
    collection, turn = uws.collect(str(folder / "layers")), count()

    def scan(layers: int) -> None:
        with Store(folder / f"results-{next(turn)}") as store:
            assert len(list(uws.scan(collection, collection.layers[:layers], store=store))) == layers

    return medians({str(layers): partial(scan, layers) for layers in (4, 16, 64)}, rounds=3)


def test_a_collection_four_times_the_budget_streams_at_the_same_rate(tmp_path: Path) -> None:
    collection = written(tmp_path, 50, 1536, 3072)
    found = medians(
        {
            "budget as large as the layer": lambda: uws.gram(collection, LAYER, budget=2**31),
            "a quarter of the layer": lambda: uws.gram(collection, LAYER, budget=50 * 1536 * 3072),
        },
        rounds=3,
    )
    yardstick = found["budget as large as the layer"]
    table("gram, 944 MB layer", ("budget", "seconds", "ratio"), _ratios(found, yardstick))
    ratio = found["a quarter of the layer"] / yardstick
    print("streamed / at once:", verdict(ratio, 1.1))
    assert ratio <= SANE * 1.1


def _ratios(found: dict[str, float], yardstick: float) -> list[tuple[str, float, float]]:
    return [(name, seconds, seconds / yardstick) for name, seconds in found.items()]
