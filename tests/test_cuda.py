"""Every pass on a CUDA device against float64 on the processor: dense, thin, damaged, short of memory, in threads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core.errors import NotEnoughModels
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection

DEVICE = "cuda"
LAYER = "blocks.0.w.weight"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def collection_of(
    folder: Path, n: int, shape: tuple[int, int], *, differ: float = 1.0, dtype: torch.dtype = torch.float32
) -> Collection:
    """`n` models on disk about a common matrix of entries of size 1, apart by `differ`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(n)
    common = torch.randn(shape, generator=generator)
    for index in range(n):
        values = common + differ * torch.randn(shape, generator=generator)
        save_file({LAYER: values.to(dtype)}, folder / f"m{index:04d}.safetensors")
    return uws.collect(str(folder))


def adapters(folder: Path, n: int, shape: tuple[int, int], rank: int) -> Collection:
    """`n` LoRA adapters of one module, as PEFT writes them, of ranks `rank` and one less in turn."""
    generator = torch.Generator().manual_seed(rank)
    for index in range(n):
        home, r = folder / f"a{index:03d}", rank - index % 2
        home.mkdir(parents=True)
        stem = "base_model.model.layers.0.q_proj"
        tensors = {
            f"{stem}.lora_A.weight": torch.randn(r, shape[1], generator=generator),
            f"{stem}.lora_B.weight": torch.randn(shape[0], r, generator=generator),
        }
        save_file(tensors, home / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": r, "lora_alpha": 2 * r, "target_modules": ["q_proj"]}
        (home / "adapter_config.json").write_text(json.dumps(config))
    return uws.collect(str(folder))


def same_gram(found: Gram, exact: Gram, *, within: float = 1e-6) -> None:
    """Asserts that all numbers of two Grams agree to `within` of the largest eigenvalue or of the largest number."""
    largest = float(np.linalg.norm(exact.values, 2))
    assert np.abs(found.values - exact.values).max() < within * largest
    np.testing.assert_array_equal(found.usable, exact.usable)
    for about in ("mean", "zero"):
        scale = float(np.linalg.norm(exact.about(about), 2))
        assert np.abs(found.about(about) - exact.about(about)).max() < within * scale
    if exact.to_center.size:
        assert found.center_norm2 == pytest.approx(exact.center_norm2, rel=1e-6)
    for field in dataclasses.fields(exact.entry_stats):
        ours, theirs = getattr(found.entry_stats, field.name), getattr(exact.entry_stats, field.name)
        bound = 1e-5 * float(np.nanmax(np.abs(theirs), initial=0.0)) + 1e-3
        if field.name in ("power1", "power3"):
            # Sums of numbers of both signs: their error is one of the sum of the sizes.
            bound += 1e-6 * float(np.nanmax(exact.entry_stats.power4, initial=0.0))
        np.testing.assert_allclose(ours, theirs, atol=bound, rtol=0, err_msg=field.name)
    assert (found.blocks is None) == (exact.blocks is None)
    if found.blocks is not None and exact.blocks is not None:
        for side in ("rows", "columns"):
            ours, theirs = (np.asarray(getattr(gram.blocks, side), dtype=np.float64) for gram in (found, exact))
            # Blocks are summed and kept in float32; measured at most 1.7e-6 where the rows share a large mean.
            assert np.abs(ours - theirs).max() < 4 * within * np.abs(theirs).max()


SHAPES = [
    (30, (128, 256), 1e-3, torch.float32),
    (7, (5, 3), 1.0, torch.float32),
    (12, (1, 4096), 1.0, torch.float32),
    (12, (4096, 1), 1.0, torch.float32),
    (100, (768, 768), 1e-2, torch.float32),
    (40, (640, 96), 1.0, torch.bfloat16),
    (40, (96, 640), 1.0, torch.float16),
    (3, (2048, 2048), 1e-3, torch.float32),
    (20, (200, 300), 1.0, torch.float64),
    (600, (64, 48), 1.0, torch.float32),
]


@pytest.mark.parametrize(("n", "shape", "differ", "dtype"), SHAPES)
@pytest.mark.parametrize("budget", [2**22, 2**28])
def test_gram(tmp_path: Path, n: int, shape: tuple[int, int], differ: float, dtype: torch.dtype, budget: int) -> None:
    collection = collection_of(tmp_path, n, shape, differ=differ, dtype=dtype)
    exact = uws.gram(collection, LAYER, device="cpu", precision="double")
    same_gram(uws.gram(collection, LAYER, device=DEVICE, budget=budget), exact)
    same_gram(uws.gram(collection, LAYER, device=DEVICE, precision="double", budget=budget), exact, within=1e-12)


def test_equal_models_differ_by_nothing(tmp_path: Path) -> None:
    values = torch.randn(300, 70)
    for index in range(5):
        save_file({LAYER: values}, tmp_path / f"m{index}.safetensors")
    assert not uws.gram(uws.collect(tmp_path), LAYER, device=DEVICE).values.any()


def test_a_model_of_nan_or_of_huge_weights_is_left_out(tmp_path: Path) -> None:
    for index in range(6):
        values = torch.randn(40, 50, generator=torch.Generator().manual_seed(index))
        if index == 2:
            values[3, 4] = torch.nan
        if index == 4:
            values[0, 0] = 1e30
        save_file({LAYER: values}, tmp_path / f"m{index}.safetensors")
    collection = uws.collect(tmp_path)
    same_gram(uws.gram(collection, LAYER, device=DEVICE), uws.gram(collection, LAYER, device="cpu"))
    assert [note.what for note in uws.gram(collection, LAYER, device=DEVICE).left_out] == [
        note.what for note in uws.gram(collection, LAYER, device="cpu").left_out
    ]


def test_two_damaged_models_are_no_collection(tmp_path: Path) -> None:
    for index in range(2):
        save_file({LAYER: torch.full((4, 4), torch.nan)}, tmp_path / f"m{index}.safetensors")
    with pytest.raises(NotEnoughModels):
        uws.gram(uws.collect(tmp_path), LAYER, device=DEVICE)


def test_gram_of_adapters(tmp_path: Path) -> None:
    collection = adapters(tmp_path, 12, (300, 200), 8)
    layer = collection.layers[0]
    exact = uws.gram(collection, layer, device="cpu", precision="double")
    same_gram(uws.gram(collection, layer, device=DEVICE), exact)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("about", ["mean", "zero"])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("thin", [False, True])
def test_side_gram(tmp_path: Path, axis: str, about: str, *, unit: bool, thin: bool) -> None:
    collection = adapters(tmp_path, 9, (90, 130), 6) if thin else collection_of(tmp_path, 9, (90, 130), differ=0.1)
    layer, ask = collection.layers[0], {"axis": axis, "about": about, "unit": unit}
    exact = uws.side_gram(collection, layer, **ask, device="cpu", precision="double")
    for budget in (2**20, 2**28):
        found = uws.side_gram(collection, layer, **ask, device=DEVICE, budget=budget)
        assert np.abs(found.values - exact.values).max() < 1e-6 * np.linalg.norm(exact.values, 2)


@pytest.mark.parametrize(
    ("shape", "kept", "thin"),
    [((90, 130), 8, False), ((300, 40), 40, False), ((2100, 2060), 4, False), ((90, 130), 5, True)],
)
@pytest.mark.parametrize("about", ["mean", "zero"])
def test_factors(tmp_path: Path, shape: tuple[int, int], kept: int, about: str, *, thin: bool) -> None:
    collection = adapters(tmp_path, 4, shape, 6) if thin else planted(tmp_path, 4, shape)
    layer = collection.layers[0]
    exact = uws.factors(collection, layer, kept=kept, about=about, device="cpu")
    found = uws.factors(collection, layer, kept=kept, about=about, device=DEVICE)
    values = exact.singular.shape[1]
    np.testing.assert_allclose(found.singular, exact.singular, atol=1e-5 * exact.singular.max(), rtol=0)
    assert values == found.singular.shape[1]
    np.testing.assert_allclose(found.norm2, exact.norm2, rtol=1e-6)
    strong = exact.singular[:, :kept] > 1e-3 * exact.singular[:, :1]
    for side in ("left", "right"):
        cosines = np.abs(np.einsum("nmk,nmk->nk", getattr(found, side), getattr(exact, side)))
        assert (cosines[strong] > 1 - 1e-4).all(), side


def planted(folder: Path, n: int, shape: tuple[int, int]) -> Collection:
    """Models of well separated singular values, so that each direction is determined."""
    generator = torch.Generator().manual_seed(5)
    for index in range(n):
        rank = min(shape)
        left = torch.linalg.qr(torch.randn(shape[0], rank, generator=generator)).Q
        right = torch.linalg.qr(torch.randn(shape[1], rank, generator=generator)).Q
        values = left * 0.7 ** torch.arange(rank).clamp_max(20) @ right.T
        save_file({LAYER: values}, folder / f"m{index}.safetensors")
    return uws.collect(str(folder))


@contextmanager
def only_free(mib: int) -> Iterator[None]:
    """A device of which all but so many MiB are taken."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - mib * 2**20, dtype=torch.uint8, device=DEVICE)
    yield
    del taken
    torch.cuda.empty_cache()


def test_where_memory_is_short_chunks_shrink_and_the_numbers_stay(tmp_path: Path) -> None:
    collection = collection_of(tmp_path, 20, (2048, 2048), differ=0.1)
    messages: list[str] = []
    # The kernels of each try are loaded before: they take memory of the device too.
    for budget in (64, 32, 16):
        uws.gram(collection, LAYER, device=DEVICE, budget=budget * 2**20)
    # Two slabs of 30 MiB and two buffers of 18: too much once, and not with smaller chunks.
    with only_free(90):
        found = uws.gram(collection, LAYER, device=DEVICE, report=lambda _, said: messages.append(said))
    assert any("once more in chunks of" in said for said in messages), messages[:3]
    assert not any("computed on the processor" in said for said in messages)
    same_gram(found, uws.gram(collection, LAYER, device="cpu", precision="double"))


@pytest.mark.parametrize("work", ["gram", "side", "factors"])
def test_where_memory_does_not_suffice_the_processor_computes(tmp_path: Path, work: str) -> None:
    collection, messages = collection_of(tmp_path, 4, (6000, 2000), differ=0.1), list[str]()

    def computed(device: str) -> np.ndarray:
        how = {"device": device, "budget": 2**29, "report": lambda _, said: messages.append(said)}
        if work == "gram":
            return uws.gram(collection, LAYER, **how).values
        if work == "side":
            return uws.side_gram(collection, LAYER, axis="in", **how).values
        return uws.factors(collection, LAYER, kept=2, **how).singular

    # Slabs of a Gram shrink as well, to 8 MiB.
    with only_free(8 if work == "gram" else 60):
        found = computed(DEVICE)
    assert any("computed on the processor" in said for said in messages), messages[:3]
    exact = computed("cpu")
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_threads_share_the_device(tmp_path: Path) -> None:
    collections = [collection_of(tmp_path / str(n), n, (512, 300), differ=0.1) for n in (10, 20, 30, 40)]
    exact = [uws.gram(collection, LAYER, device="cpu", precision="double") for collection in collections]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda c: uws.gram(c, LAYER, device=DEVICE, budget=2**21), collections * 4))
    for ours, theirs in zip(found, exact * 4, strict=True):
        same_gram(ours, theirs)


def test_a_user_who_allows_tf32_gets_the_same_numbers(tmp_path: Path) -> None:
    collection = planted(tmp_path, 4, (300, 200))
    exact = uws.gram(collection, LAYER, device="cpu", precision="double")
    singular = uws.factors(collection, LAYER, kept=4, device="cpu").singular
    torch.set_float32_matmul_precision("medium")
    try:
        same_gram(uws.gram(collection, LAYER, device=DEVICE), exact)
        found = uws.factors(collection, LAYER, kept=4, device=DEVICE).singular
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_allclose(found, singular, atol=1e-6 * singular.max(), rtol=0)
