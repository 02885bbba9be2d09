"""Where jobs run, and the field to send them to a cluster."""

from __future__ import annotations

import streamlit as st

from uws_core.errors import ClusterError
from uws_core.ui import compute
from uws_core.ui.page import plain

_ASKED, _SAID = "cluster.asked", "cluster.said"


def show() -> None:
    """A field for the scheduler's address; a cluster is checked before any job goes there."""
    st.subheader("Cluster", anchor=False)
    st.session_state.setdefault(_ASKED, compute.scheduler() or "")
    with st.form("cluster", border=False):
        asked = st.text_input(
            "Dask scheduler",
            key=_ASKED,
            placeholder="tcp://host:8786; empty for this machine",
            help="Jobs that start from now on run there, for everybody on this server. Workers need this project and "
            "must see the models under the same paths. Schedulers on other machines are those that UWS_SCHEDULER names "
            "when the server starts.",
            max_chars=200,
        )
        if st.form_submit_button("Use"):
            with st.spinner("Asking the cluster"):
                st.session_state[_SAID] = _use(asked)
    said = st.session_state.get(_SAID)
    st.caption(plain(said or f"Jobs run {f'on {compute.scheduler()}' if compute.scheduler() else 'on this machine'}."))


def _use(asked: str) -> str:
    try:
        found = compute.use_scheduler(asked)
    except ClusterError as error:
        return f"{error}. Jobs run {f'on {compute.scheduler()}' if compute.scheduler() else 'on this machine'}."
    if found is None:
        return "Jobs run on this machine."
    return f"Jobs run on {found.address}: {found.workers} workers, {found.threads} threads."
