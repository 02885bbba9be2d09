"""The whole network as a heatmap: one cell a layer, depth across, module up, coloured by one number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.arrays import Floats

# With more cells, numbers do not fit.
MOST_NUMBERS = 300
OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Measure:
    """The number that colours a cell: a column of the overview frame, its title on the colour bar, and its format."""

    column: str
    title: str
    form: str
    diverging: bool = False


RANK = Measure("rank", "rank", ".0f")
EFFECTIVE_RANK = Measure("effective_rank", "effective rank", ".1f")
Z = Measure("z", "z against noise", ".0f", diverging=True)


def overview(
    frame: pl.DataFrame, *, measure: Measure = RANK, chosen: str | None = None, theme: Theme = LIGHT
) -> go.Figure:
    """A heatmap of layers, blocks from left to right; layers outside any block share the last column.

    `frame` has one row a layer (`layer`, `short`, `depth`, `module` and the measure's column); unknown numbers are left
    blank. `chosen` is the layer that gets a frame. Every cell carries its layer's name as custom data.
    """
    # The row of each layer: its module, or its full name with a star for the block where modules collide.
    cells = list(zip(frame["depth"], frame["module"], strict=True))
    if len(set(cells)) == len(cells):
        rows = frame["module"].to_list()
    else:
        starred = (re.sub(r"(^|\.)\d+\.", r"\1*.", name, count=1) for name in frame["layer"])
        rows = [name.removesuffix(".weight") for name in starred]
    up = list(dict.fromkeys(rows))
    depths = set(frame["depth"].to_list())
    # Layers outside any block share the last column.
    columns = [*sorted(depth for depth in depths if depth is not None), *([None] if None in depths else [])]
    across = [OUTSIDE if depth is None else str(depth) for depth in columns]
    cells = [(columns.index(depth), up.index(row)) for depth, row in zip(frame["depth"], rows, strict=True)]
    values = np.full((len(up), len(across)), np.nan)
    for (x, y), value in zip(cells, frame[measure.column], strict=True):
        values[y, x] = np.nan if value is None else value
    figure = style.figure(theme, height=120 + 30 * len(up))
    figure.add_heatmap(
        z=values,
        x=across,
        y=up,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
        texttemplate=f"%{{z:{measure.form}}}" if values.size <= MOST_NUMBERS else None,
        **_colours(values, measure, theme),
    )
    _targets(figure, frame, [(across[x], up[y]) for x, y in cells], measure, theme)
    cell = dict(zip(frame["layer"], cells, strict=True)).get(chosen or "")
    if cell is not None:
        corners = {"x0": cell[0] - 0.5, "x1": cell[0] + 0.5, "y0": cell[1] - 0.5, "y1": cell[1] + 0.5}
        figure.add_shape(type="rect", line={"color": theme.ink, "width": 2.5}, **corners)
    figure.update_xaxes(title_text="block", type="category", showgrid=False, ticks="", categoryarray=across)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="", categoryarray=up)
    figure.update_layout(showlegend=False, clickmode="event+select", dragmode=False)
    return figure


def _colours(values: Floats, measure: Measure, theme: Theme) -> dict[str, object]:
    bar = {
        "title": {"text": measure.title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "tickcolor": theme.quiet,
    }
    if not measure.diverging:
        return {"colorscale": style.SEQUENTIAL, "colorbar": bar}
    most = float(np.nanmax(np.abs(values), initial=1.0))
    return {"colorscale": style.DIVERGING, "zmin": -most, "zmax": most, "colorbar": bar}


def _targets(
    figure: go.Figure, frame: pl.DataFrame, cells: Sequence[tuple[str, str]], measure: Measure, theme: Theme
) -> None:
    """Adds invisible marks on the cells, because a heatmap itself cannot be selected."""
    words = [
        f"{short}<br>{measure.title}: " + ("not computed" if value is None else format(value, measure.form))
        for short, value in zip(frame["short"], frame[measure.column], strict=True)
    ]
    figure.add_scatter(
        x=[x for x, _ in cells],
        y=[y for _, y in cells],
        mode="markers",
        marker={"symbol": "square", "size": 24, "opacity": 0, "color": theme.quiet},
        customdata=frame["layer"].to_list(),
        text=words,
        hovertemplate="%{text}<extra></extra>",
    )
