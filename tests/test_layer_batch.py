"""Small layers several at once: the same numbers as one by one, one opening, and no result of exchanged models."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import uws_core as uws
from uws_core import run
from uws_core.errors import Cancelled, SourceError, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes import layer_batch, layer_scan
from uws_core.passes.blocks import layer_batches
from uws_core.passes.options import ComputeOptions
from uws_core.passes.progress import Progress
from uws_core.sources.base import Source
from uws_core.store.keyed_lock import RESULT_LOCK
from uws_core.store.results import Store

N, LAYERS = 6, 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(N):
        weights = {f"blocks.{i}.weight": torch.randn(12, 8 + i, generator=generator) for i in range(LAYERS)}
        weights["blocks.3.weight"] = weights["blocks.3.weight"].double()
        weights["blocks.4.weight"] = weights["blocks.4.weight"].bfloat16()
        if number == 2:
            weights["blocks.1.weight"][3, 4] = torch.nan
        save_file(weights, place / f"m{number}.safetensors")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as made:
        yield made


def same(one: Gram, other: Gram) -> bool:
    """Bit for bit, labels and reasons included."""
    stats = [field.name for field in fields(one.entry_stats)]
    told = ("layers", "labels", "d", "floor", "left_out")
    return (
        all(getattr(one, name) == getattr(other, name) for name in told)
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("values", "to_center", "usable"))
        and all(
            np.array_equal(getattr(one.entry_stats, name), getattr(other.entry_stats, name), equal_nan=True)
            for name in stats
        )
        and (one.base is None) == (other.base is None)
        and (one.base is None or np.array_equal(one.base.to_models, other.base.to_models))  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("name", ["demo:finetuned", "demo:lora", "folder"])
def test_layers_of_a_batch_are_those_of_their_own(name: str, folder: Path) -> None:
    collection = uws.collect(str(folder) if name == "folder" else name)
    together = [several for several in layer_batches(collection, collection.layers) if len(several) > 1]
    assert together
    for several in together:
        for key, found in zip(several, layer_batch.batch_grams(collection, several, ComputeOptions()), strict=True):
            assert isinstance(found, Gram)
            assert same(found, uws.gram(collection, key)), key


def test_bunches_keep_the_order_and_no_layer_is_lost_or_together_with_a_large_one() -> None:
    collection = uws.collect("demo:finetuned")
    shapes = [(16, 16)] * 3 + [(4096, 4096)] + [(16, 16)] * 200
    layers = tuple(LayerKey(f"l{i}", shape) for i, shape in enumerate(shapes))
    found = list(layer_batches(replace(collection, layers=layers), layers))
    assert [layer for several in found for layer in several] == list(layers)
    assert [len(several) for several in found] == [3, 1, *[8] * 25]
    labels = tuple(map(str, range(100 * len(collection))))
    many = replace(collection, refs=collection.refs * 100, labels=labels, table={}, layers=layers)
    assert all(len(several) == 1 for several in layer_batches(many, layers)), "results would be large"


def test_models_are_opened_once_a_bunch(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, count = layer_batch.open_models, []
    monkeypatch.setattr(layer_batch, "open_models", lambda *given: count.append(given) or opened(*given))
    assert len(list(uws.scan(uws.collect(str(folder)), store=store))) == LAYERS
    assert len(count) == 1


def test_a_layer_that_fails_costs_no_other_of_its_bunch(folder: Path, store: Store) -> None:
    collection = uws.collect(str(folder))
    for number in range(N):
        weights = load_file(folder / f"m{number}.safetensors")
        weights["blocks.2.weight"] = torch.full_like(weights["blocks.2.weight"], torch.inf)
        save_file(weights, folder / f"m{number}.safetensors")
    collection = uws.collect(str(folder))
    failed: dict[str, str] = {}
    found = list(run.scan(collection, store=store, failed=lambda layer, error: failed.update({layer.name: str(error)})))
    assert list(failed) == ["blocks.2.weight"]
    assert "0 of 6 models have finite weights" in failed["blocks.2.weight"]
    assert len(found) == len(run.stored_grams(collection, store=store)) == LAYERS - 1


def test_a_model_exchanged_meanwhile_leaves_no_result_of_the_bunch(folder: Path, store: Store, tmp_path: Path) -> None:
    collection = uws.collect(str(folder))
    other = tmp_path / "other.safetensors"
    save_file({name: value + 1 for name, value in load_file(folder / "m1.safetensors").items()}, other)

    def exchange(fraction: float, message: str) -> None:
        if other.exists():
            shutil.move(other, folder / "m1.safetensors")

    failed: dict[str, UwsError] = {}
    found = list(
        run.scan(
            collection,
            store=store,
            report=exchange,
            failed=lambda layer, error: failed.update({layer.name: error}),
        )
    )
    assert found == []
    assert failed.keys() == set(collection.by_name)
    assert all(isinstance(error, SourceError) and "changed" in str(error) for error in failed.values())
    assert run.stored_grams(collection, store=store) == {}


def test_a_stop_inside_a_bunch_is_heard_at_the_next_layer(folder: Path, store: Store) -> None:
    told: list[float] = []

    def report(fraction: float, message: str) -> None:
        told.append(fraction)
        if len(told) == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        list(uws.scan(uws.collect(str(folder)), store=store, report=report))
    assert len(told) == 2
    assert len(RESULT_LOCK) == 0


def test_a_stop_is_heard_inside_a_layer_of_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = uws.collect(str(folder))
    shares, of_sources = list[float](), layer_batch.gram_of_sources

    def halfway(
        models: Collection, key: LayerKey, sources: list[Source], options: ComputeOptions, *, known: None
    ) -> Gram:
        options.report(0.5, "half of it")
        return of_sources(models, key, sources, options, known=known)

    monkeypatch.setattr(layer_batch, "gram_of_sources", halfway)
    layer_batch.batch_grams(
        collection, collection.layers, ComputeOptions(report=lambda share, text: shares.append(share))
    )
    first = collection.layers[0].entries / sum(layer.entries for layer in collection.layers)
    assert shares[0] == pytest.approx(first / 2)
    assert shares[-1] == 1

    def stop(share: float, text: str) -> None:
        raise Cancelled(text)

    with pytest.raises(Cancelled, match="half of it"):
        layer_batch.batch_grams(collection, collection.layers, ComputeOptions(report=stop))


def test_scans_side_by_side_read_every_layer_once(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    collection, computed, read = uws.collect(str(folder)), layer_scan.compute_batch, list[str]()

    def counted(
        asked: Collection, layers: list[LayerKey], options: ComputeOptions, progress: Progress, *known: object
    ) -> object:
        read.extend(layer.name for layer in layers)
        time.sleep(0.2)
        return computed(asked, layers, options, progress, *known)

    monkeypatch.setattr(layer_scan, "compute_batch", counted)
    names = [layer.name for layer in collection.layers]
    wanted = [names[:3], names[1:], names, names[::2]]

    def names_of(some: list[str]) -> list[str]:
        return sorted(gram.layer.name for gram in uws.scan(collection, some, store=store))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(names_of, wanted)) == wanted
    assert sorted(read) == sorted(names)
    assert len(RESULT_LOCK) == 0


def test_a_scan_that_waits_for_another_hears_a_stop(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, computed, let_go, begun = (
        uws.collect(str(folder)),
        layer_scan.compute_batch,
        threading.Event(),
        threading.Event(),
    )

    def held(*given: object) -> object:
        begun.set()
        assert let_go.wait(20)
        return computed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(layer_scan, "compute_batch", held)
    said: list[str] = []

    def report(fraction: float, message: str) -> None:
        said.append(message)
        if len(said) == 2:
            raise Cancelled("stopped")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: list(uws.scan(collection, store=store)))
        assert begun.wait(20)
        with pytest.raises(Cancelled):
            list(uws.scan(collection, store=store, report=report))
        assert all("another scan is reading it" in text for text in said)
        let_go.set()
        assert len(first.result(20)) == LAYERS


def test_a_scan_whose_reader_pauses_holds_up_no_other(folder: Path, store: Store) -> None:
    collection = uws.collect(str(folder))
    paused = uws.scan(collection, store=store)
    next(paused)
    assert len(list(uws.scan(collection, store=store))) == LAYERS
    assert len(list(paused)) == LAYERS - 1


def test_what_another_scan_could_not_do_is_tried_here(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, computed, begun, tried = (
        uws.collect(str(folder)),
        layer_scan.compute_batch,
        threading.Event(),
        list[None](),
    )

    def failing(*given: object) -> object:
        tried.append(None)
        if len(tried) == 1:
            begun.set()
            time.sleep(0.3)
            raise SourceError("the disk was away")
        return computed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(layer_scan, "compute_batch", failing)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: list(uws.scan(collection, store=store)))
        assert begun.wait(20)
        assert len(list(uws.scan(collection, store=store))) == LAYERS
        with pytest.raises(SourceError, match="away"):
            first.result(20)
