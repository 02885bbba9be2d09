"""A device with too little memory: smaller chunks, then the processor, and somebody is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core.passes import factors as factor_passes
from uws_core.passes import gram as passes
from uws_core.passes import side as sides
from uws_core.passes.block_layout import BlockLayout
from uws_core.passes.memory import chunk_bytes, on_device, where_it_fits
from uws_core.passes.moments import Moments
from uws_core.sources.files.row_slabs import Slab

CUDA = torch.device("cuda")
MIB = 2**20


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (800 * MIB, 80_000 * MIB))


def test_a_chunk_is_part_of_what_is_free(monkeypatch: pytest.MonkeyPatch):
    assert chunk_bytes(CUDA) == 100 * MIB
    for room, chunk in ((10 * MIB, 16 * MIB), (80_000 * MIB, 512 * MIB)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, room=room: (room, room))
        assert chunk_bytes(CUDA) == chunk
    assert chunk_bytes(torch.device("cpu")) == 4 * MIB


def test_chunks_are_halved_until_they_fit(told: list[str], monkeypatch: pytest.MonkeyPatch):
    emptied: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))

    def work(device: torch.device, chunk: int) -> int:
        if chunk > 30 * MIB:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return chunk

    assert where_it_fits(work, CUDA, report=lambda _, said: told.append(said), what="q") == (25 * MIB, CUDA)
    assert told == [
        "q: the memory of cuda is short, once more in chunks of 50 MiB",
        "q: the memory of cuda is short, once more in chunks of 25 MiB",
    ]
    assert len(emptied) == 2


def test_a_device_that_never_suffices_leaves_the_work_to_the_processor(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
):
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        save_file({"a.weight": torch.randn(8, 6, generator=generator)}, tmp_path / f"m{number}.safetensors")
    collection = uws.collect(tmp_path)
    expected = uws.gram(collection, "a.weight", device="cpu")
    tried: list[int] = []

    class Short(Moments):
        def __init__(
            self, layout: BlockLayout, *, device: torch.device, chunk: int | None = None, **more: object
        ) -> None:
            if device.type == "cuda":
                tried.append(chunk or 0)
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().__init__(layout, device=device, chunk=chunk, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(passes, "Moments", Short)
    monkeypatch.setattr(passes, "torch_device", lambda device: CUDA)
    found = uws.gram(collection, "a.weight", report=lambda _, said: told.append(said))
    assert tried == [100 * MIB, 50 * MIB, 25 * MIB]
    np.testing.assert_array_equal(found.values, expected.values)
    assert any("computed on the processor" in said for said in told)


def test_the_size_of_chunks_is_what_is_asked_for():
    wide = torch.randn(4, 9000, generator=torch.Generator().manual_seed(0))
    finite = np.ones(4, dtype=np.bool_)
    widths = {}
    for chunk in (2**16, 2**20):
        layout = BlockLayout(8, 9000, 8, 9000, kept=False)
        sums = Moments(layout, models=4, finite=finite, kind=torch.float32, device=torch.device("cpu"), chunk=chunk)
        sums.add(wide[:, None])
        widths[chunk] = sums._widest
    assert widths == {2**16: 4096, 2**20: 9000}


def test_on_the_processor_a_slab_stays_where_it_is():
    values = torch.zeros(2, 3, 4)
    ((slab, seen),) = on_device([Slab(0, 3, values)], torch.device("cpu"))
    assert (slab.start, seen.shape, seen.data_ptr()) == (0, (2, 3, 4), values.data_ptr())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_slabs_arrive_whole_while_products_run():
    host = [torch.randn(3, 200, 500).pin_memory() for _ in range(2)]
    expected, seen = [], []

    def slabs():
        for index in range(7):
            rows = 200 if index < 6 else 90
            host[index % 2].normal_()
            expected.append(host[index % 2][:, :rows].clone())
            yield Slab(index * 200, index * 200 + rows, host[index % 2][:, :rows])

    for _, values in on_device(slabs(), CUDA):
        # Long enough for the next copy to begin.
        torch.cuda._sleep(10**7)
        seen.append(values.clone())
    for one, other in zip(seen, expected, strict=True):
        assert torch.equal(one.cpu(), other)


@pytest.mark.parametrize("kind", ["side", "factors"])
def test_side_axes_and_factors_fall_back_to_the_processor(
    kind: str, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
):
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        save_file({"a.weight": torch.randn(8, 6, generator=generator)}, tmp_path / f"m{number}.safetensors")
    collection = uws.collect(tmp_path)

    def computed(device: str) -> np.ndarray:
        how = {"device": device, "report": lambda _, said: told.append(said)}
        if kind == "side":
            return uws.side_gram(collection, "a.weight", axis="out", **how).values
        return uws.factors(collection, "a.weight", kept=2, **how).singular

    expected = computed("cpu")
    module = sides if kind == "side" else factor_passes
    name = "_finite_sum" if kind == "side" else "_decomposed"
    work, tried = getattr(module, name), []

    def short(*given: object) -> object:
        device = next((one for one in given if isinstance(one, torch.device)), None) or given[0].device  # type: ignore[attr-defined]
        tried.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(*given)

    monkeypatch.setattr(module, name, short)
    monkeypatch.setattr(module, "torch_device", lambda device: CUDA)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    told.clear()
    np.testing.assert_array_equal(computed("cuda"), expected)
    assert tried == ["cuda", "cpu"]
    assert any("computed on the processor" in said for said in told)
