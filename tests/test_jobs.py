"""Jobs on real threads: one a key, cancel at the next report, errors kept, a bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from uws_core.errors import Cancelled, SourceError, UwsError
from uws_core.jobs import JobManager, JobState, JobStatus, ProgressRate, Report

PATIENCE = 10.0


@pytest.fixture
def manager() -> Iterator[JobManager]:
    made = JobManager()
    yield made
    made.close()


class Gate:
    """Work that reports once, says that it is there, and waits to be let through."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.runs = 0
        self.reports = 0

    def __call__(self, report: Report) -> None:
        self.runs += 1
        report(0.25, "blocks.0.attn.q")
        self.reports += 1
        self.reached.set()
        assert self.opened.wait(PATIENCE)
        for step in range(100):
            report(0.5 + step / 200, "blocks.1.attn.q")
            self.reports += 1


def finished(manager: JobManager, key: str) -> JobState:
    state = manager.wait(key, seconds=PATIENCE)
    assert not state.status.active, f"{key} still {state.status} after {PATIENCE} s"
    return state


def test_a_job_reports_and_ends_at_one(manager: JobManager) -> None:
    gate = Gate()
    asked = manager.submit("a", gate, title="40 models", bytes_total=1000)
    assert asked.status.active
    assert gate.reached.wait(PATIENCE)
    midway = manager.get("a")
    assert midway is not None
    assert (midway.status, midway.fraction, midway.message) == (JobStatus.RUNNING, 0.25, "blocks.0.attn.q")
    assert (midway.bytes_done, midway.bytes_total, midway.title) == (250, 1000, "40 models")
    gate.opened.set()
    ended = finished(manager, "a")
    assert (ended.status, ended.fraction, ended.error) == (JobStatus.DONE, 1.0, "")
    assert ended.seconds_spent > 0


def test_cancel_stops_at_the_next_report(manager: JobManager) -> None:
    gate = Gate()
    manager.submit("a", gate, title="a")
    assert gate.reached.wait(PATIENCE)
    assert manager.cancel("a")
    stopping = manager.get("a")
    assert stopping is not None
    assert stopping.stopping
    gate.opened.set()
    assert finished(manager, "a").status is JobStatus.CANCELLED
    assert gate.reports == 1
    assert not manager.cancel("a"), "there was nothing left to stop"


def test_a_queued_job_is_cancelled_at_once_and_never_runs(manager: JobManager) -> None:
    first, second = Gate(), Gate()
    manager.submit("first", first, title="first")
    assert first.reached.wait(PATIENCE)
    queued = manager.submit("second", second, title="second")
    assert (queued.status, queued.ahead) == (JobStatus.QUEUED, 1), "one runs"
    assert manager.submit("third", second, title="third").ahead == 2
    manager.cancel("third")
    manager.cancel("second")
    assert finished(manager, "second").status is JobStatus.CANCELLED
    first.opened.set()
    assert finished(manager, "first").status is JobStatus.DONE
    assert second.runs == 0


def test_the_same_key_from_many_threads_is_one_job(manager: JobManager) -> None:
    gate = Gate()
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(PATIENCE)
        manager.submit("same", gate, title="same")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.opened.set()
    assert finished(manager, "same").status is JobStatus.DONE
    assert gate.runs == 1
    assert len(manager.jobs()) == 1


def test_a_finished_key_can_be_asked_again(manager: JobManager) -> None:
    gate = Gate()
    gate.opened.set()
    for key in ("a", "b", "a"):
        manager.submit(key, gate, title=key)
        finished(manager, key)
    assert gate.runs == 3
    assert [job.key for job in manager.jobs()] == ["a", "b"], "the latest asked comes first"


def test_an_error_is_kept_and_retried(manager: JobManager) -> None:
    broken = threading.Event()
    broken.set()

    def work(report: Report) -> None:
        report(0.5, "halfway")
        if broken.is_set():
            raise SourceError("model-07 is truncated")

    manager.submit("a", work, title="a", bytes_total=10)
    failed = finished(manager, "a")
    assert (failed.status, failed.error, failed.detail) == (JobStatus.FAILED, "model-07 is truncated", "")
    assert failed.fraction == 0.5
    broken.clear()
    manager.retry("a")
    again = finished(manager, "a")
    assert (again.status, again.error, again.bytes_total) == (JobStatus.DONE, "", 10)


@pytest.mark.parametrize("raised", [ZeroDivisionError("by zero"), MemoryError("no room"), SystemExit(3)])
def test_an_unforeseen_error_keeps_its_traceback_and_the_worker(manager: JobManager, raised: BaseException) -> None:
    def work(report: Report) -> None:
        raise raised

    manager.submit("bad", work, title="bad")
    failed = finished(manager, "bad")
    assert failed.error == f"{type(raised).__name__}: {raised}"
    assert "in work" in failed.detail
    manager.submit("good", lambda report: report(1.0, ""), title="good")
    assert finished(manager, "good").status is JobStatus.DONE


def test_work_that_gives_up_by_itself_is_cancelled(manager: JobManager) -> None:
    def work(report: Report) -> None:
        raise Cancelled("pressed in another place")

    manager.submit("a", work, title="a")
    assert finished(manager, "a").status is JobStatus.CANCELLED


def test_history_is_bounded_and_never_drops_an_active_job() -> None:
    manager = JobManager(history=3)
    gate = Gate()
    try:
        for name in "abcdef":
            manager.submit(name, lambda report: None, title=name)
            finished(manager, name)
        manager.submit("running", gate, title="running")
        manager.submit("queued", lambda report: None, title="queued")
        assert [job.key for job in manager.jobs()] == ["queued", "running", "f", "e", "d"]
        assert manager.get("a") is None
        manager.forget("e")
        manager.forget("running")
        assert [job.key for job in manager.jobs()] == ["queued", "running", "f", "d"]
    finally:
        gate.opened.set()
        manager.close()


def test_two_workers_run_two_jobs_side_by_side() -> None:
    manager = JobManager(workers=2)
    both = threading.Barrier(2)
    try:
        for name in "ab":
            manager.submit(name, lambda report: both.wait(PATIENCE), title=name)
        assert {finished(manager, name).status for name in "ab"} == {JobStatus.DONE}
    finally:
        manager.close()


def test_short_work_does_not_wait_for_long_work(manager: JobManager) -> None:
    long, short, later = Gate(), Gate(), Gate()
    manager.submit("long", long, title="hours")
    assert long.reached.wait(PATIENCE)
    manager.submit("short", short, title="seconds", short=True)
    assert short.reached.wait(PATIENCE)
    assert manager.submit("later", later, title="seconds", short=True).ahead == 1
    assert manager.cancel("later")
    short.opened.set()
    assert finished(manager, "short").status is JobStatus.DONE
    assert manager.retry("short").status.active
    assert finished(manager, "short").status is JobStatus.DONE, "again in its own lane"
    assert manager.get("long").status is JobStatus.RUNNING  # type: ignore[union-attr]
    long.opened.set()
    assert finished(manager, "long").status is JobStatus.DONE


def test_progress_never_goes_back_nor_beyond_one(manager: JobManager) -> None:
    seen = []

    def work(report: Report) -> None:
        for fraction in (0.5, 0.2, 7.0):
            report(fraction, "")
            seen.append(manager.get("a").fraction)  # type: ignore[union-attr]

    manager.submit("a", work, title="a")
    finished(manager, "a")
    assert seen == [0.5, 0.5, 1.0]


def test_closing_cancels_what_runs_and_takes_no_more() -> None:
    manager = JobManager()
    gate = Gate()
    manager.submit("running", gate, title="running")
    manager.submit("queued", gate, title="queued")
    assert gate.reached.wait(PATIENCE)
    threading.Timer(0.1, gate.opened.set).start()
    manager.close(seconds=PATIENCE)
    assert {job.status for job in manager.jobs()} == {JobStatus.CANCELLED}
    assert gate.runs == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("uws-job") and thread.is_alive()]
    with pytest.raises(UwsError, match="closed"):
        manager.submit("late", gate, title="late")


def test_unknown_keys_are_named(manager: JobManager) -> None:
    assert manager.get("nothing") is None
    assert not manager.cancel("nothing")
    with pytest.raises(UwsError, match="'nothing'"):
        manager.retry("nothing")
    with pytest.raises(UwsError, match="'nothing'"):
        manager.wait("nothing")


def test_rate_and_time_left_follow_the_recent_pace() -> None:
    rate = ProgressRate()
    assert rate.per_second is None
    rate.note(0.0, 0.0)
    assert rate.per_second is None
    # Half of it was in the store already; after that one percent a second.
    for second in range(1, 50):
        rate.note(float(second), 0.5 + second / 100)
    assert rate.per_second == pytest.approx(0.01)
    told_first = ProgressRate()
    for second in range(20):
        told_first.note(float(second), 0.0)
    told_first.note(21.0, 0.5)
    assert told_first.per_second == pytest.approx(0.25), "from the last moment before there was any"
    burst = ProgressRate()
    for step in range(100_000):
        burst.note(step / 1000, step / 100_000)
    assert len(burst._notes) < 200
    assert burst.per_second == pytest.approx(0.01, rel=0.01)


def test_a_running_job_shows_rate_and_time_left(manager: JobManager) -> None:
    gate = Gate()

    def work(report: Report) -> None:
        time.sleep(0.02)
        gate(report)

    manager.submit("a", work, title="a", bytes_total=1_000_000)
    assert gate.reached.wait(PATIENCE)
    state = manager.get("a")
    gate.opened.set()
    assert state is not None
    assert state.bytes_per_second is not None
    assert state.seconds_left is not None
    assert 0 < state.bytes_per_second <= 250_000 / 0.02
    # What is left, at this rate, is three times what is done.
    assert state.seconds_left == pytest.approx(750_000 / state.bytes_per_second)
