"""Themes of figures (light page, dark page, print) and drawing helpers.

A chart function takes a `Theme` and builds the figure with it. The colours are those of Okabe and Ito (2008), which are
distinct for every kind of colour vision; colour is never the only channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, log10

# plotly takes these two from `sys.modules` for every value, also half imported by another thread: of eight pages opened
# at once on a new server, some then failed with "partially initialized module 'pandas'". An import waits for theirs.
import numpy  # noqa: F401
import pandas  # noqa: F401
import plotly.graph_objects as go

from uws_core.charts.plain import PlainFigure, parts_of

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
# Angles, ranks and counts: dark to light in equal steps of brightness, also in grey print.
SEQUENTIAL = "cividis"
# Numbers with a meaningful zero.
DIVERGING = "RdBu_r"
FONT = "Source Sans, Source Sans Pro, Helvetica, Arial, sans-serif"
# Column widths of journals, in millimetres.
PRINT_MM = (89, 120, 183)
# Journals ask for at least 7 pt at final size; a CSS pixel is 1/96 inch and a point 1/72.
PRINT_PIXELS = 7 / 72 * 96


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours and layout for one background: `series` starts with the accent, `ink` is text, `quiet` guide lines.

    `page` is what lies behind a figure, which is transparent on a page.
    """

    name: str
    series: tuple[str, ...]
    ink: str
    quiet: str
    grid: str
    band: str
    page: str
    template: go.layout.Template


def _theme(name: str, *, ink: str, quiet: str, grid: str, band: str, page: str) -> Theme:
    size, ground = (PRINT_PIXELS, page) if name == "print" else (13, "rgba(0,0,0,0)")
    # Blue is too dark on a dark ground: there sky blue is the accent and takes the place of blue.
    swapped = {OKABE_ITO[0]: OKABE_ITO[4], OKABE_ITO[4]: OKABE_ITO[0]} if name == "dark" else {}
    # Yellow is faint on white, so the ink, the palette's eighth colour, goes before it.
    series = (*(swapped.get(colour, colour) for colour in OKABE_ITO[:-1]), ink, OKABE_ITO[-1])
    axis = {
        "gridcolor": grid,
        "linecolor": quiet,
        "zeroline": False,
        "showline": True,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": quiet,
        "ticklen": size / 3,
        "tickfont": {"color": ink},
        "title": {"font": {"color": ink, "size": size}, "standoff": size / 2},
    }
    # The legend is below the figure, so that a narrow screen keeps its width for the data.
    legend = {"orientation": "h", "yref": "paper", "y": -0.22, "x": 0, "yanchor": "top", "font": {"color": ink}}
    template = go.layout.Template(
        layout={
            "font": {"family": FONT, "size": size, "color": ink},
            "colorway": list(series),
            "paper_bgcolor": ground,
            "plot_bgcolor": ground,
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"align": "left", "font": {"family": FONT}},
            "margin": {"l": 4 * size, "r": size, "t": 1.5 * size, "b": 3.5 * size},
            "legend": legend,
        }
    )
    return Theme(name=name, series=series, ink=ink, quiet=quiet, grid=grid, band=band, page=page, template=template)


LIGHT = _theme("light", ink="#1b2126", quiet="#7b858e", grid="#e8ecef", band="rgba(123,133,142,0.25)", page="#ffffff")
DARK = _theme("dark", ink="#e7ebee", quiet="#8d979f", grid="#242b32", band="rgba(150,160,170,0.28)", page="#101418")
PRINT = _theme("print", ink="#000000", quiet="#666666", grid="#e6e6e6", band="rgba(110,110,110,0.25)", page="#ffffff")


def figure(theme: Theme, *, height: int = 380) -> PlainFigure:
    """An empty figure with the theme's template; plotly's default template depends on what else was imported."""
    return PlainFigure({"template": theme.template, "height": height})


def stripe(
    figure: go.Figure, theme: Theme, *, x: tuple[float, float] | None = None, y: tuple[float, float] | None = None
) -> None:
    """Adds a grey band between two values of one axis, across the whole other axis.

    plotly's `add_hrect` searches for subplots and takes 50 ms.
    """
    figure.add_shape(type="rect", fillcolor=theme.band, line={"width": 0}, layer="below", **_span(x, y))


def rule(
    figure: go.Figure,
    line: Mapping[str, object],
    *,
    x: float | None = None,
    y: float | None = None,
    name: str | None = None,
) -> None:
    """Adds a line at one value of one axis, across the whole other axis; a slider moves it by its `name`."""
    figure.add_shape(
        type="line", name=name, line=line, **_span(None if x is None else (x, x), None if y is None else (y, y))
    )


def ceiling(figure: go.Figure, theme: Theme, most: int, *, x: float, top: bool = False) -> None:
    """Adds a vertical line at the largest number of directions these models can have, with its number."""
    rule(figure, {"color": theme.quiet, "width": 1, "dash": "longdash"}, x=x)
    y, end = (1, "top") if top else (0, "bottom")
    figure.add_annotation(
        text=f"at most {most}", textangle=-90, showarrow=False, x=x, xanchor="right", y=y, yref="y domain", yanchor=end
    )


def _span(x: tuple[float, float] | None, y: tuple[float, float] | None) -> dict[str, object]:
    """The corners of a shape that spans the whole axis that is None."""
    (x0, x1), (y0, y1) = x or (0, 1), y or (0, 1)
    refs = {"xref": "x domain" if x is None else "x", "yref": "y domain" if y is None else "y"}
    return {"x0": x0, "x1": x1, "y0": y0, "y1": y1, **refs}


def long_legend(figure: go.Figure) -> None:
    """Makes room below the axes for a long legend; on the narrowest screen two entries fit in a row."""
    parts = parts_of(figure)
    entries = sum(trace.get("showlegend") is not False for trace in parts["data"])
    size = parts["layout"]["template"]["layout"]["font"]["size"]
    below = 5 * size + 1.5 * size * ceil(entries / 2)
    figure.update_layout(
        height=20 * size + below,
        margin={"b": below},
        legend={"yref": "container", "y": 0, "yanchor": "bottom"},
    )


def colour_of(index: int, theme: Theme = LIGHT) -> str:
    """The colour of a model, group or module by its index in the collection: the same on every page."""
    return theme.series[index % len(theme.series)]


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks at 1, 2 and 5 of every decade between two shares, with their labels."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    candidates = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    # On wide scales only whole decades: more labels would overlap.
    ticks = [value for value in candidates if low <= value <= high and (high / low < 300 or log10(value) % 1 == 0)]
    return ticks, [percent(value) for value in ticks]


def percent(share: float) -> str:
    """A share as text with two significant digits: `12 %`, `1.2 %`, `0.012 %`."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
