"""The one panel of work under way: what it costs, how far it is, stop, retry, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from uws_core.jobs import JobState, JobStatus
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.models import Collection
from uws_core.ui import grams, tasks
from uws_core.ui.grams import Availability
from uws_core.ui.page import plain, problem
from uws_core.ui.tasks import Task, TaskStatus


def task_panel(task: Task, status: TaskStatus | None = None) -> bool:
    """Whether a task is done; if not, its cost with a button, its progress with a stop, or what went wrong.

    Without a `status` a small task is done now and a middling one is started.
    """
    status = tasks.status(task) if status is None else status
    if status.done:
        return True
    if status.problem:
        problem(status.problem)
        # The run that a click brings tries again.
        st.button("Retry", key=f"retry.{task.key}")
        return False
    job = status.job
    if job is not None and job.status.active:
        progress(job.key)
        return False
    with st.container(border=True):
        moves = f"moves {bytes_text(task.bytes)} and " if task.bytes else ""
        st.markdown(f"{task.title} {moves}takes about {_time(task.seconds)} on a modest machine.")
        if job is not None:
            st.caption(_ended(job))
        if job is not None and job.status is JobStatus.FAILED:
            st.button("Retry", on_click=_call, args=(tasks.retry, task), type="primary", key=f"retry.{task.key}")
        else:
            st.button("Compute", on_click=_call, args=(tasks.start, task), type="primary", key=f"start.{task.key}")
    return False


def scan_panel(
    availability: Availability, collection: Collection, layers: tuple[str, ...], precision: str = "auto"
) -> None:
    """Nothing when all is there; else what is missing and why, with progress, stop, or a button that starts it."""
    if availability.problem:
        problem(availability.problem)
    if not availability.missing:
        return
    job = availability.job
    if job is not None and job.status.active:
        shown = len(availability.ready)
        progress(job.key, below=lambda: _more(collection, layers, precision, shown, job.key))
        return
    if availability.no_room:
        problem(availability.no_room)
        return
    with st.container(border=True):
        cost_line(collection, availability.missing, precision)
        if job is not None:
            st.caption(_ended(job))
        again = bool(availability.problem) or (job is not None and job.status is JobStatus.FAILED)
        st.button(
            "Retry" if again else "Scan",
            on_click=_call,
            args=(grams.start_scan, collection, layers, precision),
            type="primary",
            key="scan",
        )


def rest_panel(collection: Collection, layers: tuple[str, ...]) -> None:
    """The cost of the layers that have not been read yet, with a button; a line when all have been."""
    missing = grams.missing(collection, layers)
    if not missing:
        st.caption(f"All {len(layers)} chosen layers have been read; what you do next reads no weights.")
        return
    job = grams.jobs().get(grams.job_key(collection, layers))
    ready = tuple(name for name in layers if name not in set(missing))
    no_room = grams.room(collection, layers)
    scan_panel(Availability(ready, missing, job, no_room=no_room), collection, layers)


def progress(
    key: str, *, below: Callable[[], None] | None = None, text: Callable[[JobState], str] | None = None
) -> None:
    """The bar and the stop of a job under way, refreshed every second; a whole run when it ends.

    `below` draws more under the bar, `text` says more of a job than its bytes.
    """
    st.fragment(_progress, run_every=1.0)(key, below, text)


def cost_line(collection: Collection, layers: tuple[str, ...], precision: str = "auto") -> None:
    """What a pass over these layers takes, in words, and which of them there is no memory for."""
    cost = grams.measured_cost(collection, layers, precision)
    if cost.refused:
        problem(grams.refusal(cost))
    from_hub = f" ({bytes_text(cost.far)} of it from the Hub)" if cost.far else ""
    st.markdown(
        f"{cost.layers} of {len(collection.layers)} layers have not been read. Reading them moves "
        f"{bytes_text(cost.bytes)}{from_hub}, uses up to {bytes_text(cost.memory)} of memory, "
        f"and takes about {_time(cost.seconds)} here; a cold disk or a network takes longer."
    )


def job_line(job: JobState) -> str:
    """A job's progress in words: bytes, how many a second, and time left."""
    if job.status is JobStatus.QUEUED:
        return f"waiting for {job.ahead} other" + ("" if job.ahead == 1 else "s")
    done = f"{bytes_text(job.bytes_done)} of {bytes_text(job.bytes_total)}" if job.bytes_total else job.message
    rate = f", {bytes_text(job.bytes_per_second)}/s" if job.bytes_per_second else ""
    left = f", {_time(job.seconds_left)} left" if job.seconds_left is not None else ""
    return "stopping" if job.stopping else f"{done}{rate}{left}"


def _progress(key: str, below: Callable[[], None] | None, text: Callable[[JobState], str] | None) -> None:
    job = grams.jobs().get(key)
    if job is None or not job.status.active:
        st.rerun()
    with st.container(border=True):
        st.progress(job.fraction, text=f"{job.title}: {(text or job_line)(job)}")
        if below is not None:
            below()
        else:
            _stop_button(key)


def _more(collection: Collection, layers: tuple[str, ...], precision: str, shown: int, key: str) -> None:
    """How many layers are there by now, with the stop and a button that shows them."""
    ready = len(layers) - len(grams.missing(collection, layers, precision))
    st.caption(f"{ready} of {len(layers)} layers are there{f', {shown} of them shown below' if shown else ''}.")
    with st.container(horizontal=True):
        _stop_button(key)
        # Never by itself: it would move the page under a reader's hands.
        if ready > shown and st.button(f"Show {ready - shown} more", key=f"more.{key}"):
            st.rerun()


def _stop_button(key: str) -> None:
    st.button("Stop", on_click=_call, args=(grams.jobs().cancel, key), key=f"stop.{key}")


def _call(action: Callable[..., object], *args: object) -> None:
    """A button's callback; what the action returns is of no use to it."""
    action(*args)


def _ended(job: JobState) -> str:
    """How the last attempt ended, when some of it is missing."""
    if job.status is JobStatus.FAILED:
        return f"The last attempt stopped: {plain(job.error)}"
    if job.status is JobStatus.CANCELLED:
        return "Stopped; what was finished is kept."
    return (
        "The last scan came to its end, but some of its results were dropped since: other results filled the results "
        "folder. Raise UWS_CACHE_LIMIT and start again, or make room with the command `store prune --unused DAYS`."
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
