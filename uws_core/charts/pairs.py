"""Two models side by side: the difference of every layer, with its effective rank."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme

# More names overlap.
MOST_NAMES = 60


def layers(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The relative difference of every layer as a bar, and the effective rank of the difference as a mark.

    `frame` is `frames.pairs.layers`. Bars of layers that do not differ are hollow; custom data is the layer's name.
    """
    figure = style.figure(theme, height=380)
    positions = list(range(frame.height))
    figure.add_bar(
        x=positions,
        y=frame["difference"].to_list(),
        name="difference",
        marker={
            "color": [theme.series[0] if differs else "rgba(0,0,0,0)" for differs in frame["differs"]],
            "line": {"color": theme.series[0], "width": 1},
        },
        customdata=frame["layer"].to_list(),
        text=[escape(_hover(row)) for row in frame.iter_rows(named=True)],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    if frame["effective_rank"].is_not_null().any():
        figure.add_scatter(
            x=positions,
            y=frame["effective_rank"].to_list(),
            yaxis="y2",
            mode="markers",
            name="effective rank",
            # An open triangle points up where the rank is a lower bound.
            marker={
                "size": 9,
                "color": theme.series[5],
                "symbol": ["triangle-up-open" if at_least else "diamond" for at_least in frame["at_least"]],
            },
            hoverinfo="skip",
        )
        # Its own ticks: those of the left axis would fall on odd numbers.
        right = {"overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero", "tickmode": "auto"}
        figure.update_layout(yaxis2={**right, "title": {"text": "effective rank of the difference"}})
    step = 1 + (frame.height - 1) // MOST_NAMES
    shown = positions[::step]
    figure.update_xaxes(
        tickvals=shown,
        ticktext=[escape(frame["short"][index]) for index in shown],
        tickangle=-90 if frame.height > 4 else 0,
        range=[-0.6, frame.height - 0.4],
        showgrid=False,
    )
    figure.update_yaxes(title_text="difference / mean norm", rangemode="tozero", selector={"overlaying": None})
    figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"}, margin_t=44, clickmode="event+select", dragmode=False)
    return figure


def _hover(row: dict[str, object]) -> str:
    if row["cosine"] is None or row["difference"] is None:
        return f"{row['short']}: not known"
    rank = row["effective_rank"]
    words = "" if rank is None else f", effective rank {'at least ' if row['at_least'] else ''}{rank:.1f}"
    return f"{row['short']}: difference {row['difference']:.3g}, cosine {row['cosine']:.3f}{words}"
