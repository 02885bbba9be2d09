"""The running sums of the three axes of one layer in one figure."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import DASHES, LIGHT, SYMBOLS, Theme


def curves(frame: pl.DataFrame, *, share: float, theme: Theme = LIGHT) -> go.Figure:
    """The share carried by the first directions of each axis; `frame` is `frames.hosvd.curves`."""
    figure = style.figure(theme)
    for index, axis in enumerate(frame["axis"].unique(maintain_order=True)):
        line = frame.filter(pl.col("axis") == axis)
        figure.add_scatter(
            x=line["direction"].to_numpy(),
            y=line["cumulative"].to_numpy(),
            mode="lines+markers",
            name=axis,
            line={"color": style.colour_of(index, theme), "dash": DASHES[index]},
            marker={"symbol": SYMBOLS[index], "size": 5},
        )
    style.rule(figure, {"color": theme.quiet, "dash": "dot", "width": 1}, y=share)
    figure.update_xaxes(title="directions kept on the axis")
    figure.update_yaxes(title="share of the variance carried", range=[0, 1.02], tickformat=".0%")
    return figure
