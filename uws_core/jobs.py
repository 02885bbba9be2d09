"""Background jobs: one job per key, with progress, a queue, cancel and retry; independent of any user interface.

A job is a function that takes `report(fraction, message)` and calls it often; after a cancel the next call raises
`Cancelled`. Jobs put their results in the store under keys of their own, so nothing finished is lost with the job.
Worker threads are daemons: a closing program does not wait for hours of work.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from uws_core.errors import Cancelled, UwsError

Report = Callable[[float, str], None]
Work = Callable[[Report], object]

# The rate is that of the last half minute: a first layer from the store must not promise the same for the rest.
_RATE_SECONDS = 30.0


class JobStatus(StrEnum):
    """The status of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def active(self) -> bool:
        """Whether the job is queued or running."""
        return self in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class JobState:
    """A snapshot of a job.

    `fraction` is 0 to 1 and `bytes_done` its part of `bytes_total`; `bytes_per_second` and `seconds_left` are None
    until they can be measured. `ahead` counts the jobs that it waits for, running or not. `stopping` means that the
    job was cancelled and the work has not noticed yet. `error` is for the user, `detail` the traceback of an
    unforeseen failure.
    """

    key: str
    title: str
    status: JobStatus
    fraction: float = 0.0
    message: str = ""
    bytes_total: int = 0
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    seconds_spent: float = 0.0
    ahead: int = 0
    stopping: bool = False
    error: str = ""
    detail: str = ""

    @property
    def bytes_done(self) -> int:
        """The part of `bytes_total` that is done."""
        return round(self.fraction * self.bytes_total)


class JobManager:
    """Runs jobs on `workers` threads in order of submission, and remembers the last `history` finished ones.

    Short jobs have as many threads of their own, so that a job of seconds never waits for one of hours.
    """

    def __init__(self, *, workers: int = 1, history: int = 50) -> None:
        self._workers, self._history = workers, history
        self._jobs: dict[str, _Job] = {}
        # Keys say whether the job is short.
        self._queues: dict[bool, deque[_Job]] = {False: deque(), True: deque()}
        self._threads: dict[bool, list[threading.Thread]] = {False: [], True: []}
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, key: str, work: Work, *, title: str, bytes_total: int = 0, short: bool = False) -> JobState:
        """The job under `key`: the queued or running one if there is one, else a new one.

        A `short` job, of seconds, does not wait behind other jobs.

        Raises:
            UwsError: the manager is closed.
        """
        with self._changed:
            job = self._jobs.get(key)
            if job is None or not job.status.active:
                job = self._enqueue(_Job(key, title, work, bytes_total, short))
            return self._state(job)

    def retry(self, key: str) -> JobState:
        """The same work again under the same key; the running one if it is under way.

        Raises:
            UwsError: no such job is remembered.
        """
        with self._changed:
            job = self._jobs.get(key)
            if job is None:
                raise UwsError(f"No job {key!r} is remembered; ask for the work again on its page")
            if not job.status.active:
                job = self._enqueue(_Job(key, job.title, job.work, job.bytes_total, job.short))
            return self._state(job)

    def cancel(self, key: str) -> bool:
        """Cancels a queued job at once, a running one at its next report; returns whether it was active."""
        with self._changed:
            job = self._jobs.get(key)
            if job is None or not job.status.active:
                return False
            job.stopping = True
            if job.status is JobStatus.QUEUED:
                self._queues[job.short].remove(job)
                self._finish(job, JobStatus.CANCELLED)
            return True

    def forget(self, key: str) -> None:
        """Drop a finished job from the list; an active one stays."""
        with self._changed:
            if key in self._jobs and not self._jobs[key].status.active:
                del self._jobs[key]

    def get(self, key: str) -> JobState | None:
        """The present state of the job under `key`."""
        with self._changed:
            job = self._jobs.get(key)
            return None if job is None else self._state(job)

    def jobs(self) -> tuple[JobState, ...]:
        """All remembered jobs, the latest first."""
        with self._changed:
            return tuple(self._state(job) for job in reversed(self._jobs.values()))

    def wait(self, key: str, *, seconds: float | None = None) -> JobState:
        """The state of the job under `key` once it is finished, or after `seconds`.

        Raises:
            UwsError: no such job is remembered.
        """
        with self._changed:
            job = self._jobs.get(key)
            if job is None:
                raise UwsError(f"No job {key!r} is remembered")
            self._changed.wait_for(lambda: not job.status.active, seconds)
            return self._state(job)

    def close(self, *, seconds: float = 5.0) -> None:
        """Stop everything, take no more work, and wait up to `seconds` for the threads."""
        with self._changed:
            self._closed = True
            keys = [job.key for job in self._jobs.values() if job.status.active]
            self._changed.notify_all()
        for key in keys:
            self.cancel(key)
        deadline = time.monotonic() + seconds
        for thread in (*self._threads[False], *self._threads[True]):
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _enqueue(self, job: _Job) -> _Job:
        if self._closed:
            raise UwsError("The jobs of this server are closed; start it again")
        # Removed first, so that the order of the dictionary is the order of submission.
        self._jobs.pop(job.key, None)
        self._jobs[job.key] = job
        self._queues[job.short].append(job)
        threads = self._threads[job.short]
        if len(threads) < self._workers:
            name = f"uws-job-{'short-' if job.short else ''}{len(threads)}"
            threads.append(
                threading.Thread(target=self._serve, args=(self._queues[job.short],), name=name, daemon=True)
            )
            threads[-1].start()
        self._changed.notify_all()
        return job

    def _serve(self, queue: deque[_Job]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: queue or self._closed)
                if not queue:
                    return
                job = queue.popleft()
                job.status, job.started = JobStatus.RUNNING, time.monotonic()
                job.rate.note(job.started, 0.0)
            self._run(job)

    def _run(self, job: _Job) -> None:
        status, error, detail = JobStatus.DONE, "", ""
        try:
            job.work(lambda fraction, message: self._progress(job, fraction, message))
        except Cancelled:
            status = JobStatus.CANCELLED
        except UwsError as caught:
            status, error = JobStatus.FAILED, str(caught)
        # If one job ended its thread, every later one would stay queued for ever.
        except BaseException as caught:
            status, error = JobStatus.FAILED, f"{type(caught).__name__}: {caught}"
            detail = traceback.format_exc()
        with self._changed:
            job.error, job.detail = error, detail
            self._finish(job, status)

    def _progress(self, job: _Job, fraction: float, message: str) -> None:
        with self._changed:
            if job.stopping:
                raise Cancelled(f"{job.title} was stopped at {job.fraction:.0%}; what was finished is kept")
            job.fraction, job.message = min(max(fraction, job.fraction), 1.0), message
            job.rate.note(time.monotonic(), job.fraction)

    def _finish(self, job: _Job, status: JobStatus) -> None:
        job.status, job.finished, job.stopping = status, time.monotonic(), False
        if status is JobStatus.DONE:
            job.fraction = 1.0
        ended = [key for key, old in self._jobs.items() if not old.status.active]
        for key in ended[: max(len(ended) - self._history, 0)]:
            del self._jobs[key]
        self._changed.notify_all()

    def _state(self, job: _Job) -> JobState:
        running = job.status is JobStatus.RUNNING
        per_second = job.rate.per_second if running else None
        ahead = 0
        if job.status is JobStatus.QUEUED:
            others = [old for old in self._jobs.values() if old.status is JobStatus.RUNNING and old.short == job.short]
            ahead = len(others) + self._queues[job.short].index(job)
        return JobState(
            key=job.key,
            title=job.title,
            status=job.status,
            fraction=job.fraction,
            message=job.message,
            bytes_total=job.bytes_total,
            bytes_per_second=per_second * job.bytes_total if per_second and job.bytes_total else None,
            seconds_left=(1.0 - job.fraction) / per_second if per_second else None,
            seconds_spent=(job.finished or time.monotonic()) - job.started if job.started else 0.0,
            ahead=ahead,
            stopping=job.stopping,
            error=job.error,
            detail=job.detail,
        )


class ProgressRate:
    """The rate at which a fraction grew over the last half minute."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, float]] = deque()

    def note(self, seconds: float, fraction: float) -> None:
        """Notes the fraction at a time; times never decrease."""
        # The time before the first progress, such as listing stored results, says nothing about the rate.
        if fraction <= 0.0:
            self._notes.clear()
        # A job may report a thousand times a second; five notes a second are enough.
        if len(self._notes) > 1 and seconds - self._notes[-2][0] < 0.2:
            self._notes.pop()
        self._notes.append((seconds, fraction))
        while len(self._notes) > 2 and self._notes[1][0] <= seconds - _RATE_SECONDS:
            self._notes.popleft()

    @property
    def per_second(self) -> float | None:
        """The growth of the fraction in a second, or None before there is any."""
        if len(self._notes) < 2:
            return None
        (start, low), (stop, high) = self._notes[0], self._notes[-1]
        return (high - low) / (stop - start) if stop > start and high > low else None


@dataclass(eq=False)
class _Job:
    """A job while it lives; every field is guarded by the manager's condition."""

    key: str
    title: str
    work: Work
    bytes_total: int
    short: bool = False
    status: JobStatus = JobStatus.QUEUED
    fraction: float = 0.0
    message: str = ""
    started: float = 0.0
    finished: float = 0.0
    stopping: bool = False
    error: str = ""
    detail: str = ""
    rate: ProgressRate = field(default_factory=ProgressRate)
