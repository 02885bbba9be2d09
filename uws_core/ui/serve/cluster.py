"""The Dask cluster that the jobs of this server use, if any: everybody's, like the jobs."""

from __future__ import annotations

import re

import streamlit as st

from uws_core import cluster
from uws_core.cluster import ClusterState
from uws_core.errors import ClusterError

# Whoever opens the page may send jobs there; what another machine answers is unpickled here, so it must be trusted.
_LOOPBACK = re.compile(r"((tcp|tls)://)?(localhost|127(\.\d{1,3}){3}|\[::1\]):\d{1,5}/?")


def address() -> str | None:
    """Where the scheduler is; None is this machine."""
    return _setting()["address"]


def use(asked: str) -> ClusterState | None:
    """Send the next jobs to the cluster at this address, once it has been found to fit; empty is this machine.

    Raises:
        ClusterError: it is on another machine and was not named at start, or cannot be used; jobs go where they went.
    """
    place = asked.strip()
    if place and place not in _named() and not _LOOPBACK.fullmatch(place):
        raise ClusterError(
            f"{place!r} is neither on this machine nor named when this server started, and a page may choose no other; "
            "start the server with UWS_SCHEDULER set to it, or to several addresses with commas between them"
        )
    found = cluster.inspected(place) if place else None
    _setting()["address"] = found.address if found else None
    return found


@st.cache_resource(show_spinner=False)
def _named() -> tuple[str, ...]:
    return cluster.scheduler_addresses()


@st.cache_resource(show_spinner=False)
def _setting() -> dict[str, str | None]:
    return {"address": cluster.scheduler_address()}
