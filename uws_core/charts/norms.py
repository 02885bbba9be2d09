"""The norms of the models: one mark a model, ascending, with the range of most models."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme

# A wider range of norms (largest / smallest) gets a logarithmic scale.
_WIDE = 20.0


def norm_strips(frame: pl.DataFrame, *, axis_name: str = "norm", theme: Theme = LIGHT) -> go.Figure:
    """The models' norms, ascending, over the band from their 10 % to their 90 % quantile; outliers are crosses.

    `frame` is `frames.lineage.models`; the columns `model`, `norm` and `suspicion` are used.
    """
    figure = style.figure(theme, height=320)
    ordered = frame.sort("norm").with_row_index("rank", offset=1)
    norms = ordered["norm"].to_numpy()
    low, high = (float(np.quantile(norms, share)) for share in (0.1, 0.9))
    style.stripe(figure, theme, y=(low, high))
    for name, symbol, colour, odd in (("models", "circle", 0, False), ("looks odd", "x", 5, True)):
        part = ordered.filter(pl.col("suspicion").is_not_null() == odd)
        if part.is_empty():
            continue
        figure.add_scatter(
            x=part["rank"].to_numpy(),
            y=part["norm"].to_numpy(),
            mode="markers",
            name=name,
            marker={"size": 8, "symbol": symbol, "color": theme.series[colour]},
            customdata=part["model"].to_list(),
            hovertemplate="%{customdata}: %{y:.4~g}<extra></extra>",
        )
    positive = norms[norms > 0]
    wide = positive.size == norms.size and positive[-1] > _WIDE * positive[0]
    figure.update_xaxes(title_text="models, ascending; band from 10 % to 90 %", range=[0, len(norms) + 1])
    figure.update_yaxes(
        title_text=axis_name, type="log" if wide else "linear", rangemode="normal" if wide else "tozero"
    )
    figure.update_layout(showlegend=bool(ordered["suspicion"].is_not_null().any()))
    return figure
