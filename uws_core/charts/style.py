"""How every figure looks: on a light page, on a dark page, and in print.

A chart function takes a `Theme` and builds the figure with it; nothing is patched afterwards. The colours are
those of Okabe and Ito (2008), which stay apart for every kind of colour vision; colour is never the only channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import plotly.graph_objects as go

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
    """Colours and layout for one ground: `series` begins with the accent, `ink` is text, `quiet` helping lines."""

    name: str
    series: tuple[str, ...]
    ink: str
    quiet: str
    grid: str
    band: str
    template: go.layout.Template


def _template(
    *, ink: str, quiet: str, grid: str, series: Sequence[str], ground: str, size: float
) -> go.layout.Template:
    axis: dict[str, object] = {
        "gridcolor": grid,
        "linecolor": quiet,
        "zeroline": False,
        "showline": True,
        "automargin": True,
    }
    axis |= {"ticks": "outside", "tickcolor": quiet, "ticklen": size / 3, "tickfont": {"color": ink}}
    axis["title"] = {"font": {"color": ink, "size": size}, "standoff": size / 2}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": size, "color": ink},
            "colorway": list(series),
            "paper_bgcolor": ground,
            "plot_bgcolor": ground,
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"align": "left", "font": {"family": FONT}},
            "margin": {"l": 4 * size, "r": size, "t": 1.5 * size, "b": 3.5 * size},
            # Below the figure, so that a narrow screen keeps the width for the data.
            "legend": {
                "orientation": "h",
                "yref": "paper",
                "y": -0.22,
                "x": 0,
                "yanchor": "top",
                "font": {"color": ink},
            },
        }
    )


def _theme(name: str, *, ink: str, quiet: str, grid: str, band: str, accent: str, ground: str, size: float) -> Theme:
    # Yellow hardly shows on white, so the ink, the palette's eighth colour, goes before it.
    # The accent changes places with the first, so that every other colour means the same on either ground.
    swapped = {accent: OKABE_ITO[0], OKABE_ITO[0]: accent}
    series = (*(swapped.get(colour, colour) for colour in OKABE_ITO[:-1]), ink, OKABE_ITO[-1])
    template = _template(ink=ink, quiet=quiet, grid=grid, series=series, ground=ground, size=size)
    return Theme(name=name, series=series, ink=ink, quiet=quiet, grid=grid, band=band, template=template)


_CLEAR = "rgba(0,0,0,0)"
LIGHT = _theme(
    "light", ink="#1b2126", quiet="#7b858e", grid="#e8ecef", band="rgba(123,133,142,0.25)", accent=OKABE_ITO[0],
    ground=_CLEAR, size=13,
)  # fmt: skip
DARK = _theme(
    "dark", ink="#e7ebee", quiet="#8d979f", grid="#242b32", band="rgba(150,160,170,0.28)", accent=OKABE_ITO[4],
    ground=_CLEAR, size=13,
)  # fmt: skip
PRINT = _theme(
    "print", ink="#000000", quiet="#666666", grid="#e6e6e6", band="rgba(110,110,110,0.25)", accent=OKABE_ITO[0],
    ground="#ffffff", size=PRINT_PIXELS,
)  # fmt: skip


def figure(theme: Theme, *, height: int = 380) -> go.Figure:
    """An empty figure with the template set: without one, plotly's default depends on what else was imported."""
    return go.Figure(layout={"template": theme.template, "height": height})


def stripe(
    figure: go.Figure, theme: Theme, *, x: tuple[float, float] | None = None, y: tuple[float, float] | None = None
) -> None:
    """Grey from one place to another along one axis, over all of the other.

    plotly's `add_hrect` and its like theme for subplots and take a twentieth of a second.
    """
    figure.add_shape(type="rect", fillcolor=theme.band, line={"width": 0}, layer="below", **_span(x, y))


def rule(figure: go.Figure, line: Mapping[str, object], *, x: float | None = None, y: float | None = None) -> None:
    """A line at one place of one axis, over all of the other."""
    figure.add_shape(type="line", line=line, **_span(None if x is None else (x, x), None if y is None else (y, y)))


def ceiling(figure: go.Figure, theme: Theme, most: int, *, x: float, top: bool = False) -> None:
    """The most directions these models can have, as a line down with its number along it."""
    rule(figure, {"color": theme.quiet, "width": 1, "dash": "longdash"}, x=x)
    y, end = (1, "top") if top else (0, "bottom")
    figure.add_annotation(
        text=f"at most {most}", textangle=-90, showarrow=False, x=x, xanchor="right", y=y, yref="y domain", yanchor=end
    )


def _span(x: tuple[float, float] | None, y: tuple[float, float] | None) -> dict[str, object]:
    """The corners of a shape that spans the whole of the axis that is not given."""
    (x0, x1), (y0, y1) = x or (0, 1), y or (0, 1)
    refs = {"xref": "x domain" if x is None else "x", "yref": "y domain" if y is None else "y"}
    return {"x0": x0, "x1": x1, "y0": y0, "y1": y1, **refs}


def long_legend(figure: go.Figure) -> None:
    """Make room below the axes for a legend of many entries, two in a row on the narrowest screen."""
    entries = sum(trace.showlegend is not False for trace in figure.data)
    size = figure.layout.template.layout.font.size
    below = 5 * size + 1.5 * size * ceil(entries / 2)
    figure.update_layout(
        height=20 * size + below,
        margin={"b": below},
        legend={"yref": "container", "y": 0, "yanchor": "bottom"},
    )


def colour_of(index: int, theme: Theme = LIGHT) -> str:
    """The colour of a model, group or module by its place in the collection: the same on every page."""
    return theme.series[index % len(theme.series)]


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks at 1, 2 and 5 of every decade between two shares, for a logarithmic scale, with their texts."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    every = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    # Wider scales keep the whole decades only: more would run into each other.
    kept = [value for value in every if low <= value <= high and (high / low < 300 or log10(value) % 1 == 0)]
    return kept, [percent(value) for value in kept]


def percent(share: float) -> str:
    """A share for people: two significant digits, as `12 %`, `1.2 %`, `0.012 %`."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
