"""Whole files of a collection on the Hub: a choice beside reading the layers that are asked for."""

from __future__ import annotations

from hashlib import sha256

import streamlit as st

from uws_core.jobs import JobStatus, Report
from uws_core.nouns.models import Collection, ModelRef
from uws_core.sources.base import on_hub
from uws_core.ui import job_panel, page
from uws_core.ui.grams import jobs


def box(collection: Collection) -> None:
    """Nothing for models on this machine; else a button that downloads them whole, its progress, or what stopped it."""
    every = [*collection.refs, *([collection.base] if collection.base else [])]
    far = tuple(ref for ref in every if on_hub(ref))
    if not far:
        return
    key = f"download/{sha256(' '.join(map(str, far)).encode()).hexdigest()[:32]}"
    job = jobs().get(key)
    if job is not None and job.status.active:
        job_panel.progress(key, text=lambda job: job.message or job_panel.job_line(job))
        return
    with st.popover("Download whole models", icon=":material/download:", key="download"):
        st.caption(
            f"Puts the whole weights of {len(far)} models into the Hub client's own cache on this machine, from where "
            "they are read then. Worth it when all layers are wanted; a single layer is read without it."
        )
        if job is not None and job.status is JobStatus.FAILED:
            page.problem(job.error)
        if job is not None and job.status is JobStatus.DONE:
            st.caption("Download complete.")
        st.button("Download", key="download.start", on_click=_start, args=(key, far))


def _start(key: str, far: tuple[ModelRef, ...]) -> None:
    def work(report: Report) -> None:
        from uws_core.sources.hub import hub

        hub.download(far, report=report)

    jobs().submit(key, work, title=f"Downloading {len(far)} models")
