"""Work behind the pages: asked by many and done once, refused where it would never end, tried again when it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.ui.conftest import Open
from tests.ui.test_pages import told
from uws_core import run
from uws_core.errors import SourceError
from uws_core.jobs import JobManager, JobState, JobStatus
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.query import Query
from uws_core.passes import layer_scan
from uws_core.store.keyed_lock import RESULT_LOCK, KeyedLock
from uws_core.store.results import Store, default_store
from uws_core.ui import grams, tasks
from uws_core.ui.job_panel import job_line

PATIENCE = 20.0


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: Callable[[], None]) -> Path:
    """A store of this test's own, and a server that has done nothing."""
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "own"))
    restart()
    return tmp_path / "own"


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobManager]:
    made = JobManager()
    monkeypatch.setattr(grams, "jobs", lambda: made)
    monkeypatch.setattr(tasks, "jobs", lambda: made)
    yield made
    made.close()


def together(work: Callable[[], object], *, times: int) -> None:
    start = threading.Barrier(times)

    def begin() -> None:
        start.wait(PATIENCE)
        work()

    threads = [threading.Thread(target=begin) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)


def test_one_at_a_time_a_key_and_nothing_is_held_after() -> None:
    lock, inside, most = KeyedLock(), [], []

    def work() -> None:
        with lock.hold("a"):
            inside.append(None)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    together(work, times=8)
    assert most == [1] * 8
    assert len(lock) == 0


@pytest.mark.usefixtures("own")
def test_ten_sessions_that_ask_at_once_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = uws.collect("demo:finetuned")
    read, computed = [], layer_scan.compute_batch

    def counted(asked: Collection, layers: Sequence[LayerKey], *given: object) -> object:
        read.extend(layer.name for layer in layers)
        time.sleep(0.05)
        return computed(asked, layers, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(layer_scan, "compute_batch", counted)
    names = tuple(layer.name for layer in collection.layers[:2])
    supplies: list[grams.Availability] = []
    together(lambda: supplies.append(grams.availability(collection, names)), times=10)
    assert [availability.ready for availability in supplies] == [names] * 10
    assert sorted(read) == sorted(names)


@pytest.mark.usefixtures("own")
def test_ten_sessions_with_one_small_errand_do_it_once() -> None:
    done: list[None] = []

    def work(report: object) -> None:
        time.sleep(0.05)
        done.append(None)

    task = tasks.Task("done/test", "a small task", 0.1, 0, work)
    together(lambda: tasks.status(task), times=10)
    assert len(done) == 1
    assert len(RESULT_LOCK) == 0


@pytest.mark.usefixtures("own")
def test_short_work_is_done_beside_a_long_scan(manager: JobManager) -> None:
    let_go = threading.Event()
    manager.submit("long", lambda report: let_go.wait(PATIENCE), title="hours")
    tasks.start(tasks.Task("done/short", "seconds", 5.0, 0, lambda report: None))
    assert manager.wait("done/short", seconds=PATIENCE).status is JobStatus.DONE
    queued = tasks.start(tasks.Task("done/long", "an hour", 3600.0, 0, lambda report: None))
    assert job_line(queued) == "waiting for 1 other"
    let_go.set()


@pytest.mark.usefixtures("own")
def test_a_failed_errand_is_done_again(manager: JobManager) -> None:
    tried: list[None] = []

    def work(report: object) -> None:
        tried.append(None)
        if len(tried) == 1:
            raise SourceError("m3 is truncated")

    task = tasks.Task("done/again", "a task", 30.0, 0, work)

    def finished(state: JobState) -> JobStatus:
        return manager.wait(state.key, seconds=PATIENCE).status

    assert finished(tasks.start(task)) is JobStatus.FAILED
    assert finished(tasks.retry(task)) is JobStatus.DONE
    assert tasks.peek(task).done


@pytest.mark.usefixtures("own")
def test_stored_grams_are_handed_on_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = uws.collect("demo:finetuned")
    names = tuple(layer.name for layer in collection.layers)
    list(run.scan(collection))
    get, opened = Store.get, []
    monkeypatch.setattr(Store, "get", lambda self, key: opened.append(key) or get(self, key))
    every = grams.of(Query("demo:finetuned", collection.fingerprint, tuple(range(40)), names))
    assert next(every).layer.name == names[0]
    assert len(opened) == 1
    assert [gram.layer.name for gram in every] == list(names[1:])


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.main.button]


def test_results_that_the_store_cannot_keep_are_refused_with_the_way_out(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: Callable[[], None]
) -> None:
    restart()
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("UWS_CACHE_LIMIT", "200KiB")
    app = open_page("collection", c="demo:scratch")
    assert "Raise UWS" in told(app)
    assert "CACHE" in told(app)
    assert not {"Scan", "Retry"} & set(labels(app))
    app.switch_page("pages/spectrum.py").run()
    assert not app.exception


def test_a_failed_scan_has_a_button_that_tries_again(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restart: Callable[[], None]
) -> None:
    restart()
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "own"))
    app = open_page("collection", c="demo:scratch")
    # The first page read them all.
    default_store().prune()
    work, broken = layer_scan.compute_batch, [True]

    def failing(*given: object) -> object:
        if broken:
            raise SourceError("m3 is truncated")
        return work(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(layer_scan, "compute_batch", failing)
    collection = uws.collect("demo:scratch")
    names = tuple(layer.name for layer in collection.layers)
    grams.jobs().wait(grams.start_scan(collection, names).key, seconds=PATIENCE)
    app.run()
    assert "m3 is truncated" in told(app)
    assert "Retry" in labels(app)
    broken.clear()
    app.button(key="scan").click().run()
    state = grams.jobs().get(grams.job_key(collection, names))
    assert state is not None
    grams.jobs().wait(state.key, seconds=PATIENCE)
    app.run()
    assert "All 20 chosen layers have been read" in told(app)
