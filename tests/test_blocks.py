"""A layer in blocks is the layer: every number, bit for bit where the products are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core.nouns.models import Collection
from uws_core.passes.blocks import block_gram, join_blocks, row_blocks, single_layer_collection
from uws_core.passes.options import ComputeOptions

LAYER = "blocks.0.mlp.up.weight"
ROWS, WIDTH = 96, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(ROWS, WIDTH, generator=generator)
    for number in range(6):
        weights = common + 1e-3 * torch.randn(ROWS, WIDTH, generator=generator)
        save_file({LAYER: weights, "head.weight": weights[:8].clone()}, place / f"model-{number}.safetensors")
    save_file({LAYER: common, "head.weight": common[:8].clone()}, place / "base.safetensors")
    return place


@pytest.fixture(scope="module")
def collection(folder: Path) -> Collection:
    models = [str(folder / f"model-{number}.safetensors") for number in range(6)]
    return uws.collect(models, base=str(folder / "base.safetensors"))


def budget_of(slab_rows: int) -> int:
    """A budget in which slabs of seven models have this many rows: read twice, four bytes a weight."""
    return 2 * 7 * WIDTH * 4 * slab_rows


@pytest.mark.parametrize("precision", ["single", "double"])
def test_blocks_add_up_to_the_layer(collection: Collection, precision: str) -> None:
    layer = collection.by_name[LAYER]
    budget = budget_of(8) * (2 if precision == "double" else 1)
    options = ComputeOptions(precision=precision, budget=budget, device="cpu")
    whole = uws.gram(collection, layer, **options.keywords)
    ranges = row_blocks(collection, layer, budget=budget_of(8), block_bytes=7 * WIDTH * 4 * 20)
    assert ranges == [(start, start + 16) for start in range(0, ROWS, 16)], "blocks are whole slabs of 8 rows"
    together = join_blocks(
        layer, [block_gram(single_layer_collection(collection, layer), layer, rows, options) for rows in ranges]
    )
    assert together is not None
    assert together.layers == whole.layers
    assert together.labels == whole.labels
    assert together.d == whole.d
    assert together.base is not None
    assert whole.base is not None
    scale = np.abs(whole.values).max()
    close = {"rtol": 1e-12, "atol": 1e-12 * scale}
    np.testing.assert_allclose(together.values, whole.values, **close)
    np.testing.assert_allclose(together.base.to_models, whole.base.to_models, **close)
    np.testing.assert_allclose(together.base.norm2, whole.base.norm2, **close)
    # Inner products with the mean are small differences of large numbers: relative to the mean they are as good.
    np.testing.assert_allclose(together.to_center, whole.to_center, atol=1e-12 * whole.center_norm2)
    for name in ("center_norm2", "floor", "variance2_per_entry", "effective_d"):
        assert getattr(together, name) == pytest.approx(getattr(whole, name), rel=1e-12), name
    for name in ("norm", "mean", "std", "kurtosis", "largest", "non_finite"):
        ours, theirs = getattr(together.entry_stats, name), getattr(whole.entry_stats, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)


def test_one_block_has_the_shape_of_its_rows(collection: Collection) -> None:
    layer = collection.by_name[LAYER]
    part = block_gram(collection, layer, (16, 40), ComputeOptions(device="cpu"))
    assert part.layer.shape == (24, WIDTH)
    assert part.d == part.entry_stats.count == 24 * WIDTH


def test_a_small_layer_a_tight_budget_and_an_adapter_are_not_split(collection: Collection) -> None:
    layer, small = collection.by_name[LAYER], collection.by_name["head.weight"]
    assert row_blocks(collection, small, budget=2**20, block_bytes=7 * 8 * WIDTH * 4) == [None]
    assert row_blocks(collection, layer, budget=100, block_bytes=1000) == [None], "the pass says what is wrong"
    adapters = uws.collect("demo:lora")
    update = next(key for key in adapters.layers if f"{key.name}:A" in adapters.by_name)
    one_row = 2 * 41 * update.shape[1] * 4
    assert row_blocks(adapters, update, budget=one_row, block_bytes=1) == [None]


def test_the_last_block_takes_what_is_left(collection: Collection) -> None:
    layer = collection.by_name[LAYER]
    ranges = row_blocks(collection, layer, budget=budget_of(10), block_bytes=7 * WIDTH * 4 * 40)
    assert ranges == [(0, 40), (40, 80), (80, 96)]


def test_blocks_with_a_model_that_is_not_finite_do_not_add(folder: Path, tmp_path: Path) -> None:
    broken = torch.zeros(ROWS, WIDTH)
    broken[50, 3] = torch.nan
    save_file({LAYER: broken}, tmp_path / "broken.safetensors")
    models = [
        *(str(folder / f"model-{number}.safetensors") for number in range(3)),
        str(tmp_path / "broken.safetensors"),
    ]
    found = uws.collect(models)
    layer = found.by_name[LAYER]
    parts = [block_gram(found, layer, rows, ComputeOptions(device="cpu")) for rows in ((0, 48), (48, 96))]
    assert [int(part.usable.sum()) for part in parts] == [4, 3]
    assert join_blocks(layer, parts) is None


def test_what_is_sent_is_small(collection: Collection) -> None:
    tabled = replace(collection, table={"task": ("digits",) * 6})
    sent = single_layer_collection(tabled, collection.by_name[LAYER])
    assert sent.refs == collection.refs
    assert sent.fingerprint == collection.fingerprint
    assert [layer.name for layer in sent.layers] == [LAYER]
    assert dict(sent.table) == {}
