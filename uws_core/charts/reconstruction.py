"""Held-out errors: against k with their baselines, model by model, and against size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme

# More faint lines merge into a grey area.
MOST_LINES = 100
MOST_NAMES = 60
# More numbers along a curve overlap.
MOST_MARKS = 7
# The name of what a slider of k moves.
CHOSEN = "chosen k"


@dataclass(frozen=True, slots=True)
class Line:
    """The style of one way of rebuilding: name, index of its colour, dash."""

    name: str
    colour: int
    dash: str
    width: float = 1.8


# In the order of the legend. Every line has its own dash, so that colour is never the only channel.
LINES: Mapping[str, Line] = {
    "subspace": Line("unseen models", 0, "solid", 2.6),
    "in_sample": Line("in sample (saw the model)", 1, "dot"),
    "own_svd": Line("own SVD, as many numbers", 2, "dash"),
    "random": Line("random directions", 3, "longdash"),
    "profile": Line("same profile, nothing shared", 5, "2px,4px"),
    "mean_only": Line("mean only", 4, "dashdot"),
    "nothing": Line("nothing", 6, "longdashdot", 1.2),
}


@dataclass(frozen=True, slots=True)
class AxisStyle:
    """The style of one axis: name, symbol, index of its colour and dash."""

    name: str
    symbol: str
    colour: int


AXES: Mapping[str, AxisStyle] = {
    "models": AxisStyle("models", "circle", 0),
    "in": AxisStyle("inputs", "square", 1),
    "out": AxisStyle("outputs", "diamond", 2),
}


def errors(
    curve: pl.DataFrame,
    models: pl.DataFrame,
    *,
    k: int | None = None,
    ceiling: int | None = None,
    log: bool = False,
    axis_name: str = "directions kept",
    theme: Theme = LIGHT,
) -> go.Figure:
    """The error against k: every model as a faint line, median and quartiles, and the baselines.

    `curve` is `frames.reconstruction.curve`, `models` is `frames.reconstruction.errors`. `k` is marked; `ceiling` is
    the largest possible k.
    """
    figure = style.figure(theme, height=440)
    _faint(figure, models, theme)
    present = set(curve["line"])
    for name, line in LINES.items():
        if name in present:
            part = curve.filter(pl.col("line") == name)
            band = name == "subspace"
            x, colour = part["k"].to_numpy(), style.colour_of(line.colour, theme)
            if band and (part["high"] > part["low"]).any():
                edge = {"color": colour, "width": 0}
                figure.add_scatter(
                    x=x, y=part["high"].to_numpy(), mode="lines", line=edge, showlegend=False, hoverinfo="skip"
                )
                figure.add_scatter(
                    x=x, y=part["low"].to_numpy(), mode="lines", line=edge, fill="tonexty", fillcolor=theme.band,
                    name="half of the models", hoverinfo="skip",
                )  # fmt: skip
            figure.add_scatter(
                x=x,
                y=part["middle"].to_numpy(),
                mode="lines",
                name=line.name,
                line={"color": colour, "dash": line.dash, "width": line.width},
                hovertemplate=f"{line.name}: %{{y:.1%}}<extra></extra>",
            )
    if k is not None:
        style.rule(figure, {"color": theme.series[0], "width": 1.2, "dash": "dot"}, x=k, name=CHOSEN)
    if ceiling:
        style.ceiling(figure, theme, ceiling, x=ceiling)
    figure.update_xaxes(title_text=axis_name)
    figure.update_yaxes(title_text="squared error, relative", type="log" if log else "linear")
    if not log:
        figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    figure.update_layout(hovermode="x", legend={"y": -0.26, "traceorder": "normal"})
    return figure


def models(frame: pl.DataFrame, *, by: str = "k", k: int | None = None, theme: Theme = LIGHT) -> go.Figure:
    """The error of every model at every k (or in every layer, `by="layer"`), the worst model on top.

    `frame` is `frames.reconstruction.errors` or `by_layer`.
    """
    worst = (
        frame.group_by("model", maintain_order=True).agg(pl.col("subspace").mean()).sort("subspace", nulls_last=True)
    )
    names = worst["model"].to_list()[::-1]
    columns = list(dict.fromkeys(frame[by].to_list()))
    values = np.full((len(names), len(columns)), np.nan)
    rows, positions = {name: i for i, name in enumerate(names)}, {value: i for i, value in enumerate(columns)}
    for name, column, error in frame.select("model", by, "subspace").iter_rows():
        values[rows[name], positions[column]] = np.nan if error is None else error
    across = [str(column) for column in columns]
    figure = style.figure(theme, height=min(170 + 14 * len(names), 900))
    figure.add_heatmap(
        z=values,
        x=across,
        y=names,
        zmin=0,
        zmax=max(1.0, float(np.nanmax(values, initial=0.0))),
        colorscale=style.SEQUENTIAL,
        colorbar={"title": {"text": "error", "side": "right"}, "thickness": 12, "outlinewidth": 0, "tickformat": ".0%"},
        hovertemplate=f"%{{y}}, {by} %{{x}}: %{{z:.1%}}<extra></extra>",
    )
    if by == "k" and k in columns:
        style.rule(figure, {"color": theme.series[5], "width": 2, "dash": "dot"}, x=columns.index(k), name=CHOSEN)
    title = "directions kept" if by == "k" else ""
    figure.update_xaxes(type="category", title_text=title, showgrid=False, ticks="")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    figure.update_yaxes(showticklabels=len(names) <= MOST_NAMES, tickfont={"size": 10 if len(names) > 24 else 12})
    return figure


def sizes(frame: pl.DataFrame, *, whole: bool = False, k: int | None = None, theme: Theme = LIGHT) -> go.Figure:
    """The error of unseen models against the storage ratio (times smaller), one line an axis, labelled with k.

    `frame` is `frames.reconstruction.sizes`; `whole` counts whole checkpoints. Lower right is better.
    """
    figure = style.figure(theme, height=400)
    column = "ratio_whole" if whole else "ratio"
    # Zero directions about zero store nothing, so there is no ratio.
    frame = frame.filter(pl.col(column).is_not_null())
    for axis, axis_style in AXES.items():
        part = frame.filter((pl.col("axis") == axis) & pl.col("middle").is_not_null()).sort("k")
        if part.is_empty():
            continue
        colours = {"color": style.colour_of(axis_style.colour, theme), "dash": style.DASHES[axis_style.colour]}
        x = part[column].to_numpy()
        figure.add_scatter(
            x=x,
            y=part["middle"].to_numpy(),
            mode="lines",
            line=colours,
            showlegend=False,
            hoverinfo="skip",
            name=axis_style.name,
        )
        # True for rows (sorted by k) that get a mark: those far enough apart on a logarithmic scale.
        logs = np.log10(part[column].to_numpy())
        gap, last, marked = max(float(np.ptp(logs)), 1e-9) / MOST_MARKS, np.inf, []
        for position in logs:
            marked.append(abs(position - last) >= gap)
            last = position if marked[-1] else last
        _marks(figure, part.filter(pl.Series(marked, dtype=pl.Boolean)), column, axis_style, theme)
    _per_model_svd(figure, frame, column, theme)
    if k is not None:
        figure.add_scatter(
            mode="markers+text",
            name=CHOSEN,
            marker={"symbol": "circle-open", "size": 13, "color": theme.series[5], "line": {"width": 2}},
            textposition="bottom center",
            textfont={"color": theme.series[5]},
            hoverinfo="skip",
            showlegend=False,
            **chosen(frame, k, whole=whole),
        )
    ends = frame[column].drop_nulls()
    if ends.len():
        low, high = float(ends.min() or 1) * 0.8, float(ends.max() or 1) * 1.25  # type: ignore[arg-type]
        figure.update_xaxes(type="log", range=[np.log10(low), np.log10(high)])
        candidates = [step * 10.0**decade for decade in range(-4, 7) for step in (1, 2, 5)]
        ticks = [value for value in candidates if low <= value <= high]
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{value:g}×" for value in ticks])
    style.rule(figure, {"color": theme.quiet, "width": 1, "dash": "longdash"}, x=1)
    what = "whole checkpoints" if whole else "these layers"
    figure.update_xaxes(title_text=f"{what}, times smaller")
    figure.update_yaxes(title_text="squared error, relative", rangemode="tozero", tickformat=".0%")
    return figure


def chosen(frame: pl.DataFrame, k: int, *, whole: bool = False) -> dict[str, list[object]]:
    """The ring around `k` in `sizes`: `x`, `y` and `text`, one mark an axis that has it."""
    column = "ratio_whole" if whole else "ratio"
    found = frame.filter(pl.col("k") == k, pl.col(column).is_not_null(), pl.col("middle").is_not_null())
    return {"x": found[column].to_list(), "y": found["middle"].to_list(), "text": [str(k)] * found.height}


def _per_model_svd(figure: go.Figure, frame: pl.DataFrame, column: str, theme: Theme) -> None:
    """Adds the error of per-model truncated SVDs of the same size: the baseline that a shared subspace must beat."""
    own = frame.filter(pl.col("own_svd").is_not_null()).sort(column)
    if own.is_empty():
        return
    line = {"color": theme.ink, "width": 1.2, "dash": "dot"}
    figure.add_scatter(
        x=own[column].to_numpy(),
        y=own["own_svd"].to_numpy(),
        mode="lines",
        name="own SVD of each",
        line=line,
        hovertemplate="own SVD: %{y:.1%}, %{x:.3~g} times smaller<extra></extra>",
    )


def _faint(figure: go.Figure, models: pl.DataFrame, theme: Theme) -> None:
    """Adds every model's own curve, at most `MOST_LINES`, as one trace with gaps."""
    named = list(models.group_by("model", maintain_order=True))[:MOST_LINES]
    parts = [part for _, part in named]
    if len(parts) < 2:
        return
    x = np.concatenate([np.append(part["k"].to_numpy().astype(float), np.nan) for part in parts])
    y = np.concatenate([np.append(part["subspace"].to_numpy().astype(float), np.nan) for part in parts])
    line = {"color": theme.series[0], "width": 0.6}
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line=line,
        opacity=0.3,
        name="one model",
        hoverinfo="skip",
        # Whose line each is: a model that is marked elsewhere on the page is marked here.
        meta=[name for (name,), _ in named],
    )


def _marks(
    figure: go.Figure,
    part: pl.DataFrame,
    column: str,
    axis_style: AxisStyle,
    theme: Theme,
) -> None:
    """Adds some values of k of one axis as marks, with their number and the quartiles of the models."""
    middle = part["middle"].to_numpy()
    figure.add_scatter(
        x=part[column].to_numpy(),
        y=middle,
        mode="markers+text",
        name=axis_style.name,
        text=[str(count) for count in part["k"]],
        textposition="top center",
        textfont={"color": theme.quiet},
        marker={
            "symbol": axis_style.symbol,
            "size": 7,
            "color": style.colour_of(axis_style.colour, theme),
        },
        error_y={
            "array": part["high"].to_numpy() - middle,
            "arrayminus": middle - part["low"].to_numpy(),
            "thickness": 0.8,
            "width": 0,
            "color": theme.quiet,
        },
        customdata=part.select("k", "stored").to_numpy(),
        hovertemplate="k %{customdata[0]}: %{y:.1%}, %{x:.3~g} times smaller"
        f", %{{customdata[1]:,}} numbers<extra>{axis_style.name}</extra>",
    )
