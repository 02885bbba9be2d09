"""The Dask cluster that the jobs of this server use, if any: everybody's, like the jobs."""

from __future__ import annotations

import streamlit as st

from uws_core import cluster
from uws_core.cluster import ClusterState


def address() -> str | None:
    """Where the scheduler is; None is this machine."""
    return _setting()["address"]


def use(asked: str) -> ClusterState | None:
    """Send the next jobs to the cluster at this address, once it has been found to fit; empty is this machine.

    Raises:
        ClusterError: it cannot be used; jobs go where they went before.
    """
    found = cluster.inspected(asked.strip()) if asked.strip() else None
    _setting()["address"] = found.address if found else None
    return found


@st.cache_resource(show_spinner=False)
def _setting() -> dict[str, str | None]:
    return {"address": cluster.scheduler_address()}
