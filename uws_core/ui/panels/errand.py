"""An errand that is not done yet: what it costs, how far it is, and how to stop it."""

from __future__ import annotations

import streamlit as st

from uws_core.jobs import JobStatus
from uws_core.nouns.sizes import bytes_text
from uws_core.ui.panels.page import plain, problem
from uws_core.ui.panels.work import job_line
from uws_core.ui.serve import errands
from uws_core.ui.serve.errands import Attended, Errand
from uws_core.ui.serve.grams import jobs


def panel(errand: Errand, attended: Attended) -> bool:
    """Whether the errand is done; if not, its price with a button, its progress with a stop, or what went wrong."""
    if attended.done:
        return True
    if attended.problem:
        problem(attended.problem)
        # The run that a click brings tries again.
        st.button("Retry", key=f"retry.{errand.key}")
        return False
    job = attended.job
    if job is not None and job.status.active:
        st.fragment(_progress, run_every=1.0)(job.key)
        return False
    with st.container(border=True):
        moves = f"moves {bytes_text(errand.bytes)} and " if errand.bytes else ""
        st.markdown(f"{errand.title} {moves}takes about {_time(errand.seconds)} on a modest machine.")
        if job is not None and job.status is JobStatus.FAILED:
            st.caption(f"The last attempt stopped: {plain(job.error)}")
            st.button("Retry", on_click=_retry, args=(errand,), type="primary", key=f"retry.{errand.key}")
            return False
        if job is not None and job.status is JobStatus.CANCELLED:
            st.caption("Stopped; what was finished is kept.")
        st.button("Compute", on_click=_start, args=(errand,), type="primary", key=f"start.{errand.key}")
    return False


def _progress(key: str) -> None:
    """One job, refreshed every second while it is under way; a whole run when it ends."""
    job = jobs().get(key)
    if job is None or not job.status.active:
        st.rerun()
    with st.container(border=True):
        st.progress(job.fraction, text=f"{job.title}: {job_line(job)}")
        st.button("Stop", on_click=_stop, args=(key,), key=f"stop.{key}")


def _start(errand: Errand) -> None:
    errands.start(errand)


def _retry(errand: Errand) -> None:
    errands.retry(errand)


def _stop(key: str) -> None:
    jobs().cancel(key)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
