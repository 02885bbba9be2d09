"""A collection that grew or shrank takes over the products that are known, and has the Gram of a fresh pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core import run
from uws_core.passes import growing, low_rank
from uws_core.passes.options import ComputeOptions
from uws_core.store.results import Store


def adapters(place: Path, numbers: range, kind: torch.dtype = torch.float64) -> None:
    """PEFT folders of mixed ranks with a common part."""
    common = torch.randn(2, 40, generator=torch.Generator().manual_seed(99), dtype=kind)
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        rank = 2 + number % 3
        down = torch.randn(rank, 40, generator=generator, dtype=kind)
        down[:2] += common
        tensors = {
            "base_model.model.q.lora_A.weight": down,
            "base_model.model.q.lora_B.weight": torch.randn(70, rank, generator=generator, dtype=kind),
        }
        folder = place / f"m{number:02d}"
        folder.mkdir(parents=True)
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": 4}}')


def scanned(collection: uws.Collection, store: Store, precision: str = "double") -> uws.Gram:
    (gram,) = run.scan(collection, store=store, options=ComputeOptions(precision=precision))
    return gram


def same(found: uws.Gram, fresh: uws.Gram, tolerance: float) -> None:
    scale = float(np.trace(fresh.values))
    np.testing.assert_allclose(found.values, fresh.values, atol=tolerance * scale)
    np.testing.assert_allclose(found.to_center, fresh.to_center, atol=tolerance * scale)
    assert found.center_norm2 == pytest.approx(fresh.center_norm2, abs=tolerance * scale)
    np.testing.assert_allclose(found.entry_stats.power2, fresh.entry_stats.power2, rtol=tolerance * 100)
    assert found.labels == fresh.labels
    assert found.blocks is not None
    assert fresh.blocks is not None
    # Blocks are stored in single precision where products are formed in it.
    np.testing.assert_allclose(found.blocks.rows, fresh.blocks.rows, atol=10 * tolerance * scale)
    np.testing.assert_allclose(found.blocks.columns, fresh.blocks.columns, atol=10 * tolerance * scale)


@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-12), ("single", 2e-7)])
def test_three_more_models_are_a_border_of_the_stored_products(tmp_path, monkeypatch, precision, tolerance):
    kind = torch.float64 if precision == "double" else torch.float32
    adapters(tmp_path / "a", range(0, 24, 2), kind)
    store = Store(tmp_path / "store")
    scanned(uws.collect(tmp_path / "a"), store, precision)
    # The new ones come between the old ones in the order of the folder.
    adapters(tmp_path / "a", range(1, 7, 2), kind)
    collection = uws.collect(tmp_path / "a")
    formed = []
    genuine = low_rank._inner_products

    def counted(factors, *args: object, models=None):
        formed.append(models)
        return genuine(factors, *args, models=models)

    monkeypatch.setattr(low_rank, "_inner_products", counted)
    grown = scanned(collection, store, precision)
    assert formed == [3]
    same(grown, scanned(collection, Store(tmp_path / "other"), precision), tolerance)
    assert formed == [3, None]


def test_a_model_that_left_is_a_deleted_row_and_no_product_is_formed(tmp_path, monkeypatch):
    adapters(tmp_path / "a", range(8))
    store = Store(tmp_path / "store")
    scanned(uws.collect(tmp_path / "a"), store)
    rest = uws.collect([tmp_path / "a" / f"m{number:02d}" for number in (7, 1, 2, 3, 5)])
    fresh = scanned(rest, Store(tmp_path / "other"))

    def forbidden(*args: object, **options: object):
        raise AssertionError("products were formed")

    monkeypatch.setattr(low_rank, "_inner_products", forbidden)
    same(scanned(rest, store), fresh, 1e-12)


def test_a_changed_model_is_a_new_one(tmp_path):
    adapters(tmp_path / "a", range(6))
    store = Store(tmp_path / "store")
    scanned(uws.collect(tmp_path / "a"), store)
    changed = tmp_path / "a" / "m03" / "adapter_config.json"
    changed.write_text(changed.read_text().replace('"lora_alpha": 4', '"lora_alpha": 9'))
    collection = uws.collect(tmp_path / "a")
    (earlier,) = growing.ancestors(store, collection)
    assert 3 not in earlier.models
    same(scanned(collection, store), scanned(collection, Store(tmp_path / "other")), 1e-12)


def test_few_common_models_and_twins_are_a_fresh_pass(tmp_path):
    adapters(tmp_path / "a", range(4))
    store = Store(tmp_path / "store")
    scanned(uws.collect(tmp_path / "a"), store)
    adapters(tmp_path / "b", range(2, 12))
    assert growing.ancestors(store, uws.collect(tmp_path / "b")) == ()
    adapters(tmp_path / "c" / "x", range(4))
    adapters(tmp_path / "c" / "y", range(1))
    twins = uws.collect(tmp_path / "c")
    assert growing.ancestors(store, twins) == ()
    same(scanned(twins, store), scanned(twins, Store(tmp_path / "other")), 1e-12)


def test_a_damaged_note_costs_a_fresh_pass_only(tmp_path):
    adapters(tmp_path / "a", range(4))
    store = Store(tmp_path / "store")
    store.put(growing._KNOWN, b"no json")
    scanned(uws.collect(tmp_path / "a"), store)
    adapters(tmp_path / "a", range(4, 6))
    assert len(growing.ancestors(store, uws.collect(tmp_path / "a"))) == 1
