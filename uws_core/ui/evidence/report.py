"""The report of the evidence page: a button, its progress with a stop, and the download when it is whole."""

from __future__ import annotations

from functools import partial

import streamlit as st

from uws_core.export import Provenance
from uws_core.nouns.models import Collection
from uws_core.nouns.query import EvidenceQuery
from uws_core.ui import page
from uws_core.ui.evidence import data


def panel(query: EvidenceQuery, collection: Collection) -> None:
    """The button that makes the report, its progress with a stop, and the download when it is whole."""
    if data.report_made(query, collection):
        st.download_button(
            "Download the report",
            partial(data.report_bytes, query, collection),
            file_name=f"{_stem(collection)}.zip",
            mime="application/zip",
            icon=":material/download:",
            key="report.save",
            on_click="ignore",
            help="One page that opens anywhere without a network, and every table as Parquet.",
        )
        return
    job = data.report_job(query, collection)
    if job is not None and job.status.active:
        st.fragment(_progress, run_every=1.0)(query, collection)
        return
    st.button(
        "Report",
        icon=":material/description:",
        key="report.start",
        on_click=_start,
        args=(query, collection),
        help="Every claim, layer, figure and definition as one page that opens without the app, and the tables.",
    )
    if job is not None and job.error:
        st.caption(f"The last attempt stopped: {page.plain(job.error)}")


def _progress(query: EvidenceQuery, collection: Collection) -> None:
    job = data.report_job(query, collection)
    if job is None or not job.status.active:
        st.rerun()
    with st.container(border=True):
        st.progress(job.fraction, text=f"{job.title}: {'stopping' if job.stopping else job.message}")
        st.button("Stop", on_click=_stop, args=(job.key,), key="report.stop")


def _start(query: EvidenceQuery, collection: Collection) -> None:
    data.start_report(query, collection)


def _stop(key: str) -> None:
    data.stop(key)


def _stem(collection: Collection) -> str:
    return Provenance(f"report {collection.name}", "", "", "", (), ()).stem
