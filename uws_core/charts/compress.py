"""Figures of a compression: the ways to spend the bytes, the models, the layers."""

from __future__ import annotations

from math import log2, log10

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts.style import DASHES, LIGHT, SYMBOLS, Theme, colour_of, figure, rule
from uws_core.nouns.cost import bytes_text

# In this order everywhere, so that a way has one colour.
_WAYS = ("shared basis", "own SVD", "random basis", "rounding", "mean only")


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
        hovertemplate="%{y}: the worst model is %{x:.1%} off<extra></extra>",
    )
    most = float(known["worst_error"].max() or 1.0)  # type: ignore[arg-type]
    # Room for the number behind the longest bar.
    drawn.update_xaxes(title="error of the worst model, not squared", range=[0.0, 1.2 * most], tickformat=".0%")
    drawn.update_yaxes(autorange="reversed", title=None)
    drawn.update_layout(showlegend=False)
    return drawn


def curve(frame: pl.DataFrame, *, chosen: int, original: int, theme: Theme = LIGHT) -> go.Figure:
    """The worst model's error against the bytes of the folder, a line for each way; `chosen` and `original` marked."""
    drawn = figure(theme, height=360)
    _against_bytes(drawn, frame, "worst_error", "the worst model is off by", theme)
    drawn.update_yaxes(title="error of the worst model, not squared", rangemode="tozero", tickformat=".0%")
    for size, name in ((chosen, "this plan"), (original, "the models as they are")):
        rule(drawn, {"color": theme.quiet, "width": 1, "dash": "longdash"}, x=size)
        drawn.add_annotation(
            text=name,
            textangle=-90,
            showarrow=False,
            x=log10(size),
            xanchor="right",
            y=1,
            yref="y domain",
            yanchor="top",
        )
    return drawn


def scores(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The median of the models' scores relative to their own against the bytes of the folder."""
    drawn = figure(theme, height=320)
    _against_bytes(drawn, frame, "score", "the median model keeps", theme)
    drawn.update_yaxes(title="score relative to the model's own", rangemode="tozero", tickformat=".0%")
    return drawn


def _against_bytes(drawn: go.Figure, frame: pl.DataFrame, column: str, words: str, theme: Theme) -> None:
    for place, way in enumerate(_WAYS):
        part = frame.filter(pl.col("way") == way).sort("folder_bytes")
        if part.is_empty():
            continue
        drawn.add_scatter(
            x=part["folder_bytes"].to_numpy(),
            y=part[column].to_numpy(),
            name=way,
            mode="lines+markers",
            line={"dash": DASHES[place], "color": colour_of(place, theme)},
            marker={"symbol": SYMBOLS[place], "size": 7},
            text=[bytes_text(size) for size in part["folder_bytes"]],
            hovertemplate=f"{way}, %{{text}}: {words} %{{y:.1%}}<extra></extra>",
        )
    sizes = [max(size, 1) for size in frame["folder_bytes"]] or [1]
    first, last = int(log2(min(sizes))), int(log2(max(sizes)))
    # Doublings, named as everywhere else; at most eight fit.
    ticks = [2**power for power in range(first, last + 2, 1 + (last - first) // 8)]
    drawn.update_xaxes(title="size of the folder", type="log", tickvals=ticks, ticktext=list(map(bytes_text, ticks)))


def models(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Each model's error in the shared basis and with its own SVD at the same bytes, the worst model first."""
    drawn = figure(theme, height=320)
    order = np.arange(1, frame.height + 1)
    lines = [("error", "shared basis"), ("own_svd_error", "own SVD, same bytes")]
    if "held_out_error" in frame.columns:
        lines.append(("held_out_error", "basis made without its group"))
    for place, (column, name) in enumerate(lines):
        drawn.add_scatter(
            x=order,
            y=frame[column].to_numpy(),
            name=name,
            mode="lines+markers",
            line={"dash": ("solid", "dot", "dash")[place], "color": colour_of(place, theme)},
            customdata=frame["model"].to_list(),
            hovertemplate="%{customdata}: %{y:.1%}<extra></extra>",
        )
    drawn.update_xaxes(title="model, the worst first")
    drawn.update_yaxes(title="error, not squared", rangemode="tozero", tickformat=".0%")
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
