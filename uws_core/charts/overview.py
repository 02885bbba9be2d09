"""The whole network at one glance: a cell a layer, depth across, module up, coloured by one number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Look
from uws_core.nouns.arrays import Floats

# More cells than this have no room for their number.
MOST_NUMBERS = 300
OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a cell's colour says: a column of the overview frame, its name on the colour bar, and how it is written."""

    column: str
    title: str
    form: str
    diverging: bool = False


RANK = Measure("rank", "rank", ".0f")
EFFECTIVE_RANK = Measure("effective_rank", "effective rank", ".1f")
Z = Measure("z", "z against noise", ".0f", diverging=True)


def overview(
    frame: pl.DataFrame, *, measure: Measure = RANK, chosen: str | None = None, look: Look = LIGHT
) -> go.Figure:
    """A heatmap of layers, blocks from left to right; layers outside any block stand in a column of their own.

    `frame` has one row a layer (`layer`, `short`, `depth`, `module` and the measure's column); rows without the
    number are left blank. `chosen` is the layer that gets a frame. Every cell carries its layer's name as custom data.
    """
    rows = _rows(frame)
    up = list(dict.fromkeys(rows))
    columns = _columns(frame)
    across = [OUTSIDE if depth is None else str(depth) for depth in columns]
    cells = [(columns.index(depth), up.index(row)) for depth, row in zip(frame["depth"], rows, strict=True)]
    values = np.full((len(up), len(across)), np.nan)
    for (x, y), value in zip(cells, frame[measure.column], strict=True):
        values[y, x] = np.nan if value is None else value
    drawn = style.figure(look, height=120 + 30 * len(up))
    drawn.add_heatmap(z=values, x=across, y=up, xgap=2, ygap=2, hoverinfo="skip", **_colours(values, measure, look))
    if values.size <= MOST_NUMBERS:
        drawn.data[-1].texttemplate = f"%{{z:{measure.form}}}"
    _targets(drawn, frame, [(across[x], up[y]) for x, y in cells], measure, look)
    _chosen(drawn, dict(zip(frame["layer"], cells, strict=True)).get(chosen or ""), look)
    drawn.update_xaxes(title_text="block", type="category", showgrid=False, ticks="", categoryarray=across)
    drawn.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="", categoryarray=up)
    drawn.update_layout(showlegend=False, clickmode="event+select", dragmode=False)
    return drawn


def _rows(frame: pl.DataFrame) -> list[str]:
    """The row of each layer: its module, or its whole name with a star for the block where modules alone collide."""
    places = list(zip(frame["depth"], frame["module"], strict=True))
    if len(set(places)) == len(places):
        return frame["module"].to_list()
    starred = (re.sub(r"(^|\.)\d+\.", r"\1*.", name, count=1) for name in frame["layer"])
    return [name.removesuffix(".weight") for name in starred]


def _columns(frame: pl.DataFrame) -> list[int | None]:
    """The blocks in order, and None last when some layer stands outside."""
    depths = set(frame["depth"].to_list())
    return [*sorted(depth for depth in depths if depth is not None), *([None] if None in depths else [])]


def _colours(values: Floats, measure: Measure, look: Look) -> dict[str, object]:
    bar = {
        "title": {"text": measure.title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "tickcolor": look.quiet,
    }
    if not measure.diverging:
        return {"colorscale": style.SEQUENTIAL, "colorbar": bar}
    most = float(np.nanmax(np.abs(values), initial=1.0))
    return {"colorscale": style.DIVERGING, "zmin": -most, "zmax": most, "colorbar": bar}


def _targets(
    drawn: go.Figure, frame: pl.DataFrame, cells: Sequence[tuple[str, str]], measure: Measure, look: Look
) -> None:
    """Invisible marks on the cells: a heatmap itself cannot be selected."""
    words = [
        f"{short}<br>{measure.title}: " + ("not computed" if value is None else format(value, measure.form))
        for short, value in zip(frame["short"], frame[measure.column], strict=True)
    ]
    drawn.add_scatter(
        x=[x for x, _ in cells],
        y=[y for _, y in cells],
        mode="markers",
        marker={"symbol": "square", "size": 24, "opacity": 0, "color": look.quiet},
        customdata=frame["layer"].to_list(),
        text=words,
        hovertemplate="%{text}<extra></extra>",
    )


def _chosen(drawn: go.Figure, cell: tuple[int, int] | None, look: Look) -> None:
    """A frame around the chosen layer's cell."""
    if cell is None:
        return
    x, y = cell
    line = {"color": look.ink, "width": 2.5}
    drawn.add_shape(type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line=line)
