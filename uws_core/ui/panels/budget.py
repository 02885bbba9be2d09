"""How much memory reading may take, and the field to change it."""

from __future__ import annotations

import streamlit as st

from uws_core.ui import compute
from uws_core.ui.page import plain

_KEY = "budget.mebibytes"


def show(machine: str, free: str) -> None:
    """A field for the memory budget beside what the machine has; reading that starts later keeps to it."""
    st.subheader("Memory budget", anchor=False)
    if said := compute.budget_problem():
        st.warning(plain(said))
    # Somebody else may have changed it since this session looked.
    st.session_state[_KEY] = compute.budget_mebibytes()
    st.number_input(
        "Weights held at once, MiB",
        min_value=1,
        max_value=compute.most_mebibytes(),
        step=64,
        key=_KEY,
        on_change=_use,
        help="One row of a layer of all models must fit twice. Reading that starts from now on keeps to it, for "
        "everybody on this server; UWS_BUDGET sets it when the server starts.",
    )
    st.caption(plain(f"This machine has {machine} of memory, {free} of it free. More than is needed brings no speed."))


def _use() -> None:
    compute.set_budget(int(st.session_state[_KEY]))
