"""Figures of a merge before it is written: every method against the scale, members by methods, layers that collide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme, colour_of, figure

# Axis titles of what is drawn against the scale.
AXES = {
    "distance_to_members": "distance to the members, relative to their own",
    "distance_to_mean": "distance to the mean, relative to its own",
    "score": "score kept, mean over members",
}


def sweep(frame: pl.DataFrame, *, column: str, chosen: str, mean: str, scale: float, theme: Theme = LIGHT) -> go.Figure:
    """Every method against the scale: the chosen one in the accent colour, the mean dashed, the others in grey.

    `frame` has the columns method, scale and `column`. The base is a horizontal line, `scale` a vertical one.
    """
    drawn = figure(theme, height=380)
    others = [name for name in frame["method"].unique(maintain_order=True) if name not in (chosen, mean)]
    for name in (*others, mean, *([chosen] if chosen != mean else [])):
        part = frame.filter(pl.col("method") == name).sort("scale")
        drawn.add_scatter(
            x=part["scale"].to_numpy(),
            y=part[column].to_numpy(),
            name="other methods" if name in others else name,
            legendgroup="others" if name in others else name,
            showlegend=name not in others or name == others[0],
            mode="lines",
            line=_line(name, chosen, mean, theme),
            hovertemplate=f"{name} at %{{x:.2f}}: %{{y:.3~g}}<extra></extra>",
        )
    base = frame.filter(pl.col("scale") == 0)[column]
    if base.len():
        level = float(base.median())  # type: ignore[arg-type]
        style.rule(drawn, {"color": theme.quiet, "width": 1.2, "dash": "dot"}, y=level)
        drawn.add_scatter(
            x=[None], y=[None], mode="lines", name="base", line={"color": theme.quiet, "width": 1.2, "dash": "dot"}
        )
    style.rule(drawn, {"color": theme.quiet, "width": 1}, x=scale)
    drawn.update_xaxes(title="scale lambda")
    drawn.update_yaxes(title=AXES[column], tickformat=".0%", range=_range(frame, column, chosen, mean))
    return drawn


def kept(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Heatmap of what survives of each member in each method's merge, members down, methods across."""
    members, names = (frame[column].unique(maintain_order=True).to_list() for column in ("member", "method"))
    values = frame["kept"].to_numpy().reshape(len(names), len(members)).T
    drawn = figure(theme, height=max(280, 130 + 20 * min(len(members), 40)))
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    drawn.add_heatmap(
        z=values,
        x=names,
        y=members,
        zmin=-most,
        zmax=most,
        colorscale=style.DIVERGING,
        colorbar={"title": "survives", "tickformat": ".0%"},
        hovertemplate="%{x}: %{z:.0%} of %{y} survives<extra></extra>",
    )
    drawn.update_yaxes(autorange="reversed", title=None, showticklabels=len(members) <= 40)
    drawn.update_xaxes(title=None, tickangle=-40)
    return drawn


def cosines(values: np.ndarray, labels: Sequence[str], *, theme: Theme = LIGHT) -> go.Figure:
    """Heatmap of the cosines of the members' updates."""
    drawn = figure(theme, height=max(280, 110 + 20 * min(len(labels), 30)))
    drawn.add_heatmap(
        z=values,
        x=list(labels),
        y=list(labels),
        zmin=-1.0,
        zmax=1.0,
        colorscale=style.DIVERGING,
        colorbar={"title": "cosine"},
        hovertemplate="%{x}, %{y}: %{z:.3f}<extra></extra>",
    )
    drawn.update_yaxes(autorange="reversed", title=None, showticklabels=len(labels) <= 40)
    drawn.update_xaxes(title=None, showticklabels=len(labels) <= 40, tickangle=-40)
    return drawn


def layers(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The mean and the smallest cosine of two updates in every layer; beyond the bars of chance they are opposed."""
    drawn = figure(theme, height=360)
    names = frame["layer"].to_list()
    chance = frame["chance"].to_numpy()
    drawn.add_bar(
        x=names,
        y=2 * chance,
        base=-chance,
        marker={"color": theme.band, "line": {"width": 0}},
        name="chance",
        hoverinfo="skip",
    )
    for column, name, symbol in (
        ("mean_cosine", "mean of pairs", "circle"),
        ("least_cosine", "most opposed pair", "x"),
    ):
        marks = frame["collides"].to_list() if column == "least_cosine" else [False] * len(names)
        drawn.add_scatter(
            x=names,
            y=frame[column].to_numpy(),
            mode="markers",
            name=name,
            marker={
                "symbol": symbol,
                "size": 8,
                "color": [colour_of(5 if marked else 0, theme) for marked in marks],
            },
            customdata=["collides" if marked else "" for marked in marks],
            hovertemplate=f"%{{x}}, {name}: %{{y:.3f}} %{{customdata}}<extra></extra>",
        )
    drawn.update_xaxes(title="layer", showticklabels=len(names) <= 60, tickangle=-60)
    drawn.update_yaxes(title="cosine of two updates")
    # The rotated names of layers need the room where the legend usually is.
    drawn.update_layout(
        bargap=0.0, height=420, margin={"b": 150}, legend={"yref": "container", "y": 0, "yanchor": "bottom"}
    )
    return drawn


def _line(name: str, chosen: str, mean: str, theme: Theme) -> dict[str, object]:
    if name == chosen:
        return {"color": colour_of(0, theme), "width": 2.6, "dash": "dash" if name == mean else "solid"}
    if name == mean:
        return {"color": theme.ink, "width": 1.8, "dash": "dash"}
    return {"color": theme.quiet, "width": 1.0}


def _range(frame: pl.DataFrame, column: str, chosen: str, mean: str) -> list[float]:
    """Ends that show the chosen method and the mean whole; sums of many members run far out of it."""
    if column == "score":
        return [0.0, 1.05]
    values = frame.filter(pl.col("method").is_in([chosen, mean]))[column].drop_nans()
    most = float(values.max() or 1.0)  # type: ignore[arg-type]
    return [0.0, 1.08 * max(min(most, 4.0), 1.0)]
