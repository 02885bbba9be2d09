"""Whole files of a collection on the Hub: a choice beside reading the layers that are asked for."""

from __future__ import annotations

from hashlib import sha256

import streamlit as st

from uws_core.jobs import JobStatus, Report
from uws_core.nouns.models import Collection, ModelRef
from uws_core.sources.base import on_hub
from uws_core.ui.panels import page
from uws_core.ui.panels.work import job_line
from uws_core.ui.serve.grams import jobs


def box(collection: Collection) -> None:
    """Nothing for models on this machine; else a button that downloads them whole, its progress, or what stopped it."""
    every = [*collection.refs, *([collection.base] if collection.base else [])]
    far = tuple(ref for ref in every if on_hub(ref))
    if not far:
        return
    key = f"download/{sha256(' '.join(map(str, far)).encode()).hexdigest()[:32]}"
    job = jobs().get(key)
    if job is not None and job.status.active:
        st.fragment(_progress, run_every=1.0)(key)
        return
    with st.popover("Download whole models", icon=":material/download:", key="download"):
        st.caption(
            f"Puts the whole weights of {len(far)} models into the Hub client's own cache on this machine, from where "
            "they are read then. Worth it when all layers are wanted; a single layer is read without it."
        )
        if job is not None and job.status is JobStatus.FAILED:
            page.problem(job.error)
        if job is not None and job.status is JobStatus.DONE:
            st.caption("They are here.")
        st.button("Download", key="download.start", on_click=_start, args=(key, far))


def _progress(key: str) -> None:
    job = jobs().get(key)
    if job is None or not job.status.active:
        st.rerun()
    with st.container(border=True):
        st.progress(job.fraction, text=f"{job.title}: {job.message or job_line(job)}")
        st.button("Stop", on_click=_stop, args=(key,), key=f"stop.{key}")


def _start(key: str, far: tuple[ModelRef, ...]) -> None:
    def work(report: Report) -> None:
        from uws_core.sources.hub import hub

        hub.download(far, report=report)

    jobs().submit(key, work, title=f"Downloading {len(far)} models")


def _stop(key: str) -> None:
    jobs().cancel(key)
