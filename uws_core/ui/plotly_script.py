"""Plotly's own script in the browser: where it is served, and its loading before the first figure is there.

The browser takes a second for 4.7 MB of script; a new server takes more than one to make the first figure. Asked for at
once, the script is there when the figure comes.
"""

from __future__ import annotations

from pathlib import Path

import plotly
import streamlit as st
from streamlit import runtime
from streamlit.components import v1, v2
from streamlit.delta_generator import DeltaGenerator

# Defines `plotly(address)`, the promise of the script; the texts of components begin with it.
LOADER = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_ASKED = "plotly.asked"
_mount = v2.component(
    "uws_plotly",
    js=LOADER + "export default ({ data }) => { plotly(data.library).catch(() => {}) }\n",
    isolate_styles=False,
)


def ask() -> DeltaGenerator:
    """Lets the browser of a new session fetch the script now; returns the place to empty when the page is there."""
    place = st.sidebar.empty()
    if runtime.exists() and not st.session_state.get(_ASKED):
        st.session_state[_ASKED] = True
        with place:
            _mount(key=_ASKED + ".component", data={"library": address()})
    return place


@st.cache_resource(show_spinner=False)
def address() -> str:
    """The address of plotly's script, relative to the app: served from the installed package, gzipped."""
    if runtime.exists():
        v1.declare_component("plotly", path=Path(plotly.__file__).with_name("package_data"))
    return f"component/{__name__}.plotly/plotly.min.js"
