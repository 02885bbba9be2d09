"""Compressing, writing, rebuilding and joining beside their yardsticks of the same run, and beside vlora-dev.

`UWS_BENCH_ADAPTERS` sets how many adapters the joint basis and the joined scan have (500, as the aims are stated).
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from vlora import SharedSubspace, load_adapter

import uws_core as uws
from tests.bench.measure import apart, medians, table, verdict
from uws_core import run
from uws_core.analysis import size_budget
from uws_core.nouns.models import LayerKey
from uws_core.nouns.storage import Method
from uws_core.sources.formats.checkpoint import Checkpoint
from uws_core.store.results import Store
from uws_core.use.folder_writer import write_folder

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("results_folder")]
COUNT = int(os.environ.get("UWS_BENCH_ADAPTERS", "500"))


def adapters(place: Path, count: int, modules: int, side: int, rank: int = 16, first: int = 0) -> uws.Collection:
    """PEFT adapters of random factors, bfloat16."""
    config = f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {rank}, "target_modules": ["q"]}}'
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        tensors = {}
        for module in range(modules):
            name = f"base_model.model.layers.{module}.q"
            for part, shape in (("A", (rank, side)), ("B", (side, rank))):
                values = torch.randn(shape, generator=generator).bfloat16()
                tensors[f"{name}.lora_{part}.weight"] = values
        folder = place / f"a{number:04d}"
        folder.mkdir(parents=True)
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(config)
    return uws.collect(place)


JOINT = """
import json, sys, time, numpy as np
from tests.bench.measure import Peak
from uws_core.analysis import joint_basis
from uws_core.analysis.joint_basis import ThinUpdates
n, rank, side, k = int(sys.argv[1]), 16, 4096, 64
generator = np.random.default_rng(0)
up = generator.standard_normal((side, n * rank), dtype=np.float32)
updates = ThinUpdates(up, generator.standard_normal((n * rank, side), dtype=np.float32), (rank,) * n)
began = time.perf_counter()
small = up.T @ up, updates.down @ updates.down.T
products = time.perf_counter() - began
del small
with Peak() as peak:
    began = time.perf_counter()
    basis = joint_basis.two_sided(updates, k)
    seconds = time.perf_counter() - began
held = (up.nbytes + updates.down.nbytes) / 2**20
print(json.dumps({"products": products, "seconds": seconds, "sweeps": basis.sweeps, "peak_mib": peak.mib + held}))
"""


def test_the_joint_basis_against_the_products_of_its_core() -> None:
    found = apart(JOINT, str(COUNT))
    rows = [("the two products of the factors", found["products"], ""), (
        f"JD-Full, k = 64, {found['sweeps']:.0f} sweeps", found["seconds"], f"{found['peak_mib']:.0f} MiB with factors"
    )]  # fmt: skip
    table(f"{COUNT} adapters of rank 16, 4096 x 4096", ("route", "seconds", "memory"), rows)
    print(f"times the products: {verdict(found['seconds'] / found['products'], 3)}")
    print(f"peak, MiB: {verdict(found['peak_mib'], 1536)}")


def test_directions_of_200_layers_are_chosen_at_once() -> None:
    generator = np.random.default_rng(0)
    curves = []
    for number in range(200):
        energy = np.sort(generator.exponential(size=1024) ** 3)[::-1]
        errors2 = np.clip(1 - np.concatenate([[0.0], np.cumsum(energy)]) / energy.sum(), 0, 1)
        curves.append(size_budget.Curve(LayerKey(f"l{number}", (1024, 1024)), errors2, np.ones(40)))
    found = medians({"spend": lambda: size_budget.spend(curves, Method.TWO_SIDED, budget=200 * 500_000)}, rounds=3)
    table("200 layers of 1024 directions share a budget", ("route", "seconds"), list(found.items()))
    print(f"milliseconds: {verdict(1000 * found['spend'], 150)}")


@pytest.mark.parametrize("count", [12, 50])
def test_writing_whole_weights_against_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    side, layers = 1024, 2
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        state = {f"l{layer}.weight": torch.randn(side, side, generator=generator) for layer in range(layers)}
        (tmp_path / "m").mkdir(exist_ok=True)
        save_file(state, tmp_path / "m" / f"m{number:03d}.safetensors")
    draft = uws.compress(uws.collect(tmp_path / "m"), kept=16)
    size, turns, read = count * layers * side * side * 4, iter(range(100)), [0]

    def copy() -> None:
        shutil.copytree(tmp_path / "m", tmp_path / f"copy{next(turns)}")

    def write() -> None:
        write_folder(draft, tmp_path / f"c{next(turns)}", report=lambda fraction, message: None)

    found = medians({"copy": copy, "write": write}, rounds=2)
    genuine = Checkpoint.read

    def counted(self: Checkpoint, layer: str, rows: object = None, **options: object) -> object:
        start, stop = rows or (0, side)  # type: ignore[misc]
        read[0] += (stop - start) * side * 4
        return genuine(self, layer, rows, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoint, "read", counted)
    write()
    rates = {"copy": size / found["copy"] / 2**20, "write": 2 * size / found["write"] / 2**20}
    rows = [(name, found[name], rates[name]) for name in found]
    table(f"{count} models of {layers} layers {side} x {side}", ("route", "seconds", "MiB/s read"), rows)
    print(f"reads of each weight through Source.read: {read[0] / size:.2f} (target 2)")
    print(f"rate against the copy: {rates['write'] / rates['copy']:.2f} (target 0.6)")


def test_rebuilding_one_of_many_against_writing_its_bytes(tmp_path: Path) -> None:
    folder = uws.compress(adapters(tmp_path / "a", 8, 192, 256), kept=16, dtype="bfloat16").write(tmp_path / "c")
    opened, turns = uws.open_compressed(folder), iter(range(100))
    (rebuilt,) = uws.rebuild(opened, tmp_path / "first", members=["a0003"])
    tensors = load_file(rebuilt / "adapter_model.safetensors")
    found = medians(
        {
            "save_file of the same bytes": lambda: save_file(tensors, tmp_path / f"plain{next(turns)}"),
            "rebuild": lambda: uws.rebuild(opened, tmp_path / f"r{next(turns)}", members=["a0003"]),
        },
        rounds=3,
    )
    table("one adapter of 192 modules 256 x 256, rank 16", ("route", "seconds"), list(found.items()))
    print(f"times writing: {verdict(found['rebuild'] / found['save_file of the same bytes'], 3)}")


def test_joining_against_a_fresh_scan(tmp_path: Path) -> None:
    before = adapters(tmp_path / "a", COUNT - 1, 1, 2048)
    folder = uws.compress(before, kept=16, members=range(8)).write(tmp_path / "c")
    store, layers = Store(tmp_path / "store"), [key for key in before.layers if not key.factor]

    def scanned(models: uws.Collection, into: Store) -> float:
        began = time.perf_counter()
        list(run.scan(models, layers, store=into))
        return time.perf_counter() - began

    scanned(before, store)
    models = adapters(tmp_path / "a", 1, 1, 2048, first=COUNT - 1)
    border, fresh = scanned(models, store), scanned(models, Store(tmp_path / "fresh"))
    began = time.perf_counter()
    uws.join(folder, models.refs[-1].repo)
    joined = time.perf_counter() - began
    rows = [("fresh scan", fresh, 1.0), ("scan of one more", border, fresh / border), ("join", joined, fresh / joined)]
    table(f"one adapter more than {COUNT - 1}, rank 16, 2048 x 2048", ("route", "seconds", "times faster"), rows)
    print(f"joined folder, fiftieths of a fresh scan: {verdict(50 * joined / fresh, 1)}")
    print(f"scan of one more, fiftieths of a fresh scan: {verdict(50 * border / fresh, 1)}")


def test_sharing_against_vlora(tmp_path: Path) -> None:
    models = uws.collect("demo:lora")
    places = [Path(ref.repo) for ref in models.refs]
    rows = []
    for k in (8, 16):
        began = time.perf_counter()
        loaded = [load_adapter(place) for place in places]
        theirs = SharedSubspace.from_adapters(loaded, task_ids=list(models.labels), num_components=k)
        rebuilt = [theirs.reconstruct(label) for label in models.labels]
        seconds = time.perf_counter() - began
        theirs.save(tmp_path / f"vlora{k}")
        errors = [
            _relative(
                {layer: (one.lora_b[layer], one.lora_a[layer]) for layer in one.layer_names},
                {layer: (back.lora_b[layer], back.lora_a[layer]) for layer in back.layer_names},
            )
            for one, back in zip(loaded, rebuilt, strict=True)
        ]
        rows.append(
            (f"vlora-dev, k = {k}", _bytes(tmp_path / f"vlora{k}"), max(errors), float(np.median(errors)), seconds)
        )
        began = time.perf_counter()
        draft = uws.compress(models, kept=k)
        folder = draft.write(tmp_path / f"ours{k}")
        uws.rebuild(folder, tmp_path / f"back{k}")
        seconds = time.perf_counter() - began
        size = _bytes(folder) - draft.untouched_bytes
        rows.append((f"two-sided, k = {k}", size, draft.worst, float(np.median(draft.errors)), seconds))
        own = draft.rival("own SVD")
        rows.append((f"own SVD at the bytes of k = {k}", own.bytes, own.worst, float(np.median(own.errors)), 0.0))
    columns = ("way", "bytes", "worst error", "median error", "seconds: build and rebuild all")
    table("40 adapters of demo:lora (bytes without heads)", columns, rows)


def _relative(originals: dict[str, tuple[torch.Tensor, ...]], rebuilt: dict[str, tuple[torch.Tensor, ...]]) -> float:
    """The relative error of the products of an adapter's factors over all layers."""
    lost = total = 0.0
    for layer, (up, down) in originals.items():
        back_up, back_down = rebuilt[layer]
        update = up.double() @ down.double()
        lost += float((update - back_up.double() @ back_down.double()).square().sum())
        total += float(update.square().sum())
    return (lost / total) ** 0.5


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
