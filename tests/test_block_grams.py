"""Grams of row and column blocks: exact against float64 numpy, and the same whatever reads the layer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from tests.test_gram import LAYER, weights, written
from uws_core.nouns.block_grams import BlockGrams, most_blocks
from uws_core.nouns.gram import Gram
from uws_core.passes import workers
from uws_core.passes.block_layout import BlockLayout
from uws_core.passes.distribute import distributed_grams
from uws_core.passes.gram import gram
from uws_core.passes.options import ComputeOptions
from uws_core.store.codec import from_bytes, to_bytes

SHAPES = [(24, 40), (200, 3), (3, 200), (130, 70), (1, 300), (300, 1), (256, 256), (70, 1100)]


def blocks_of(found: Gram) -> BlockGrams:
    assert found.blocks is not None
    return found.blocks


def check_sums(found: Gram, atol: float) -> None:
    """The blocks of each side add up to the Gram, its centre and its base."""
    blocks, n = blocks_of(found), found.n
    scale = max(np.abs(found.values).max(), 1e-300)
    for side in (blocks.rows, blocks.columns):
        total = side.sum(0, dtype=np.float64)
        np.testing.assert_allclose(total[:n, :n], found.values, rtol=0, atol=atol * scale)
        np.testing.assert_allclose(total[:n, -1], found.to_center, rtol=0, atol=atol * max(found.center_norm2, scale))
        assert total[-1, -1] == pytest.approx(found.center_norm2, rel=max(atol, 1e-12))
        np.testing.assert_array_equal(side, np.swapaxes(side, 1, 2))
        if blocks.with_base:
            assert found.base is not None
            np.testing.assert_allclose(total[:n, n], found.base.to_models, rtol=0, atol=atol * scale)
            assert total[n, n] == pytest.approx(found.base.norm2, rel=max(atol, 1e-12))


def centred_blocks(arrays: list[np.ndarray], starts: range, axis: int) -> np.ndarray:
    """The Grams of ranges of rows or columns about the mean, by numpy."""
    stack = np.array(arrays, dtype=np.float64)
    away = stack - stack.mean(axis=0)
    parts = [np.take(away, range(s, min(s + starts.step, stack.shape[axis + 1])), axis + 1) for s in starts]
    return np.array([np.einsum("iab,jab->ij", part, part) for part in parts])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("precision", "atol"), [("double", 1e-12), ("single", 2e-6)])
def test_blocks_are_those_of_numpy_and_add_up(
    tmp_path: Path, shape: tuple[int, int], precision: str, atol: float
) -> None:
    arrays = weights(3, shape=shape)
    found = gram(written(tmp_path, arrays, torch.float32), LAYER, precision=precision)
    check_sums(found, atol)
    layout, blocks = BlockLayout.of(shape, 7), blocks_of(found)
    scale = np.abs(found.values).max()
    rows = centred_blocks(arrays, range(0, shape[0], layout.height), 0)
    columns = centred_blocks(arrays, range(0, shape[1], layout.width), 1)
    # A vector's entries are the blocks of both sides.
    rows, columns = columns if shape[0] == 1 else rows, rows if shape[1] == 1 else columns
    np.testing.assert_allclose(blocks.rows[:, :7, :7], rows, rtol=0, atol=atol * scale)
    np.testing.assert_allclose(blocks.columns[:, :7, :7], columns, rtol=0, atol=atol * scale)


@pytest.mark.parametrize("budget", [2 * 7 * 70 * 8, 2 * 7 * 70 * 8 * 5, 2**28])
@pytest.mark.parametrize("cores", [1, 3])
def test_the_same_blocks_from_any_slabs_and_cores(
    tmp_path: Path, budget: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = written(tmp_path, weights(4, shape=(130, 70)), torch.float32)
    whole = blocks_of(gram(collection, LAYER, precision="double"))
    threads = replace(workers._threads(), cores=cores)
    monkeypatch.setattr(workers, "_threads", lambda: threads)
    found = blocks_of(gram(collection, LAYER, precision="double", budget=budget))
    scale = np.abs(whole.rows).max()
    np.testing.assert_allclose(found.rows, whole.rows, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(found.columns, whole.columns, rtol=0, atol=1e-12 * scale)


def test_the_same_blocks_from_rows_on_several_workers(tmp_path: Path) -> None:
    arrays = weights(5, shape=(130, 70), differ=0.3)
    collection = written(tmp_path, arrays, torch.float32, base=arrays[0] * 0.5)
    (key,) = collection.layers
    options = ComputeOptions(device="cpu", precision="double", budget=2 * 8 * 70 * 8 * 10)
    whole = gram(collection, LAYER, **options.keywords)
    with ThreadPoolExecutor(2) as executor:
        ((_, found),) = distributed_grams(
            collection,
            [key],
            executor,
            options=options,
            beat=lambda entries, message: None,
            block_bytes=4 * 8 * 70 * 25,
        )
    assert isinstance(found, Gram)
    check_sums(found, 1e-12)
    assert blocks_of(found).with_base
    scale = np.abs(blocks_of(whole).rows).max()
    # Each part is about the mean of its rows, which is that of the whole in these rows.
    np.testing.assert_allclose(blocks_of(found).rows, blocks_of(whole).rows, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(blocks_of(found).columns, blocks_of(whole).columns, rtol=0, atol=1e-12 * scale)


def test_a_model_that_is_not_finite_is_zero_in_every_block(tmp_path: Path) -> None:
    arrays = weights(6, shape=(70, 50))
    arrays[2][3, 4] = np.nan
    found = gram(written(tmp_path, arrays, torch.float32), LAYER, precision="double")
    check_sums(found, 1e-12)
    assert (blocks_of(found).rows[:, 2] == 0).all()
    others = [array for index, array in enumerate(arrays) if index != 2]
    expected = centred_blocks(others, range(0, 70, BlockLayout.of((70, 50), 7).height), 0)
    used = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(blocks_of(found).rows[:, used][:, :, used], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ranks", [[3] * 6, [1, 4, 2, 3, 3, 2]])
def test_blocks_of_adapters_are_those_of_their_products(tmp_path: Path, ranks: list[int]) -> None:
    rng, dense = np.random.default_rng(7), []
    for index, rank in enumerate(ranks):
        folder = tmp_path / f"a{index}"
        folder.mkdir()
        up, down = rng.normal(size=(70, rank)), rng.normal(size=(rank, 90))
        name = "base_model.model.layers.0.q_proj"
        factors = {f"{name}.lora_A.weight": torch.tensor(down), f"{name}.lora_B.weight": torch.tensor(up)}
        save_file(factors, folder / "adapter_model.safetensors")
        config = f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {2 * rank}, "target_modules": ["q_proj"]}}'
        (folder / "adapter_config.json").write_text(config)
        dense.append(2 * up @ down)
    collection = uws.collect(tmp_path)
    (layer,) = (key for key in collection.layers if not key.factor)
    found = uws.gram(collection, layer, precision="double")
    check_sums(found, 1e-12)
    assert not blocks_of(found).with_base
    scale = np.abs(found.values).max()
    rows, columns = centred_blocks(dense, range(0, 70, 3), 0), centred_blocks(dense, range(0, 90, 3), 1)
    np.testing.assert_allclose(blocks_of(found).rows[:, :6, :6], rows, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(blocks_of(found).columns[:, :6, :6], columns, rtol=0, atol=1e-12 * scale)


def test_blocks_of_layers_add_as_their_grams_do() -> None:
    collection = uws.collect("demo:finetuned")
    total = uws.gram(collection, collection.layers[0])
    for layer in collection.layers[1:6]:
        total = total + uws.gram(collection, layer)
    check_sums(total, 1e-5)


def test_blocks_come_back_from_the_store_bit_for_bit(tmp_path: Path) -> None:
    arrays = weights(8, shape=(70, 50))
    found = gram(written(tmp_path, arrays, torch.float32, base=arrays[0]), LAYER)
    again = from_bytes(Gram, to_bytes(found))
    np.testing.assert_array_equal(blocks_of(again).rows, blocks_of(found).rows)
    np.testing.assert_array_equal(blocks_of(again).columns, blocks_of(found).columns)
    assert (blocks_of(again).n, blocks_of(again).with_base) == (7, True)


def test_a_vector_is_stored_with_one_side(tmp_path: Path) -> None:
    found = gram(written(tmp_path, weights(9, shape=(1, 900)), torch.float32), LAYER)
    assert len(to_bytes(found)) < 4 * most_blocks(7) * 8 * 9 / 2 + 4000
    again = from_bytes(Gram, to_bytes(found))
    np.testing.assert_array_equal(blocks_of(again).columns, blocks_of(found).rows)


@pytest.mark.parametrize(("models", "most"), [(40, 64), (100, 64), (500, 16), (1000, 0)])
def test_the_number_of_blocks_is_bounded(models: int, most: int) -> None:
    assert most_blocks(models) == most
    layout = BlockLayout.of((4096, 4096), models)
    assert layout.kept == bool(most)
    assert not most or max(layout.rows, layout.columns) <= most


@pytest.mark.parametrize("shape", [*SHAPES, (768, 768), (768, 3072), (5, 100_000)])
@pytest.mark.parametrize("models", [3, 100, 500, 1000])
def test_chunks_cover_every_entry_once_and_cross_no_border(shape: tuple[int, int], models: int) -> None:
    layout, first, height = BlockLayout.of(shape, models), shape[0] // 3, shape[0] - shape[0] // 3
    covered = np.zeros((height, shape[1]), dtype=np.int8)
    for rows, columns in layout.chunks(first, height, max(2048, 2**20 // models)):
        covered[rows, columns] += 1
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        if layout.kept:
            start = first + rows.start
            assert (tall % layout.height == 0 and start % layout.height == 0) or (
                start // layout.height == (start + tall - 1) // layout.height
            )
            assert columns.start % layout.width == 0
            assert wide % layout.width == 0 or columns.stop == shape[1]
    assert (covered == 1).all()
