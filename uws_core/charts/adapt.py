"""Figures of coefficient training: score against numbers, paired differences, captured gradients, curves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import DASHES, LIGHT, SYMBOLS, Theme

# Every row keeps its colour and mark, whichever others are there.
_ROWS = (
    "shared",
    "random",
    "base SVD",
    "LoRA",
    "full",
    "head only",
    "shared diagonal",
    "random diagonal",
    "mixture",
)


# Letters of a pair's two names that fit on one line.
_SHORT = 24


def scores(frame: pl.DataFrame, *, metric: str, theme: Theme = LIGHT) -> go.Figure:
    """Mean test score against trained numbers with the range over seeds; the head alone, which trains none, as a line.

    `frame` is `frames.adapt.rows` of one task. Rows of equal numbers are set 8 % apart so that their ranges show.
    """
    drawn = style.figure(theme, height=400)
    used: dict[int, int] = {}
    for row in frame.iter_rows(named=True):
        name, colour = row["row"], _colour(row["row"], theme)
        text = f"{name}: {row['score']:.3f} at {row['trainables']:,} numbers, rate {row['rate']:g}"
        if not row["trainables"]:
            style.rule(drawn, {"color": colour, "width": 2, "dash": "dot"}, y=row["score"])
            drawn.add_scatter(
                x=[None],
                y=[None],
                mode="lines",
                line={"color": colour, "dash": "dot"},
                name=f"{name} {row['score']:.3f}",
            )
            continue
        shift = 1.08 ** used.get(row["trainables"], 0)
        used[row["trainables"]] = used.get(row["trainables"], 0) + 1
        drawn.add_scatter(
            x=np.array([row["trainables"] * shift]),
            y=np.array([row["score"]]),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["highest"] - row["score"]],
                "arrayminus": [row["score"] - row["lowest"]],
                "color": colour,
                "thickness": 1.5,
            },
            mode="markers",
            marker={
                "color": colour,
                "symbol": SYMBOLS[_ROWS.index(name) % len(SYMBOLS)] if name in _ROWS else "circle",
                "size": 11,
            },
            name=name,
            hovertemplate=f"{text}<extra></extra>",
        )
    drawn.update_xaxes(title="trained numbers, without the head", type="log", tickformat="~s", **_ticks(list(used)))
    # Room below the line of the head alone, which would lie on the axis.
    known = [value for value in (*frame["lowest"], *frame["highest"], *frame["score"]) if np.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    drawn.update_yaxes(title=f"{metric} on test data", range=[low - 0.08 * (high - low), high + 0.05 * (high - low)])
    style.long_legend(drawn)
    return drawn


def differences(frame: pl.DataFrame, *, metric: str, theme: Theme = LIGHT) -> go.Figure:
    """Paired differences with their 95 % intervals, a rival a line, and zero; `frame` is `frames.adapt.differences`."""
    drawn = style.figure(theme, height=120 + 42 * max(frame.height, 1))
    style.rule(drawn, {"color": theme.quiet, "width": 1, "dash": "dash"}, x=0.0)
    # Two lines where one would take half of a phone.
    pairs = [(row["row"], row["other"]) for row in frame.iter_rows(named=True)]
    names = [f"{row}{'<br>' if len(row + other) > _SHORT else ' '}− {other}" for row, other in pairs]
    half = frame["high"].fill_nan(0.0).to_numpy() - frame["difference"].to_numpy()
    drawn.add_scatter(
        x=frame["difference"].to_numpy(),
        y=names,
        error_x={"type": "data", "array": np.where(frame["high"].is_nan().to_numpy(), 0.0, half), "thickness": 2},
        mode="markers",
        marker={
            "color": theme.series[0],
            "size": 10,
            "symbol": ["circle" if verdict in ("better", "worse") else "circle-open" for verdict in frame["verdict"]],
        },
        customdata=frame["verdict"].to_list(),
        hovertemplate="%{y}: %{x:+.3f}, %{customdata}<extra></extra>",
    )
    drawn.update_xaxes(title=f"difference in {metric}", tickformat="+~g", nticks=5)
    drawn.update_yaxes(autorange="reversed", title=None, type="category")
    drawn.update_layout(showlegend=False)
    return drawn


def gradient(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Captured shares of the gradient, a layer a column, with chance and its 95 % line, and the members' own range.

    `frame` is `frames.adapt.gradient`. The scale is logarithmic; shares below 0.1 % lie on its edge.
    """
    drawn = style.figure(theme, height=420)
    names = frame["layer"].to_list()
    low, middle, high = (frame[f"members_{part}"].to_numpy() for part in ("low", "middle", "high"))
    if np.isfinite(middle).any():
        drawn.add_scatter(
            x=names,
            y=middle,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": high - middle,
                "arrayminus": middle - low,
                "color": theme.quiet,
                "thickness": 1,
            },
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 10, "color": theme.quiet},
            name="members' own updates, range and median",
            hovertemplate="%{x}: median member %{y:.1%}<extra></extra>",
        )
    for column, name, dash in (
        ("chance_high", "95 % of random subspaces", "dot"),
        ("chance", "random subspace", "solid"),
    ):
        drawn.add_scatter(
            x=names,
            y=frame[column].to_numpy(),
            mode="lines",
            line={"color": style.colour_of(1, theme), "dash": dash, "width": 1.5},
            name=name,
            hovertemplate="%{x}: %{y:.2%}<extra></extra>",
        )
    for column, name, index, symbol in (
        ("base", "base's own directions", 2, "diamond"),
        ("shared", "shared basis", 0, "circle"),
    ):
        drawn.add_scatter(
            x=names,
            y=np.maximum(frame[column].to_numpy(), 1e-3),
            mode="markers",
            marker={"color": style.colour_of(index, theme), "symbol": symbol, "size": 9},
            name=name,
            hovertemplate="%{x}: %{y:.2%}<extra></extra>",
        )
    drawn.update_xaxes(title="layer", type="category", tickangle=-90)
    drawn.update_yaxes(title="share of the gradient", type="log", range=[-3, 0.05], tickformat=".1~%", dtick=1)
    style.long_legend(drawn)
    return drawn


def curves(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Training loss against the step, a row a line, the training under way dotted; `frame` is `frames.adapt.curves`."""
    drawn = style.figure(theme, height=360)
    for (name,), part in frame.group_by("line", maintain_order=True):
        line = str(name)
        under_way = line.startswith("now: ")
        colour = theme.ink if under_way else _colour(line, theme)
        drawn.add_scatter(
            x=part["step"].to_numpy(),
            y=part["loss"].to_numpy(),
            mode="lines",
            line={
                "color": colour,
                "width": 2,
                "dash": "dot" if under_way else (DASHES[_ROWS.index(line) % len(DASHES)] if line in _ROWS else "solid"),
            },
            name=line,
            hovertemplate=f"{line}, step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    drawn.update_xaxes(title="step", rangemode="tozero")
    # Losses that end near zero are told apart on a logarithmic scale; a loss may also be negative.
    least = frame["loss"].min()
    drawn.update_yaxes(title="training loss", type="log" if isinstance(least, float) and least > 0 else "linear")
    style.long_legend(drawn)
    return drawn


def _ticks(numbers: list[int]) -> dict[str, Any]:
    """Ticks of a logarithmic axis: a decade each, or 1, 2 and 5 of each where the numbers are less than two apart."""
    low, high = min(numbers, default=1), max(numbers, default=1)
    if high >= 100 * low:
        return {"dtick": 1}
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return {"tickvals": [step * 10**decade for decade in decades for step in (1, 2, 5)]}


def _colour(row: str, theme: Theme) -> str:
    return style.colour_of(_ROWS.index(row), theme) if row in _ROWS else theme.quiet
