"""The way to the pair page from pages that show pairs."""

from __future__ import annotations

import streamlit as st

from uws_core.ui import state
from uws_core.ui.angles.controls import look_at


def offer(left: str, right: str, *, key: str) -> None:
    """A button that opens the pair page on two models; their names are in its address."""
    if st.button("Both models, layer by layer", key=key, icon=":material/compare:"):
        look_at(left, right)
        state.open_page("pair")
