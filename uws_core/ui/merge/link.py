"""The way to the merge page from pages that found who may be merged."""

from __future__ import annotations

import streamlit as st

from uws_core.ui import state


def offer(label: str, members: tuple[str, ...], *, key: str, why: str = "") -> None:
    """A button that chooses these models, named as tokens, and opens the merge page; `why` says why it is of no use."""
    if st.button(label, key=key, icon=":material/merge:", disabled=bool(why), help=why or None):
        # All of them: who is chosen is the choice.
        st.session_state["take"] = "all"
        state.open_page("merge", members=members)
