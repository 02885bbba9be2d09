"""The one component that draws figures in the browser, with plotly's own script and without remounting.

`st.plotly_chart` gives a changed figure a new identity, so the browser throws it away and zoom and legend choice are
lost; three figures cost 300 ms instead of 144. This component keeps its node and calls `Plotly.react`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import plotly
import plotly.graph_objects as go
import streamlit as st
from plotly.io._json import to_json_plotly
from streamlit import runtime
from streamlit.components import v1, v2

from uws_core import export

CONFIG = {
    **export.PLOTLY_CONFIG,
    "displayModeBar": "hover",
    # The button that saves the figure is the component's own: its file name changes with the figure.
    "modeBarButtonsToRemove": ["toImage", "select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}
_HERE = Path(__file__)
_CSS = ".uws-figure { width: 100%; } .uws-figure:fullscreen { background: var(--st-background-color); }"
_mount = v2.component(
    "uws_figure",
    js=_HERE.with_suffix(".js").read_text(encoding="utf-8"),
    css=_CSS,
    # plotly puts its styles into the document's head.
    isolate_styles=False,
)


def draw(
    figure: go.Figure,
    *,
    key: str,
    alt: str,
    filename: str,
    revision: str,
    on_select: Callable[[], None] | None = None,
) -> None:
    """Draws a figure; zoom and legend choice stay while `revision` is the same, on equal kinds of axes.

    The browser saves the figure as `filename`.svg. `on_select` runs when a point is clicked;
    `st.session_state[key]["selection"]["points"]` then tells its x, y, curve_number, point_index and customdata.
    """
    settings = {
        "key": key,
        "alt": alt,
        "config": CONFIG,
        "filename": filename,
        "revision": revision,
        "clickable": on_select is not None,
        "dark": st.context.theme.type == "dark",
        "library": _library(),
    }
    # Bytes go to the browser as they are; a dict would be scanned and dumped twice. Charts made no invalid figure.
    data = f'{{"figure":{to_json_plotly(figure.to_dict())},{json.dumps(settings)[1:]}'.encode()
    _mount(key=key, data=data, on_selection_change=on_select or _ignore)


@st.cache_resource(show_spinner=False)
def _library() -> str:
    """The address of plotly's script, relative to the app: served from the installed package, gzipped."""
    if runtime.exists():
        v1.declare_component("plotly", path=Path(plotly.__file__).with_name("package_data"))
    return f"component/{__name__}.plotly/plotly.min.js"


def _ignore() -> None:
    """The callback of a figure without clicks: a component's trigger needs one."""
