"""What is being computed, what it costs, and how to stop it."""

from __future__ import annotations

import streamlit as st

from uws_core.jobs import JobState, JobStatus
from uws_core.nouns.models import Collection
from uws_core.nouns.sizes import bytes_text
from uws_core.ui.panels.page import plain, problem
from uws_core.ui.serve import grams
from uws_core.ui.serve.grams import Supply


def supply_panel(supply: Supply, collection: Collection, layers: tuple[str, ...], precision: str = "auto") -> None:
    """Nothing when all is there; else what is missing and why, with progress, stop, or a button that starts it."""
    if supply.problem:
        problem(supply.problem)
    if not supply.missing:
        return
    job = supply.job
    if job is not None and job.status.active:
        st.fragment(_progress, run_every=1.0)(job.key, collection, layers, precision, len(supply.ready))
        return
    if supply.lack:
        problem(supply.lack)
        return
    with st.container(border=True):
        cost_line(collection, supply.missing, precision)
        if job is not None:
            st.caption(_last(job))
        again = bool(supply.problem) or (job is not None and job.status is JobStatus.FAILED)
        st.button(
            "Retry" if again else "Scan",
            on_click=_start,
            args=(collection, layers, precision),
            type="primary",
            key="scan",
        )


def scan_panel(collection: Collection, layers: tuple[str, ...]) -> None:
    """What reading the layers costs that have not been read yet, with a button; nothing when all have been."""
    missing = grams.missing(collection, layers)
    if not missing:
        st.caption(f"All {len(layers)} chosen layers have been read; what you do next reads no weights.")
        return
    job = grams.jobs().get(grams.job_key(collection, layers))
    ready = tuple(name for name in layers if name not in set(missing))
    supply_panel(Supply(ready, missing, job, lack=grams.room(collection, layers)), collection, layers)


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
    done = f"{bytes_text(job.bytes_done)} of {bytes_text(job.bytes_total)}" if job.bytes_total else job.message
    if job.status is JobStatus.QUEUED:
        return f"waiting for {job.ahead} other" + ("" if job.ahead == 1 else "s")
    rate = f", {bytes_text(job.bytes_per_second)}/s" if job.bytes_per_second else ""
    left = f", {_time(job.seconds_left)} left" if job.seconds_left is not None else ""
    return "stopping" if job.stopping else f"{done}{rate}{left}"


def _last(job: JobState) -> str:
    """How the last attempt ended, when some of it is missing."""
    if job.status is JobStatus.FAILED:
        return f"The last attempt stopped: {plain(job.error)}"
    if job.status is JobStatus.CANCELLED:
        return "Stopped; what was finished is kept."
    return (
        "The last scan came to its end, but some of its results were dropped since: other results filled the results "
        "folder. Raise UWS_CACHE_LIMIT and start again, or make room with the command `store prune --unused DAYS`."
    )


def _progress(key: str, collection: Collection, layers: tuple[str, ...], precision: str, shown: int) -> None:
    """One job, refreshed every second while it is under way; a whole run when it ends or more is to be shown."""
    job = grams.jobs().get(key)
    if job is None or not job.status.active:
        st.rerun()
    with st.container(border=True):
        st.progress(job.fraction, text=f"{job.title}: {job_line(job)}")
        ready = len(layers) - len(grams.missing(collection, layers, precision))
        below = f", {shown} of them shown below" if shown else ""
        st.caption(f"{ready} of {len(layers)} layers are there{below}.")
        with st.container(horizontal=True):
            st.button("Stop", on_click=_stop, args=(key,), key=f"stop.{key}")
            # Never by itself: it would move the page under a reader's hands.
            if ready > shown and st.button(f"Show {ready - shown} more", key=f"more.{key}"):
                st.rerun()


def _start(collection: Collection, layers: tuple[str, ...], precision: str) -> None:
    grams.start_scan(collection, layers, precision)


def _stop(key: str) -> None:
    grams.jobs().cancel(key)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
