"""A scan on a real Dask cluster on loopback: the same numbers, and a clear word when part of it dies."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import uws_core as uws
from tests.loopback import ROOT, Cluster
from uws_core import cluster, run
from uws_core.errors import ClusterError, UwsError
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes import layer_scan
from uws_core.passes.distribute import distributed_grams
from uws_core.passes.options import ComputeOptions
from uws_core.store.results import Store

pytest.importorskip("distributed", reason="clusters need requirements-cluster.txt")


@pytest.fixture(scope="module")
def finetuned() -> Collection:
    return uws.collect("demo:finetuned")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as made:
        yield made


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    running.add_worker()
    running.add_worker()
    yield running
    running.close()


@pytest.fixture(scope="module")
def bare_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("bare"))
    yield running
    running.close()


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    running = Cluster(tmp_path / "cluster")
    running.add_worker()
    yield running
    running.close()


def test_the_cluster_says_what_it_offers(two_workers: Cluster) -> None:
    found = cluster.inspected(two_workers.address)
    assert found.address == two_workers.address
    assert 1 <= found.workers <= 2
    assert found.threads == found.workers


def test_two_workers_give_the_same_labels_and_numbers(
    two_workers: Cluster, finetuned: Collection, store: Store
) -> None:
    here = {layer.name: uws.gram(finetuned, layer) for layer in finetuned.layers}
    seen: list[float] = []
    with cluster.connected(two_workers.address) as executor:
        found = list(uws.scan(finetuned, store=store, executor=executor, report=lambda part, _: seen.append(part)))
    assert {gram.layer.name for gram in found} == here.keys()
    for gram in found:
        same = here[gram.layer.name]
        assert (gram.labels, gram.layers, gram.d) == (same.labels, same.layers, same.d)
        np.testing.assert_allclose(gram.values, same.values, rtol=0, atol=1e-12 * np.abs(same.values).max())
        assert gram.entry_stats.kurtosis == pytest.approx(same.entry_stats.kurtosis)
    assert len(run.stored_grams(finetuned, store=store)) == len(finetuned.layers)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_blocks_of_rows_on_workers_add_up(two_workers: Cluster, finetuned: Collection) -> None:
    layer = finetuned.by_name["blocks.0.mlp.up.weight"]
    one_row = 41 * layer.shape[1] * 4
    options = ComputeOptions(budget=2 * one_row * 8, device="cpu")
    whole = uws.gram(finetuned, layer, **options.keywords)
    with cluster.connected(two_workers.address) as executor:
        assert executor is not None
        ((key, gram),) = distributed_grams(
            finetuned,
            [layer],
            executor,
            options=options,
            beat=lambda entries, message: None,
            block_bytes=16 * one_row,
        )
    assert key == layer
    assert isinstance(gram, uws.gram(finetuned, layer).__class__)
    np.testing.assert_allclose(gram.values, whole.values, rtol=0, atol=1e-12 * np.abs(whole.values).max())


def test_two_workers_write_the_same_merge(two_workers: Cluster, finetuned: Collection, tmp_path: Path) -> None:
    draft = uws.merge(finetuned, members=[0, 4, 8], layers=list(finetuned.by_name)[:3], method="ties", dtype="bfloat16")
    with cluster.connected(two_workers.address) as executor:
        there = draft.write(tmp_path / "there", executor=executor)
    for path in draft.write(tmp_path / "here").iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes(), path.name


def test_an_error_of_a_worker_is_the_error_one_would_have_here(
    two_workers: Cluster, finetuned: Collection, store: Store
) -> None:
    tight = ComputeOptions(budget=15_000)
    failed: dict[str, str] = {}

    def note(layer: LayerKey, error: UwsError) -> None:
        failed[layer.name] = f"{type(error).__name__}: {error}"

    with cluster.connected(two_workers.address) as executor:
        done = {
            gram.layer.name for gram in uws.scan(finetuned, store=store, executor=executor, options=tight, failed=note)
        }
    # Rows of 32 inputs of 41 models fit twice into this budget, rows of 64 do not.
    assert failed.keys() == {layer.name for layer in finetuned.layers if layer.shape[1] == 64}
    assert done | failed.keys() == set(finetuned.by_name)
    assert all("BudgetError" in text and "raise the budget" in text for text in failed.values())


def at_first(act: Callable[[], None]) -> Callable[[float, str], None]:
    """A report that does something once, when the first layer is done."""
    calls = iter([act])

    def report(fraction: float, message: str) -> None:
        if fraction > 0:
            for once in calls:
                once()

    return report


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_a_killed_worker_costs_nothing_but_time(new_cluster: Cluster, finetuned: Collection, store: Store) -> None:
    with cluster.connected(new_cluster.address) as executor:
        # It takes seconds to start: all work is with the first one when that dies.
        new_cluster.add_worker()
        report = at_first(new_cluster.workers[0].kill)
        done = [gram.layer.name for gram in uws.scan(finetuned, store=store, executor=executor, report=report)]
    assert new_cluster.workers[0].wait(10) == -signal.SIGKILL
    assert sorted(done) == sorted(finetuned.by_name)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_a_scheduler_that_goes_away_leaves_what_is_finished(
    new_cluster: Cluster, finetuned: Collection, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:

    def part() -> None:
        # A worker that stands still finishes nothing more in the time the scheduler takes to die.
        new_cluster.workers[0].send_signal(signal.SIGSTOP)
        new_cluster.scheduler.kill()

    with cluster.connected(new_cluster.address) as executor, pytest.raises(ClusterError, match=r"kept; start the scan"):
        list(uws.scan(finetuned, store=store, executor=executor, report=at_first(part)))
    new_cluster.workers[0].send_signal(signal.SIGCONT)
    known = run.stored_grams(finetuned, store=store)
    assert 1 <= len(known) < len(finetuned.layers)
    # What is left is done here, and only that.
    read: list[str] = []
    work = layer_scan.compute_batch
    monkeypatch.setattr(
        layer_scan, "compute_batch", lambda *given: read.extend(layer.name for layer in given[1]) or work(*given)
    )
    assert len(list(uws.scan(finetuned, store=store))) == len(finetuned.layers)
    assert sorted([*read, *known]) == sorted(finetuned.by_name)
    monkeypatch.setattr(cluster, "_TIMEOUT_SECONDS", 1)
    with pytest.raises(ClusterError, match=r"No Dask scheduler answers"), cluster.connected(new_cluster.address):
        pass


def test_a_scheduler_without_workers_is_said(bare_scheduler: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_TIMEOUT_SECONDS", 1)
    with pytest.raises(ClusterError, match=r"no workers after 1 s.*dask worker tcp://"):
        cluster.inspected(bare_scheduler.address)


def other_version(folder: Path) -> Path:
    """A copy of the package with other mathematics."""
    shutil.copytree(ROOT / "uws_core", folder / "uws_core", ignore=shutil.ignore_patterns("__pycache__", "data", "zoo"))
    codec = folder / "uws_core" / "store" / "codec.py"
    text = codec.read_text()
    changed = text.replace(f"MATH_VERSION = {cluster.MATH_VERSION}", "MATH_VERSION = 999")
    assert changed != text
    codec.write_text(changed)
    return folder


@pytest.mark.parametrize("wrong", ["without the package", "another version"])
def test_workers_that_do_not_fit_are_refused(bare_scheduler: Cluster, tmp_path: Path, wrong: str) -> None:
    path = str(tmp_path) if wrong == "without the package" else str(other_version(tmp_path))
    worker = bare_scheduler.add_worker(environment={"PYTHONPATH": path})
    said = (
        r"cannot run this package.*PYTHONPATH" if wrong == "without the package" else r"has mathematics 999, here it is"
    )
    try:
        with pytest.raises(ClusterError, match=said):
            cluster.inspected(bare_scheduler.address)
    finally:
        worker.terminate()
        worker.wait(20)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:1", "Timed out|refused"),
        ("elsewhere", "invalid|port|address"),
        ("carrier://pigeon:1", "unknown address scheme"),
        ("tcp://127.0.0.1:99999", "Timed out|range"),
        ("tcp://127.0.0.1", "port"),
        ("", "address"),
    ],
)
def test_an_address_where_nobody_answers_is_said_at_once(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_TIMEOUT_SECONDS", 1)
    with pytest.raises(ClusterError, match=rf"No Dask scheduler answers at '{address}'.*({said}).*tcp://host:8786"):
        cluster.inspected(address)


def test_somebody_else_who_answers_is_no_scheduler(two_workers: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_TIMEOUT_SECONDS", 2)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ClusterError, match=r"No Dask scheduler answers"):
            cluster.inspected(f"tcp://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    # And the next call is not held up by it.
    assert cluster.inspected(two_workers.address).workers >= 1


def test_without_dask_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"requirements-cluster\.txt"), cluster.connected("tcp://127.0.0.1:8786"):
        pass


def test_no_scheduler_means_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster.connected(None) as executor:
        assert executor is None
    assert cluster.scheduler_address() is None
    monkeypatch.setenv("UWS_SCHEDULER", "tcp://somewhere:8786")
    assert cluster.scheduler_address() == "tcp://somewhere:8786"
