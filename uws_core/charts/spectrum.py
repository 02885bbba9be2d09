"""Figures of spectra: the variance of each direction, and the running sum, against chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.arrays import Floats
from uws_core.nouns.spectrum import Rank

# More lines cannot be told apart.
MOST_LINES = 24


def scree(
    frame: pl.DataFrame,
    *,
    floor: float = 0.0,
    ceiling: int | None = None,
    edge: float = float("nan"),
    log: bool = True,
    axis_name: str = "direction",
    theme: Theme = LIGHT,
) -> go.Figure:
    """The share of the variance that each direction carries, over the band of noise.

    `frame` is `frames.spectrum.scree` or `pooled`. Shares below `floor` are rounding, `ceiling` is the largest possible
    number of directions, `edge` the analytic upper edge of noise where there is one.
    """
    figure = style.figure(theme)
    _band(figure, frame, ("low", "middle", "high"), theme)
    _deviation(figure, frame, "share", theme)
    _values(figure, frame, "share", theme)
    if isfinite(edge):
        _level(figure, frame, edge, f"edge of noise, {style.percent(edge)}", theme)
    if floor > 0:
        # Shares at or below the floor are rounding.
        style.stripe(figure, theme, y=(floor / 1e12, floor))
    if ceiling:
        style.ceiling(figure, theme, ceiling, x=ceiling + 0.5, top=True)
    _axes(figure, frame, axis_name, "share of the variance")
    if log:
        heights = [frame["share"], *(frame[name].drop_nulls() for name in ("low", "high") if name in frame.columns)]
        if "share_std" in frame.columns:
            heights.append(frame["share"] + frame["share_std"])
        _logarithmic(figure, [column.to_numpy() for column in heights], floor)
    else:
        figure.update_yaxes(rangemode="tozero", tickformat=".3~%")
    return figure


def cumulative(
    frame: pl.DataFrame,
    *,
    share: float,
    rank: Rank,
    noise_rank: float | None = None,
    ceiling: int | None = None,
    axis_name: str = "directions kept",
    theme: Theme = LIGHT,
) -> go.Figure:
    """The share that the strongest directions carry together, with the rank at the chosen share."""
    figure = style.figure(theme)
    _band(figure, frame, ("cumulative_low", "cumulative_middle", "cumulative_high"), theme)
    _deviation(figure, frame, "cumulative", theme)
    _values(figure, frame, "cumulative", theme)
    # Adds the chosen share as a horizontal line, and its rank as a vertical line.
    thin = {"width": 1.2, "dash": "dot"}
    lines, text = read_outs([share], [rank], [noise_rank])
    across = {"x0": 0, "x1": 1, "xref": "x domain"}
    for name, colour, ends in (("share", theme.quiet, across), ("rank", theme.series[0], {"y0": 0})):
        here = {key: values[0] for key, values in lines[name].items()}
        figure.add_shape(type="line", name=name, line={"color": colour, **thin}, **ends, **here)
    figure.add_annotation(
        name="rank",
        text=text[0],
        x=0.92,
        xref="x domain",
        xanchor="right",
        y=0.06,
        yanchor="bottom",
        align="right",
        showarrow=False,
    )
    if ceiling:
        style.ceiling(figure, theme, ceiling, x=ceiling + 0.5)
    _axes(figure, frame, axis_name, "share carried together")
    figure.update_yaxes(range=[0, 1.06], tickformat=".0%")
    return figure


def several(
    frames: Mapping[str, pl.DataFrame],
    *,
    modules: Mapping[str, str],
    running: bool = False,
    share: float | None = None,
    log: bool = True,
    axis_name: str = "direction",
    theme: Theme = LIGHT,
) -> go.Figure:
    """One line a layer, at most `MOST_LINES`: colour is the module, dash the depth, the legend has the names.

    `frames` maps short names to scree frames, `modules` short names to modules; `running` draws the running sums.
    """
    figure = style.figure(theme)
    shown = dict(list(frames.items())[:MOST_LINES])
    # Adds one line a frame; colour is the module, dash the layer within it.
    column = "cumulative" if running else "share"
    kinds = list(dict.fromkeys(modules[name] for name in shown))
    turns: dict[str, int] = {}
    for name, frame in shown.items():
        module = modules[name]
        turn = turns[module] = turns.get(module, -1) + 1
        colour, dash = style.colour_of(kinds.index(module), theme), style.DASHES[turn % len(style.DASHES)]
        figure.add_scatter(
            x=frame["component"].to_numpy(),
            y=frame[column].to_numpy(),
            name=name,
            mode="lines",
            line={"color": colour, "dash": dash, "width": 1.6},
            hovertemplate=f"{name}<br>direction %{{x}}: %{{y:.2~%}}<extra></extra>",
        )
    longest = max(shown.values(), key=len)
    if running and share is not None:
        _level(figure, longest, share, style.percent(share), theme)
    _axes(figure, longest, axis_name, "share carried together" if running else "share of the variance")
    if log and not running:
        _logarithmic(figure, [frame["share"].to_numpy() for frame in shown.values()], 0.0)
    else:
        figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    style.long_legend(figure)
    return figure


def _band(figure: go.Figure, frame: pl.DataFrame, names: tuple[str, str, str], theme: Theme) -> None:
    """Adds the range of 95 % of the noise draws and their median."""
    part = frame.filter(pl.col(names[1]).is_not_null())
    if part.is_empty():
        return
    x, low, middle, high = (part[name].to_numpy() for name in ("component", *names))
    edge = {"color": theme.band, "width": 0.5}
    figure.add_scatter(x=x, y=high, mode="lines", line=edge, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=x,
        y=low,
        mode="lines",
        line=edge,
        fill="tonexty",
        fillcolor=theme.band,
        name="noise, 95 %",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x, y=middle, mode="lines", line={"color": theme.quiet, "width": 1.2, "dash": "dash"}, name="noise, median",
        customdata=np.stack([low, high], axis=1),
        hovertemplate="noise: %{y:.2~%} (%{customdata[0]:.2~%} to %{customdata[1]:.2~%})<extra></extra>",
    )  # fmt: skip


def _deviation(figure: go.Figure, frame: pl.DataFrame, column: str, theme: Theme) -> None:
    """One standard deviation over layers on both sides of the mean, where the frame has one."""
    if f"{column}_std" not in frame.columns:
        return
    x, mean, std = (frame[name].to_numpy() for name in ("component", column, f"{column}_std"))
    lower = np.maximum(mean - std, np.min(mean[mean > 0], initial=1.0) / 10)
    thin = {"color": theme.series[0], "width": 0.6}
    figure.add_scatter(x=x, y=np.minimum(mean + std, 1.0), mode="lines", line=thin, showlegend=False, hoverinfo="skip")
    colour = theme.series[0]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=x, y=lower, mode="lines", line=thin, fill="tonexty", name="standard deviation over layers", hoverinfo="skip",
        fillcolor=f"rgba({red},{green},{blue},0.18)",
    )  # fmt: skip


def _values(figure: go.Figure, frame: pl.DataFrame, column: str, theme: Theme) -> None:
    """Adds the numbers of the models; in a scree with a band, marks are filled above it and open inside."""
    x, y, accent = frame["component"].to_numpy(), frame[column].to_numpy(), theme.series[0]
    judged = column == "share" and frame["above_band"].null_count() == 0
    above = frame["above_band"].to_numpy() if judged else np.ones(len(x), dtype=np.bool_)
    scores = [f"<br>z {z:.1f}" if judged and z is not None and isfinite(z) else "" for z in frame["z"]]
    figure.add_scatter(
        x=x,
        y=np.where(y > 0, y, np.nan),
        # With more marks, they cover the line.
        mode="lines+markers" if len(x) <= 200 else "lines",
        name="models, filled: counted as shared" if judged else "models",
        line={"color": accent, "width": 2},
        marker={"symbol": np.where(above, "circle", "circle-open"), "size": 6 if judged else 4, "color": accent},
        customdata=scores,
        hovertemplate="direction %{x}: %{y:.2~%}%{customdata}<extra></extra>",
    )


def read_outs(
    shares: Sequence[float], ranks: Sequence[Rank], noise_ranks: Sequence[float | None]
) -> tuple[dict[str, dict[str, list[object]]], list[str]]:
    """The lines `share` and `rank` of `cumulative` at every share, by property, and the text beside them."""
    known = [bool(rank.k) and not rank.censored for rank in ranks]
    at = [rank.k if there else 0 for rank, there in zip(ranks, known, strict=True)]
    lines: dict[str, dict[str, list[object]]] = {
        "share": {"y0": [*shares], "y1": [*shares]},
        "rank": {"x0": [*at], "x1": [*at], "y1": [*shares], "visible": [*known]},
    }
    noise = ["" if rank is None else f"<br>noise needs {rank:.0f}" for rank in noise_ranks]
    rows = zip(ranks, shares, noise, strict=True)
    return lines, [f"<b>{rank}</b> carry {100 * share:g} %{needs}" for rank, share, needs in rows]


def _level(figure: go.Figure, frame: pl.DataFrame, height: float, text: str, theme: Theme) -> None:
    """Adds a horizontal line, named in the legend."""
    ends = [0, len(frame) + 2]
    line = {"color": theme.quiet, "width": 1.2, "dash": "dashdot"}
    figure.add_scatter(x=ends, y=[height, height], mode="lines", line=line, name=text, hoverinfo="skip")


def _axes(figure: go.Figure, frame: pl.DataFrame, across: str, up: str) -> None:
    last = len(frame)
    figure.update_xaxes(title_text=across, range=[0.4, last + 1.2], rangemode="tozero")
    figure.update_yaxes(title_text=up)
    figure.update_layout(hovermode="x" if last <= 200 else "closest")


def _logarithmic(figure: go.Figure, shares: Iterable[Floats], floor: float) -> None:
    """Sets a logarithmic scale over the resolved shares, without the rounding far below them."""
    values = np.concatenate([np.asarray(part, dtype=np.float64) for part in shares])
    real = values[values > max(floor, 1e-12)]
    low, high = (float(real.min()) * 0.6, float(real.max()) * 1.4) if real.size else (1e-3, 1.0)
    ticks, texts = style.log_ticks(low, high)
    figure.update_yaxes(type="log", range=[np.log10(low), np.log10(high)], tickvals=ticks, ticktext=texts)
