"""The one component that draws figures in the browser, with plotly's own script and without remounting.

`st.plotly_chart` gives a changed figure a new identity, so the browser throws it away and zoom and legend choice are
lost; three figures cost 300 ms instead of 144. This component keeps its node and calls `Plotly.react`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st
from plotly.io._json import to_json_plotly
from streamlit.components import v2

from uws_core import export
from uws_core.ui import plotly_script

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
    # One text, because an inline script has no address to import from.
    js=plotly_script.LOADER
    + "".join(
        _HERE.with_name(name).read_text(encoding="utf-8") for name in ("figure_component.js", "figure_models.js")
    ),
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
    names: Sequence[str] = (),
    on_select: Callable[[], None] | None = None,
) -> None:
    """Draws a figure; zoom and legend choice stay while `revision` is the same, on equal kinds of axes.

    A model of `names` that a point, a row, a column or a line (`meta`: one name a line) carries is marked in all
    figures of the page while the pointer is over it in one, and stays so after a click.
    The browser saves the figure as `filename`.svg. `on_select` runs when a point is clicked;
    `st.session_state[key]["selection"]["points"]` then tells its x, y, curve_number, point_index and customdata.
    """
    settings = {
        "key": key,
        "names": list(names),
        "alt": alt,
        "config": CONFIG,
        "filename": filename,
        "revision": revision,
        "clickable": on_select is not None,
        "dark": st.context.theme.type == "dark",
        "library": plotly_script.address(),
    }
    # Bytes go to the browser as they are; a dict would be scanned and dumped twice. Charts made no invalid figure.
    data = f'{{"figure":{to_json_plotly(figure.to_dict())},{json.dumps(settings)[1:]}'.encode()
    _mount(key=key, data=data, on_selection_change=on_select or _ignore)


def _ignore() -> None:
    """The callback of a figure without clicks: a component's trigger needs one."""
