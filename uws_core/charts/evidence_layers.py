"""One claim in every layer: its number, marked by the verdict, over the range of chance."""

from __future__ import annotations

from html import escape
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Verdict

# Symbol, as near as plotly has it to the mark of the table, and index into the theme's colours; -2 is the ink.
_SYMBOLS = {
    Verdict.HOLDS: ("circle", 0),
    Verdict.WEAK: ("circle-open-dot", 0),
    Verdict.CHANCE: ("circle-open", 5),
    Verdict.UNKNOWN: ("diamond-open", -2),
}
# More names overlap.
MOST_NAMES = 60


def layers(frame: pl.DataFrame, claim: str, *, theme: Theme = LIGHT) -> go.Figure:
    """The claim's number in every layer, over the range of 95 % of the draws in that layer.

    `frame` is `frames.evidence.by_layer`; layers without a number have no mark.
    """
    part, about = frame.filter(pl.col("claim") == claim), CLAIMS[claim]
    figure = style.figure(theme, height=360)
    form = ".3~%" if about.form == "share" else ".3~g"
    _chance(figure, part, theme)
    for verdict, (symbol, series) in _SYMBOLS.items():
        judged = (part["verdict"] == verdict.value).to_numpy() & part["value"].is_not_null().to_numpy()
        rows = np.flatnonzero(judged)
        if not rows.size:
            continue
        figure.add_scatter(
            x=rows,
            y=part["value"].to_numpy()[rows],
            mode="markers",
            name=verdict.value,
            marker={"symbol": symbol, "size": 9, "color": theme.series[series], "line": {"width": 2}},
            customdata=[escape(part["short"][int(row)]) for row in rows],
            hovertemplate=f"%{{customdata}}: %{{y:{form}}}<extra>{verdict.value}</extra>",
        )
    step = 1 + (part.height - 1) // MOST_NAMES
    shown = range(0, part.height, step)
    figure.update_xaxes(
        tickvals=list(shown),
        ticktext=[escape(part["short"][index]) for index in shown],
        tickangle=-90 if part.height > 4 else 0,
        range=[-0.6, part.height - 0.4],
        showgrid=False,
    )
    title = "<br>".join(wrap(about.statistic, 38))
    figure.update_yaxes(title_text=title, tickformat=form, rangemode="tozero", title_font_size=12)
    # The legend is above: the layer names below can be long.
    figure.update_layout(showlegend=True, legend={"y": 1.02, "yanchor": "bottom"}, margin_t=44)
    return figure


def _chance(figure: go.Figure, part: pl.DataFrame, theme: Theme) -> None:
    known = part["chance"].is_not_null().to_numpy()
    if not known.any():
        return
    low, middle, high = (part[name].to_numpy()[known] for name in ("low", "chance", "high"))
    bar = {
        "type": "data",
        "symmetric": False,
        "array": high - middle,
        "arrayminus": middle - low,
        "color": theme.quiet,
        "thickness": 4,
        "width": 0,
    }
    figure.add_scatter(
        x=np.flatnonzero(known),
        y=middle,
        mode="markers",
        name="chance, 95 %",
        marker={"symbol": "line-ew-open", "size": 11, "color": theme.quiet, "line": {"width": 2}},
        error_y=bar,
        hoverinfo="skip",
    )
