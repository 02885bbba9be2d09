"""The about page: versions, device, memory, store, jobs, limits, and the fields for memory and cluster."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import streamlit as st

from uws_core import export
from uws_core.answers.wording import counted
from uws_core.errors import ClusterError, StoreError, UwsError
from uws_core.jobs import JobState
from uws_core.nouns.cost import bytes_text
from uws_core.store.codec import MATH_VERSION
from uws_core.store.results import default_store
from uws_core.ui import compute, folders, grams
from uws_core.ui.compute import loaded_torch
from uws_core.ui.page import plain

_ADDRESS, _CLUSTER_STATUS = "cluster.asked", "cluster.said"
_BUDGET = "budget.mebibytes"


def versions() -> pl.DataFrame:
    """One row a package that makes the numbers, and the version of the mathematics."""
    versions = {"form of stored results": str(MATH_VERSION), **export.versions()}
    return pl.DataFrame({"name": list(versions), "version": list(versions.values())})


def machine() -> dict[str, str]:
    """Where passes run and how much memory there is, in words."""
    return {
        "Device": _device(),
        "Processor cores": str(os.cpu_count() or 1),
        "Memory of the machine": _memory("MemTotal"),
        "Memory available": _memory("MemAvailable"),
        "Printed figures": export.print_obstacle() or "PDF, SVG and PNG can be made here",
    }


def memory() -> dict[str, str]:
    """How much memory this machine has, and how much of it is free, in words."""
    return {"machine": _memory("MemTotal"), "free": _memory("MemAvailable")}


def storage() -> dict[str, str]:
    """Where results are kept, how many, and up to how much; a repair is told."""
    try:
        store = default_store()
        stats = store.stats()
    except StoreError as error:
        return {"Store": str(error)}
    facts = {
        "Folder": str(stats.path),
        "Results": f"{stats.entries} stored, {bytes_text(stats.bytes)} of at most {bytes_text(stats.limit)}",
    }
    return facts | ({"Repaired": store.notice} if store.notice else {})


def hub() -> dict[str, str]:
    """Which Hub is read, as whom, and what of it is kept; the token itself is never shown."""
    from uws_core.sources.hub.hub import KEEP_VARIABLE, client, range_cache

    facts = {
        "Address": client().endpoint,
        "Token": "set in HF_TOKEN; whoever opens this app reads with it" if client().token_or_no else "none",
    }
    try:
        slices = range_cache()
    except UwsError as error:
        return facts | {"Parts of files kept": str(error)}
    if slices is None:
        return facts | {"Parts of files kept": f"none, as {KEEP_VARIABLE} says"}
    kept = f"{bytes_text(slices.bytes_kept())} of at most {bytes_text(slices.limit)} in {slices.folder}"
    return facts | {"Parts of files kept": kept}


def limits() -> dict[str, str]:
    """What this server allows itself."""
    return {
        "Folders that can be opened": ", ".join(str(root) for root in folders.roots()),
        "Reading that a page waits for": f"up to about {grams.INLINE_SECONDS:.0f} s; longer is done beside it",
        "Reading that asks first": f"of more than about {grams.ASK_SECONDS:.0f} s",
        "Jobs at a time": "1 long and 1 short, the others wait in line",
    }


def jobs() -> pl.DataFrame:
    """One row a remembered job, the latest first."""
    rows = [_row(job) for job in grams.jobs().jobs()]
    schema = {"job": pl.String, "status": pl.String, "done": pl.Float64, "seconds": pl.Float64, "error": pl.String}
    return pl.DataFrame(rows, schema=schema)


def cluster_field() -> None:
    """A field for the scheduler's address; a cluster is checked before any job goes there."""
    st.subheader("Cluster", anchor=False)
    st.session_state.setdefault(_ADDRESS, compute.scheduler() or "")
    with st.form("cluster", border=False):
        address = st.text_input(
            "Dask scheduler",
            key=_ADDRESS,
            placeholder="tcp://host:8786; empty for this machine",
            help="Jobs that start from now on run there, for everybody on this server. Workers need this project and "
            "must see the models under the same paths. Schedulers on other machines are those that UWS_SCHEDULER names "
            "when the server starts.",
            max_chars=200,
        )
        if st.form_submit_button("Use"):
            with st.spinner("Asking the cluster"):
                st.session_state[_CLUSTER_STATUS] = _use_cluster(address)
    status = st.session_state.get(_CLUSTER_STATUS)
    st.caption(plain(status or f"Jobs run {_where_jobs_run()}."))


def budget_field(machine: str, free: str) -> None:
    """A field for the memory budget beside what the machine has; reading that starts later keeps to it."""
    st.subheader("Memory budget", anchor=False)
    if trouble := compute.budget_problem():
        st.warning(plain(trouble))
    # Somebody else may have changed it since this session looked.
    st.session_state[_BUDGET] = compute.budget_mebibytes()
    st.number_input(
        "Weights held at once, MiB",
        min_value=1,
        max_value=compute.most_mebibytes(),
        step=64,
        key=_BUDGET,
        on_change=_use_budget,
        help="One row of a layer of all models must fit twice. Reading that starts from now on keeps to it, for "
        "everybody on this server; UWS_BUDGET sets it when the server starts.",
    )
    st.caption(
        plain(f"This machine has {machine} of memory, {free} of it free. A larger budget does not make scans faster.")
    )


def _row(job: JobState) -> dict[str, object]:
    return {
        "job": job.title,
        "status": job.status.value,
        "done": job.fraction,
        "seconds": round(job.seconds_spent, 1),
        "error": job.error,
    }


def _device() -> str:
    torch = loaded_torch()
    if torch is None:
        return "not asked yet: nothing was read since the server started"
    return (
        str(torch.cuda.get_device_name())
        if torch.cuda.is_available()
        else f"cpu, {counted(torch.get_num_threads(), 'thread')}"
    )


def _memory(field: str) -> str:
    """A line of Linux's memory table; unknown elsewhere."""
    table = Path("/proc/meminfo")
    if not table.is_file():
        return "unknown on this system"
    found = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines() if ":" in line)
    return bytes_text(int(found[field].split()[0]) * 1024) if field in found else "unknown on this system"


def _use_cluster(address: str) -> str:
    try:
        cluster = compute.use_scheduler(address)
    except ClusterError as error:
        return f"{error}. Jobs run {_where_jobs_run()}."
    if cluster is None:
        return "Jobs run on this machine."
    return f"Jobs run on {cluster.address}: {cluster.workers} workers, {cluster.threads} threads."


def _where_jobs_run() -> str:
    return f"on {compute.scheduler()}" if compute.scheduler() else "on this machine"


def _use_budget() -> None:
    compute.set_budget(int(st.session_state[_BUDGET]))
