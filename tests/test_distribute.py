"""Layers over an executor of this machine: blocks, stop, errors, and what waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core import run
from uws_core.errors import Cancelled, ClusterError, SourceError, StoreError, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes import distribute
from uws_core.passes.distribute import distributed_grams
from uws_core.passes.options import ComputeOptions
from uws_core.store.results import Store

OPTIONS = ComputeOptions(device="cpu", budget=2 * 4 * 32 * 4 * 8)
BLOCK = 4 * 32 * 4 * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        weights = {f"blocks.{i}.weight": torch.randn(64, 32, generator=generator) for i in range(6)}
        save_file(weights, place / f"model-{number}.safetensors")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as made:
        yield made


def quiet(entries: int, message: str) -> None:
    pass


def outcomes(collection: Collection, executor: Executor, **more: object) -> dict[str, Gram | UwsError]:
    told = {"options": OPTIONS, "beat": quiet, "block_bytes": BLOCK, **more}
    return {layer.name: found for layer, found in distributed_grams(collection, collection.layers, executor, **told)}  # type: ignore[arg-type]


def test_blocks_of_all_layers_over_threads_are_the_layers(folder: Path) -> None:
    collection = uws.collect(folder)
    with ThreadPoolExecutor(3) as executor:
        found = outcomes(collection, executor)
    assert found.keys() == set(collection.by_name)
    for layer in collection.layers:
        whole, gram = uws.gram(collection, layer, **OPTIONS.keywords), found[layer.name]  # type: ignore[arg-type]
        assert isinstance(gram, Gram)
        assert gram.layers == (layer,)
        np.testing.assert_allclose(gram.values, whole.values, rtol=0, atol=1e-12 * np.abs(whole.values).max())


def test_progress_counts_blocks_of_unfinished_layers(folder: Path) -> None:
    collection = uws.collect(folder)
    (layer, *_) = collection.layers
    seen: list[int] = []
    with ThreadPoolExecutor(1) as executor:
        told = {"options": OPTIONS, "block_bytes": BLOCK}
        for _ in distributed_grams(collection, [layer], executor, beat=lambda entries, _: seen.append(entries), **told):  # type: ignore[arg-type]
            pass
    # Four blocks of 16 rows; the whole layer is the caller's to count.
    assert set(seen) <= {0, 512, 1024, 1536}
    assert seen[-1] == 0


def test_a_model_that_is_not_finite_in_one_block_is_left_out_of_all(folder: Path) -> None:
    broken = {f"blocks.{i}.weight": torch.randn(64, 32) for i in range(6)}
    broken["blocks.2.weight"][40, 1] = torch.inf
    save_file(broken, folder / "model-9.safetensors")
    collection = uws.collect(folder)
    with ThreadPoolExecutor(2) as executor:
        found = outcomes(collection, executor)
    gram, whole = found["blocks.2.weight"], uws.gram(collection, "blocks.2.weight")
    assert isinstance(gram, Gram)
    assert list(gram.usable) == [True] * 4 + [False]
    assert gram.left_out == whole.left_out
    np.testing.assert_allclose(gram.values, whole.values, rtol=0, atol=1e-6 * np.abs(whole.values).max())


class Held(ThreadPoolExecutor):
    """Threads whose work waits until it is let through."""

    def __init__(self) -> None:
        super().__init__(2)
        self.opened = threading.Event()
        self.begun = 0

    def submit(self, fn: Callable[..., object], /, *given: object, **named: object) -> Future:  # type: ignore[override]
        def held() -> object:
            self.begun += 1
            assert self.opened.wait(20)
            return fn(*given, **named)

        return super().submit(held)


def test_stop_is_heard_while_all_workers_are_busy(folder: Path) -> None:
    collection = uws.collect(folder)
    executor = Held()
    started = time.monotonic()

    def beat(entries: int, message: str) -> None:
        raise Cancelled("pressed")

    with pytest.raises(Cancelled, match="pressed"):
        outcomes(collection, executor, beat=beat)
    assert time.monotonic() - started < 5
    executor.opened.set()
    executor.shutdown()
    assert executor.begun == 2, "what waited in the queue was withdrawn"


@pytest.mark.parametrize("threads", [0, 2])
def test_stop_is_no_failed_layer(folder: Path, store: Store, threads: int) -> None:
    def report(fraction: float, message: str) -> None:
        raise Cancelled("pressed")

    failed: list[str] = []
    executor = ThreadPoolExecutor(threads) if threads else None
    with pytest.raises(Cancelled, match="pressed"):
        list(
            run.scan(
                uws.collect(folder),
                store=store,
                executor=executor,
                report=report,
                failed=lambda layer, error: failed.append(layer.name),
            )
        )
    assert failed == []


def test_the_queue_of_the_executor_stays_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribute, "_LEAST_WAITING", 3)
    monkeypatch.setattr(distribute, "_REFS_WAITING", 0)
    collection = uws.collect(folder)
    executor = Held()
    queued: list[int] = []

    def beat(entries: int, message: str) -> None:
        queued.append(executor.begun + executor._work_queue.qsize())
        executor.opened.set()

    assert len(outcomes(collection, executor, beat=beat)) == 6
    executor.shutdown()
    assert queued[0] == 3
    assert executor.begun == 24


def test_an_unreadable_file_costs_only_its_layers(folder: Path, store: Store) -> None:
    collection = uws.collect(folder)
    bad = folder / "model-2.safetensors"
    bad.write_bytes(bad.read_bytes()[:-100])
    failed: dict[str, str] = {}

    def note(layer: LayerKey, error: UwsError) -> None:
        failed[layer.name] = str(error)

    for executor in (None, ThreadPoolExecutor(2)):
        with pytest.raises(SourceError, match="model-2"):
            list(uws.scan(collection, store=store, executor=executor))
        assert list(run.scan(collection, store=store, executor=executor, failed=note)) == []
        assert failed.keys() == set(collection.by_name)
        assert all("model-2" in text for text in failed.values())
        failed.clear()


def test_one_bad_layer_leaves_the_others(folder: Path, store: Store) -> None:
    collection = uws.collect(folder)
    # A layer of more inputs than the memory allows: it alone fails, also in the middle.
    wide = replace(collection.layers[2], shape=(1, 10**9))
    odd = replace(collection, layers=(*collection.layers[:2], wide, *collection.layers[3:]))
    for place, executor in ((store, None), (Store(store.path.parent / "other"), ThreadPoolExecutor(2))):
        failed: list[str] = []

        def note(layer: LayerKey, error: UwsError, names: list[str] = failed) -> None:
            names.append(layer.name)

        found = list(run.scan(odd, store=place, executor=executor, failed=note))
        assert failed == [wide.name]
        assert len(found) == 5
        assert len(run.stored_grams(odd, store=place)) == 5


class Broken(ThreadPoolExecutor):
    """An executor that takes two items and is then lost, at once and with what it had."""

    def submit(self, fn: Callable[..., object], /, *given: object, **named: object) -> Future:  # type: ignore[override]
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken > 2:
            raise RuntimeError("cannot schedule new futures")
        return super().submit(fn, *given, **named)


def test_an_executor_that_is_lost_is_said_and_keeps_what_is_finished(folder: Path, store: Store) -> None:
    collection = uws.collect(folder)
    done, failed = [], {}
    with Broken(1) as executor:
        for gram in run.scan(
            collection, store=store, executor=executor, failed=lambda layer, error: failed.update({layer.name: error})
        ):
            done.append(gram.layer.name)
    assert len(done) == 2
    assert len(failed) == 4
    assert all(isinstance(error, ClusterError) and "cannot schedule" in str(error) for error in failed.values())
    assert len(run.stored_grams(collection, store=store)) == 2


class Mortal(ThreadPoolExecutor):
    """Threads whose third item dies with an error that only this executor knows, as a cluster's killed worker does."""

    class Killed(Exception):
        pass

    def submit(self, fn: Callable[..., object], /, *given: object, **named: object) -> Future:  # type: ignore[override]
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken == 3:
            return super().submit(self.die)
        return super().submit(fn, *given, **named)

    def die(self) -> None:
        raise Mortal.Killed("attempted to run on 3 workers that died")


def test_a_worker_that_dies_of_a_layer_costs_only_that(folder: Path, store: Store) -> None:
    collection = uws.collect(folder)
    failed: dict[str, UwsError] = {}
    with Mortal(2) as executor:
        found = list(
            run.scan(
                collection, store=store, executor=executor, failed=lambda key, error: failed.update({key.name: error})
            )
        )
    assert len(found) == 5
    ((name, error),) = failed.items()
    assert isinstance(error, ClusterError)
    assert name in str(error)
    assert "Killed: attempted to run" in str(error)


def test_a_full_disk_costs_what_is_stored_and_no_more(folder: Path, tmp_path: Path) -> None:
    collection = uws.collect(folder)
    # Every Gram is above this limit.
    full = Store(tmp_path / "small", limit=100)
    with pytest.raises(StoreError, match="UWS_CACHE_LIMIT"):
        list(uws.scan(collection, store=full))
    failed: list[UwsError] = []
    found = list(run.scan(collection, store=full, failed=lambda layer, error: failed.append(error)))
    assert len(found) == 6
    assert [type(error) for error in failed] == [StoreError] * 6
