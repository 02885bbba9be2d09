"""Figures of lineages: cosines, models as points, groups against the threshold, and variance explained by columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import angle_tables, style
from uws_core.charts.angle_tables import Measure
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.lineage import Lineage

COSINE = Measure("cosines", "cosine", ".2f", 1.0)
# With more values, numbers are coloured by a scale and texts repeat colours.
MOST_COLOURS = 24
MOST_NAMES = 30


def cosine_heatmap(
    lineage: Lineage,
    *,
    groups: Sequence[str] | None = None,
    chosen: tuple[int, int] | None = None,
    fit: bool = False,
    theme: Theme = LIGHT,
) -> go.Figure:
    """The cosine of every pair, ordered by similarity under its tree, with chance on the colour bar.

    `groups` (one a model) becomes a strip of colours; `fit` stretches the colours over the range of the numbers.
    """
    return angle_tables.heatmap(
        lineage,
        lineage.order,
        measure=replace(COSINE, fit=fit),
        chance=lineage.chance,
        groups=groups,
        chosen=chosen,
        theme=theme,
    )


def model_map(
    frame: pl.DataFrame,
    *,
    shares: Sequence[float],
    colour: str | None = None,
    chosen: str | None = None,
    path: str | None = None,
    theme: Theme = LIGHT,
) -> go.Figure:
    """Models as points along the first two components; `frame` is `frames.lineage.points`.

    `shares` are the components' shares of the variance. `colour` is a column of the frame: each value gets a colour and
    a symbol, many numbers get a scale. `chosen` is the model with a ring. `path` is a column of numbers in whose order
    a line joins the models. A point carries its model as custom data.
    """
    figure = style.figure(theme, height=460)
    x, y = "component_1", "component_2"
    # With a single direction the models lie on a line, and at one point where they do not differ.
    frame = frame.with_columns(pl.lit(0.0).alias(name) for name in (x, y) if name not in frame.columns)
    if path is not None:
        along = frame.sort(path)
        line = {"color": theme.quiet, "width": 1.5}
        figure.add_scatter(
            x=along[x].to_list(),
            y=along[y].to_list(),
            mode="lines",
            line=line,
            hoverinfo="skip",
            showlegend=False,
            name="path",
        )
    if colour is None or colour not in frame.columns:
        _points(figure, frame, x, y, name="models", marker={"color": theme.series[0]})
    elif frame[colour].n_unique() > MOST_COLOURS and frame[colour].dtype.is_numeric():
        bar = {"title": {"text": colour, "side": "right"}, "thickness": 12, "outlinewidth": 0}
        scale = {"color": frame[colour].to_list(), "colorscale": style.SEQUENTIAL, "colorbar": bar}
        _points(figure, frame, x, y, name=colour, marker=scale)
    else:
        _by_value(figure, frame, x, y, colour, theme)
    if chosen is not None:
        # Adds a ring around the chosen model.
        model = frame.filter(pl.col("model") == chosen)
        marker = {"size": 16, "symbol": "circle-open", "color": theme.ink, "line": {"width": 2}}
        figure.add_scatter(
            x=model[x].to_list(),
            y=model[y].to_list(),
            mode="markers",
            marker=marker,
            hoverinfo="skip",
            showlegend=False,
            name="chosen",
        )
    figure.update_xaxes(title_text=_axis(1, shares), zeroline=False)
    figure.update_yaxes(title_text=_axis(2, shares), zeroline=False)
    figure.update_layout(clickmode="event+select", dragmode=False, hovermode="closest")
    return figure


def stability(frame: pl.DataFrame, *, threshold: float, chance: float, theme: Theme = LIGHT) -> go.Figure:
    """The number of groups against the threshold, and their agreement with the groups at the chosen threshold.

    `frame` is `frames.lineage.stability`. Left of `chance`, cosines of independent models join groups.
    """
    figure = style.figure(theme, height=320)
    x = frame["threshold"].to_list()
    line = {"color": theme.series[0], "width": 2, "shape": "hv"}
    figure.add_scatter(
        x=x,
        y=frame["groups"].to_list(),
        name="groups",
        mode="lines",
        line=line,
        hovertemplate="at %{x:.2f}: %{y} groups<extra></extra>",
    )
    figure.add_scatter(
        x=x,
        y=frame["agreement"].to_list(),
        name="agreement with the chosen groups",
        yaxis="y2",
        mode="lines",
        line={"color": theme.series[1], "width": 1.5, "dash": "dash"},
        hovertemplate="at %{x:.2f}: agreement %{y:.2f}<extra></extra>",
    )
    if chance > min(x, default=0.0):
        style.stripe(figure, theme, x=(min(x), chance))
    style.rule(figure, {"color": theme.ink, "width": 1.2, "dash": "dot"}, x=threshold)
    figure.update_xaxes(title_text="threshold, cosine")
    figure.update_yaxes(title_text="groups", rangemode="tozero")
    right = {"overlaying": "y", "side": "right", "showgrid": False, "range": [-0.05, 1.05], "tickvals": [0, 0.5, 1]}
    figure.update_layout(yaxis2={**right, "title": {"text": "agreement"}}, hovermode="x unified")
    return figure


def explained(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The share of each component that every column of the table explains; `frame` is `frames.lineage.explained`."""
    known = frame.filter(pl.col("explained").is_not_null())
    columns = known["column"].unique(maintain_order=True).to_list()[:MOST_NAMES]
    count = int(known["component"].max() or 0) if known.height else 0  # type: ignore[arg-type]
    values = np.full((len(columns), count), np.nan)
    words = np.full((len(columns), count), "", dtype=object)
    for row in known.iter_rows(named=True):
        if row["column"] in columns:
            cell = columns.index(row["column"]), row["component"] - 1
            values[cell] = row["explained"]
            words[cell] = f"chance {row['chance']:.2f}, p {row['p']:.2g}"
    figure = style.figure(theme, height=140 + 28 * len(columns))
    figure.add_heatmap(
        z=values,
        x=[str(k + 1) for k in range(count)],
        y=columns,
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        colorscale=style.SEQUENTIAL,
        colorbar={"title": {"text": "share explained", "side": "right"}, "thickness": 12, "outlinewidth": 0},
        texttemplate="%{z:.2f}",
        customdata=words,
        hovertemplate="%{y}, component %{x}: %{z:.2f}<br>%{customdata}<extra></extra>",
    )
    figure.update_xaxes(title_text="component", type="category", showgrid=False, ticks="")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    return figure


def _by_value(figure: go.Figure, frame: pl.DataFrame, x: str, y: str, colour: str, theme: Theme) -> None:
    """Adds one trace a value, in table order, so that a value keeps its colour; missing values are hollow."""
    values = frame[colour].unique(maintain_order=True).to_list()
    for index, value in enumerate(value for value in values if value is not None):
        symbol = style.SYMBOLS[(index // len(theme.series)) % len(style.SYMBOLS)]
        marker = {"color": style.colour_of(index, theme), "symbol": symbol}
        _points(figure, frame.filter(pl.col(colour) == value), x, y, name=str(value), marker=marker)
    missing = frame.filter(pl.col(colour).is_null())
    if missing.height:
        _points(figure, missing, x, y, name="not known", marker={"color": theme.quiet, "symbol": "circle-open"})
    figure.update_layout(legend={"title": {"text": colour, "side": "top"}})


def _points(figure: go.Figure, frame: pl.DataFrame, x: str, y: str, *, name: str, marker: Mapping[str, object]) -> None:
    figure.add_scatter(
        x=frame[x].to_list(),
        y=frame[y].to_list(),
        mode="markers",
        name=name,
        marker={"size": 9, "line": {"width": 0.5, "color": "#ffffff"}, **marker},
        customdata=frame["model"].to_list(),
        hovertemplate=f"%{{customdata}}<br>{name}<extra></extra>",
    )


def _axis(component: int, shares: Sequence[float]) -> str:
    known = component <= len(shares)
    return f"component {component}" + (f" ({style.percent(shares[component - 1])})" if known else " (none)")
