"""What a browser needs at once: plotly's own script, before the first figure, and a history to go back in.

The browser takes a second for 4.7 MB of script; a new server takes more than one to make the first figure. Asked for at
once, the script is there when the figure comes.
"""

from __future__ import annotations

from pathlib import Path

import plotly
import streamlit as st
from streamlit import runtime
from streamlit.components import v1, v2

# Defines `plotly(address)`, the promise of the script; the texts of components begin with it.
LOADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("history_entries.js", "plotly_script.js")
)
# Its place takes no room; it stays, because a component that goes with its run may never come to the browser.
_mount = v2.component(
    "uws_plotly",
    js=LOADER
    + """export default ({ data, parentElement }) => {
  parentElement.closest("[data-testid=stElementContainer]").style.display = "none"
  plotly(data.library).catch(() => {})
}
""",
    isolate_styles=False,
)


def ask() -> None:
    """Lets the browser fetch the script now, and keep one entry of its history for each act."""
    if runtime.exists():
        with st.sidebar:
            _mount(key="plotly", data={"library": address()})


@st.cache_resource(show_spinner=False)
def address() -> str:
    """The address of plotly's script, relative to the app: served from the installed package, gzipped."""
    if runtime.exists():
        v1.declare_component("plotly", path=Path(plotly.__file__).with_name("package_data"))
    return f"component/{__name__}.plotly/plotly.min.js"
