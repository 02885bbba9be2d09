"""Principal angles of one pair, of random halves, and to the base, against chance."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

from uws_core.charts import style
from uws_core.charts.plain import parts_of
from uws_core.charts.style import LIGHT, Theme

# More names overlap on a narrow screen.
MOST_NAMES = 24
_FORMS = ("circle", "diamond", "square", "triangle-up")


def pair(frame: pl.DataFrame, *, floor_degrees: float = 0.0, theme: Theme = LIGHT) -> go.Figure:
    """The angles of one pair, ascending, over the band of random subspaces; `frame` is `frames.angles.pair`."""
    figure = style.figure(theme, height=300)
    x = frame["angle"].to_numpy()
    _band(figure, frame, theme)
    degrees = frame["degrees"].to_numpy()
    resolved = degrees > floor_degrees
    figure.add_scatter(
        x=x,
        y=degrees,
        mode="lines+markers",
        name="this pair",
        line={"color": theme.series[0], "width": 2},
        # Angles below the floor are grey and hollow: symbol and colour both show it.
        marker={
            "size": 7,
            "color": np.where(resolved, theme.series[0], theme.quiet),
            "symbol": np.where(resolved, "circle", "circle-open"),
        },
        text=np.where(resolved, "", f", below the floor of {floor_degrees:.2g}°"),
        hovertemplate="angle %{x}: %{y:.4~g}°%{text}<extra></extra>",
    )
    if floor_degrees > 0.5:
        style.stripe(figure, theme, y=(0, floor_degrees))
    return _angle_axes(figure, x)


def halves(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The angles of every random split as faint lines with their median, over the band of random subspaces."""
    figure = style.figure(theme, height=420)
    first = frame.filter(pl.col("repeat") == 1)
    _band(figure, first, theme)
    for index, (_, part) in enumerate(frame.group_by("repeat", maintain_order=True)):
        figure.add_scatter(
            x=part["angle"].to_numpy(),
            y=part["degrees"].to_numpy(),
            mode="lines",
            name="one split",
            showlegend=index == 0,
            line={"color": theme.quiet, "width": 0.7},
            opacity=0.5,
            hoverinfo="skip",
        )
    middle = frame.group_by("angle").agg(pl.col("degrees").median()).sort("angle")
    figure.add_scatter(
        x=middle["angle"].to_numpy(),
        y=middle["degrees"].to_numpy(),
        mode="lines+markers",
        name="median of the splits",
        line={"color": theme.series[0], "width": 2.2},
        hovertemplate="angle %{x}: %{y:.3~g}°<extra></extra>",
    )
    return _angle_axes(figure, middle["angle"].to_numpy())


def to_base(frame: pl.DataFrame, *, measure: str, title: str, theme: Theme = LIGHT) -> go.Figure:
    """Each model's angle to, or overlap with, the base as a dot, in the frame's order, with the chance level.

    `frame` is `frames.angles.to_base`; its column `group`, where there is one, colours the dots; `measure` is a column.
    A dot's custom data is the model's name.
    """
    figure = style.figure(theme, height=420)
    places = np.arange(frame.height)
    # Adds the mean of random directions as a dashed line, and for the overlap the range of 95 % of them.
    column = {"overlap": "chance"}.get(measure, f"chance_{measure}")
    if measure == "overlap":
        edge = {"color": theme.band, "width": 0.5, "shape": "hvh"}
        low, high = frame["low"].to_numpy(), frame["high"].to_numpy()
        figure.add_scatter(x=places, y=high, mode="lines", line=edge, showlegend=False, hoverinfo="skip")
        fill = {"fill": "tonexty", "fillcolor": theme.band, "name": "random, 95 %", "hoverinfo": "skip"}
        figure.add_scatter(x=places, y=low, mode="lines", line=edge, **fill)
    line = {"color": theme.quiet, "width": 1.2, "dash": "dash", "shape": "hvh"}
    figure.add_scatter(
        x=places, y=frame[column].to_numpy(), mode="lines", line=line, name="random, on average", hoverinfo="skip"
    )
    groups = frame["group"].to_list() if "group" in frame.columns else [""] * frame.height
    for index, group in enumerate(sorted(set(groups))):
        rows = np.array([row for row, name in enumerate(groups) if name == group])
        names = frame["name"].gather(rows).to_list()
        figure.add_scatter(
            x=places[rows],
            y=frame[measure].gather(rows).to_numpy(),
            mode="markers",
            name=group or "a model",
            # Colours repeat after eight; then the symbol differs.
            marker={"size": 8, "color": style.colour_of(index, theme), "symbol": _FORMS[index // 8 % len(_FORMS)]},
            customdata=names,
            hovertemplate=f"%{{customdata}}<br>{title}: %{{y:.3~g}}<extra>{group}</extra>",
        )
    most = (
        93.0
        if measure != "overlap"
        else 1.08 * max(*frame["overlap"].drop_nulls(), *frame["high"].drop_nulls(), 0.01, 0.0)
    )
    ticks = {"tickvals": places, "ticktext": frame["name"].to_list(), "tickangle": -90}
    named = ticks if frame.height <= MOST_NAMES else {"showticklabels": False}
    figure.update_xaxes(title_text="model", showgrid=False, range=[-0.6, frame.height - 0.4], **named)
    figure.update_yaxes(title_text=f"{title}, with the base", range=[0, most])
    figure.update_layout(clickmode="event+select", dragmode=False)
    style.long_legend(figure)
    return figure


def cosines(frame: pl.DataFrame, *, names: tuple[str, str], theme: Theme = LIGHT) -> go.Figure:
    """The squared cosine of every direction of one with every of the other; `frame` is `frames.angles.cosines`."""
    figure = style.figure(theme, height=300)
    rows, columns = frame["left_direction"].n_unique(), frame["right_direction"].n_unique()
    values = frame["cosine"].to_numpy().reshape(rows, columns) ** 2
    figure.add_heatmap(
        z=values,
        x=np.arange(1, columns + 1),
        y=np.arange(1, rows + 1),
        zmin=0,
        zmax=1,
        colorscale=style.SEQUENTIAL,
        colorbar={"title": {"text": "squared cosine", "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"{names[0]} %{{y}}, {names[1]} %{{x}}: %{{z:.3f}}<extra></extra>",
    )
    figure.update_xaxes(title_text=f"direction of {names[1]}", showgrid=False, **_whole(columns))
    figure.update_yaxes(title_text=f"direction of {names[0]}", autorange="reversed", showgrid=False, **_whole(rows))
    return figure


def _band(figure: go.Figure, frame: pl.DataFrame, theme: Theme) -> None:
    part = frame.filter(pl.col("middle").is_not_null())
    if part.is_empty():
        return
    x, low, middle, high = (part[name].to_numpy() for name in ("angle", "low", "middle", "high"))
    edge = {"color": theme.band, "width": 0.5}
    figure.add_scatter(x=x, y=high, mode="lines", line=edge, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=x, y=low, mode="lines", line=edge, fill="tonexty", fillcolor=theme.band, name="random, 95 %", hoverinfo="skip"
    )
    line = {"color": theme.quiet, "width": 1.2, "dash": "dash"}
    figure.add_scatter(
        x=x, y=middle, mode="lines", line=line, name="random, median", hovertemplate="random: %{y:.3~g}°<extra></extra>"
    )


def _angle_axes(figure: go.Figure, x: NDArray[np.int64]) -> go.Figure:
    last = int(x.max()) if x.size else 1
    figure.update_xaxes(title_text="principal angle", range=[0.5, last + 0.5], dtick=max(1, last // 10))
    figure.update_yaxes(title_text="degrees", range=[0, 93], tickvals=[0, 15, 30, 45, 60, 75, 90])
    # The offset of the legend is a share of the height, so it is larger in low figures.
    figure.update_layout(legend={"y": -90 / parts_of(figure)["layout"]["height"]})
    return figure


def _whole(count: int) -> dict[str, object]:
    """Ticks at whole numbers of directions."""
    return {"tick0": 1, "dtick": max(1, -(-count // 10))}
