"""Figures of a compression: the ways to spend the bytes, the models, the layers."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts.style import LIGHT, Theme, colour_of, figure


def rivals(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Bars of the worst model's error, a way to spend the bytes each; the shared basis in the accent colour."""
    known = frame.filter(pl.col("worst_error").is_not_nan())
    drawn = figure(theme, height=300)
    drawn.add_bar(
        x=known["worst_error"].to_numpy(),
        y=known["way"].to_list(),
        orientation="h",
        marker_color=[colour_of(0 if way == "shared basis" else 1, theme) for way in known["way"]],
        text=[f"{error:.0%}" for error in known["worst_error"]],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        hovertemplate="%{y}: the worst model loses %{x:.1%}<extra></extra>",
    )
    most = float(known["worst_error"].max() or 1.0)  # type: ignore[arg-type]
    # Room for the number behind the longest bar.
    drawn.update_xaxes(title="error of the worst model, relative", range=[0.0, 1.2 * most], tickformat=".0%")
    drawn.update_yaxes(autorange="reversed", title=None)
    drawn.update_layout(showlegend=False)
    return drawn


def models(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Each model's error in the shared basis and with its own SVD at the same bytes, the worst model first."""
    drawn = figure(theme, height=320)
    order = np.arange(1, frame.height + 1)
    for place, (column, name) in enumerate((("error", "shared basis"), ("own_svd_error", "own SVD, same bytes"))):
        drawn.add_scatter(
            x=order,
            y=frame[column].to_numpy(),
            name=name,
            mode="lines+markers",
            line={"dash": ("solid", "dot")[place], "color": colour_of(place, theme)},
            customdata=frame["model"].to_list(),
            hovertemplate="%{customdata}: %{y:.1%}<extra></extra>",
        )
    drawn.update_xaxes(title="model, the worst first")
    drawn.update_yaxes(title="relative error", rangemode="tozero", tickformat=".0%")
    return drawn


def layers(errors: np.ndarray, names: list[str], labels: list[str], *, theme: Theme = LIGHT) -> go.Figure:
    """Heatmap of relative errors (layers, models), from 0 to 1."""
    drawn = figure(theme, height=max(260, 60 + 18 * len(names)))
    drawn.add_heatmap(
        z=errors,
        x=labels,
        y=names,
        zmin=0.0,
        zmax=1.0,
        colorscale="Cividis",
        colorbar={"title": "error", "tickformat": ".0%"},
        hovertemplate="%{y}, %{x}: %{z:.1%}<extra></extra>",
    )
    drawn.update_yaxes(autorange="reversed", title=None)
    drawn.update_xaxes(showticklabels=len(labels) <= 40, title="model")
    return drawn
