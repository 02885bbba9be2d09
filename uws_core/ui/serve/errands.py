"""Work that reads weights for one page: done at once when it is small, else a job that the page shows.

What an errand makes goes to the store under keys of its own; a mark in the store says that it has been done, so a
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
from uws_core.ui.serve.grams import ASK_SECONDS, INLINE_SECONDS, NETWORK, jobs, sent

# What a modest machine reads and multiplies in a second.
BYTES_PER_SECOND = 400e6
STEPS_PER_SECOND = 2e10
# Opening a model and finding a tensor in it.
_SECONDS_PER_READ = 1.5e-3


@dataclass(frozen=True, slots=True)
class Errand:
    """Some work with its price: `key` is the same for everybody who asks for the same, `seconds` and `bytes` about."""

    key: str
    title: str
    seconds: float
    bytes: int
    work: Callable[[Report], object]


@dataclass(frozen=True, slots=True)
class Attended:
    """Where an errand stands: done, or its job if there is one, or why it failed when it was tried at once."""

    done: bool
    job: JobState | None = None
    problem: str = ""


def attend(errand: Errand, *, asked: bool = True) -> Attended:
    """Do a small errand now, start a middling one as a job if it was `asked` for, and leave a large one for `start`."""
    if _marked(errand.key):
        return Attended(True)
    if errand.seconds <= INLINE_SECONDS:
        with st.spinner(errand.title):
            try:
                with RESULT_LOCK.hold(errand.key):
                    # Another session may have done it while this one waited.
                    if not _marked(errand.key):
                        _do(errand, _silent)
            except UwsError as error:
                return Attended(False, problem=str(error))
        return Attended(True)
    job = jobs().get(errand.key)
    if job is None and asked and errand.seconds <= ASK_SECONDS:
        job = start(errand)
    return Attended(False, job)


def look(errand: Errand) -> Attended:
    """Where an errand stands, without doing anything about it."""
    return Attended(True) if _marked(errand.key) else Attended(False, jobs().get(errand.key))


def start(errand: Errand) -> JobState:
    """The job that does an errand: a new one, or the one under way."""
    short = errand.seconds <= ASK_SECONDS
    return jobs().submit(errand.key, partial(_do, errand), title=errand.title, bytes_total=errand.bytes, short=short)


def retry(errand: Errand) -> JobState:
    """The job that does a failed errand again; what was finished of it is in the store."""
    return jobs().retry(errand.key) if jobs().get(errand.key) else start(errand)


def key_of(kind: str, *asked: object) -> str:
    """A key for what was asked; `asked` are plain texts and numbers, or frozen dataclasses of those."""
    return f"done/{MATH_VERSION}/{kind}/{sha256(repr(asked).encode()).hexdigest()[:32]}"


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


def _do(errand: Errand, report: Report) -> None:
    errand.work(report)
    try:
        default_store().put(errand.key, b"done")
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
