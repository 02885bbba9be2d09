"""Work that reads weights for one page: done at once when it is small, else a job that the page shows.

What a task makes goes to the store under keys of its own; a mark in the store says that it has been done, so a
reload, a second browser or a restart does not ask again. Should the store have dropped a part since, the page makes
it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import streamlit as st

from uws_core.errors import StoreError, UwsError
from uws_core.jobs import JobState, Report
from uws_core.nouns.models import Collection
from uws_core.store.codec import MATH_VERSION
from uws_core.store.keyed_lock import RESULT_LOCK
from uws_core.store.results import default_store
from uws_core.ui.grams import ASK_SECONDS, INLINE_SECONDS, NETWORK, jobs, sent

# What a modest machine reads and multiplies in a second.
BYTES_PER_SECOND = 400e6
STEPS_PER_SECOND = 2e10
# Opening a model and finding a tensor in it.
_SECONDS_PER_READ = 1.5e-3


@dataclass(frozen=True, slots=True)
class Task:
    """Some work with its price: `key` is the same for everybody who asks for the same, `seconds` and `bytes` about.

    What takes longer than `inline` seconds is a job, and the page is there meanwhile.
    """

    key: str
    title: str
    seconds: float
    bytes: int
    work: Callable[[Report], object]
    inline: float = INLINE_SECONDS


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where a task stands: done, or its job if there is one, or why it failed when it was tried at once."""

    done: bool
    job: JobState | None = None
    problem: str = ""


def status(task: Task, *, begin: bool = True) -> TaskStatus:
    """Do a small task now, start a middling one as a job if it may `begin`, and leave a large one for `start`."""
    if _marked(task.key):
        return TaskStatus(True)
    if task.seconds <= task.inline:
        with st.spinner(task.title):
            try:
                with RESULT_LOCK.hold(task.key):
                    # Another session may have done it while this one waited.
                    if not _marked(task.key):
                        _do(task, _silent)
            except UwsError as error:
                return TaskStatus(False, problem=str(error))
        return TaskStatus(True)
    job = jobs().get(task.key)
    if job is None and begin and task.seconds <= ASK_SECONDS:
        job = start(task)
    return TaskStatus(False, job)


def peek(task: Task) -> TaskStatus:
    """Where a task stands, without doing anything about it."""
    return TaskStatus(True) if _marked(task.key) else TaskStatus(False, jobs().get(task.key))


def start(task: Task) -> JobState:
    """The job that does a task: a new one, or the one under way."""
    short = task.seconds <= ASK_SECONDS
    return jobs().submit(task.key, partial(_do, task), title=task.title, bytes_total=task.bytes, short=short)


def retry(task: Task) -> JobState:
    """The job that does a failed task again; what was finished of it is in the store."""
    return jobs().retry(task.key) if jobs().get(task.key) else start(task)


def key_of(kind: str, *parts: object) -> str:
    """A key for a result; `parts` say what it is of: plain texts and numbers, or frozen dataclasses of those."""
    return f"done/{MATH_VERSION}/{kind}/{sha256(repr(parts).encode()).hexdigest()[:32]}"


def read_seconds(collection: Collection, layers: Sequence[str], *, times: float = 1.0) -> float:
    """About how long it takes to read these layers of all models `times` times."""
    n = len(collection)
    entries = sum(collection.by_name[name].entries for name in layers)
    moved = sent(collection, layers)
    from_hub = moved.far / NETWORK if moved else 0.0
    return from_hub + times * (4 * n * entries / BYTES_PER_SECOND + _SECONDS_PER_READ * n * len(layers))


def in_parts(report: Report, parts: int) -> Callable[[int], Report]:
    """Reports of `parts` pieces of work as parts of the whole."""

    def part(index: int) -> Report:
        return lambda fraction, message: report((index + fraction) / max(parts, 1), message)

    return part


def _do(task: Task, report: Report) -> None:
    task.work(report)
    try:
        default_store().put(task.key, b"done")
    except StoreError:
        # Without a store everything works, only again each time.
        return


def _marked(key: str) -> bool:
    try:
        return key in default_store()
    except StoreError:
        return False


def _silent(fraction: float, message: str) -> None:
    """The report of work that is done at once."""
