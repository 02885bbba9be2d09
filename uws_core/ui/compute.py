"""Where this server computes and with how much memory: its device, its budget, its cluster. They are everybody's."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import streamlit as st

from uws_core import cluster
from uws_core.cluster import ClusterState
from uws_core.errors import BudgetError, ClusterError
from uws_core.nouns.cost import BUDGET
from uws_core.passes.options import ComputeOptions, default_budget, machine_memory, set_default_budget

MIB = 2**20
# Whoever opens the page may send jobs there; what another machine answers is unpickled here, so it must be trusted.
_LOOPBACK = re.compile(r"((tcp|tls)://)?(localhost|127(\.\d{1,3}){3}|\[::1\]):\d{1,5}/?")


def device() -> str:
    """`cpu`, or the name of the CUDA device; `cpu` too while nothing was computed yet, as torch is not loaded then."""
    torch = loaded_torch()
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    return str(torch.cuda.get_device_name())


def loaded_torch() -> ModuleType | None:
    """torch when it has been loaded to its end; a job's thread may be in the middle of loading it."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch


def options(precision: str = "auto") -> ComputeOptions:
    """How passes of this server run; a `UWS_BUDGET` that is no amount stands for the usual one."""
    try:
        return ComputeOptions(precision=precision)
    except BudgetError:
        return ComputeOptions(precision=precision, budget=BUDGET)


def budget_problem() -> str:
    """What is wrong with `UWS_BUDGET`, if anything."""
    try:
        default_budget()
    except BudgetError as error:
        return f"{error}. Until then 256 MiB are used."
    return ""


def budget_mebibytes() -> int:
    """The budget in whole MiB, at least one."""
    return max(options().budget // MIB, 1)


def most_mebibytes() -> int:
    """The MiB of memory this machine has, or more than any has where it does not tell."""
    there = machine_memory()
    return 2**24 if there is None else max(there // MIB, budget_mebibytes())


def set_budget(mebibytes: int) -> None:
    """Passes that start from now on take so many MiB, until the server ends."""
    set_default_budget(mebibytes * MIB)


def scheduler() -> str | None:
    """The address of the Dask scheduler that jobs go to; None is this machine."""
    return _setting()["address"]


def use_scheduler(text: str) -> ClusterState | None:
    """Send the next jobs to the cluster at this address, once it has been found to fit; empty is this machine.

    Raises:
        ClusterError: it is on another machine and was not named at start, or cannot be used; jobs go where they went.
    """
    address = text.strip()
    if address and address not in _named() and not _LOOPBACK.fullmatch(address):
        raise ClusterError(
            f"{address!r} is neither on this machine nor named when this server started, and a page may choose no "
            "other; start the server with UWS_SCHEDULER set to it, or to several addresses with commas between them"
        )
    state = cluster.inspected(address) if address else None
    _setting()["address"] = state.address if state else None
    return state


@st.cache_resource(show_spinner=False)
def _named() -> tuple[str, ...]:
    return cluster.scheduler_addresses()


@st.cache_resource(show_spinner=False)
def _setting() -> dict[str, str | None]:
    return {"address": cluster.scheduler_address()}
