"""Figures of evidence: a number among draws of chance, all verdicts, growth with n, and the eigengap."""

from __future__ import annotations

from math import isfinite

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Finding, Verdict

Texts = NDArray[np.object_]
# Colour and mark say the same, so that colour is never the only channel.
MARKS = {Verdict.HOLDS: "●", Verdict.WEAK: "◐", Verdict.CHANCE: "○", Verdict.UNKNOWN: "?"}
MOST_MARKS = 400
NAMES = {
    "share": "share of the first directions",
    "rank": "directions for the chosen share",
    "effective_rank": "effective rank",
    "overlap": "overlap of halves",
    "captured": "captured share of held-out models",
}


def draws(finding: Finding, *, theme: Theme = LIGHT) -> go.Figure:
    """The models' number as a line among the draws of chance; a note where there is no test."""
    figure = style.figure(theme, height=280)
    if not finding.samples.size:
        note = {"text": finding.reason, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        figure.add_annotation(**note)
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        return figure
    figure.add_histogram(
        x=finding.samples, nbinsx=30, marker={"color": theme.quiet}, name=f"chance, {finding.draws} draws"
    )
    style.rule(figure, {"color": theme.series[0], "width": 3}, x=finding.value)
    # A shape has no legend entry, so an empty trace provides it.
    line = {"color": theme.series[0], "width": 3}
    score = f"z {finding.z:.1f}, p {finding.p:.2g}" if isfinite(finding.z) else f"p {finding.p:.2g}"
    figure.add_scatter(x=[None], y=[None], mode="lines", line=line, name=f"these models, {score}")
    form = ".2~%" if finding.about.form == "share" else ".3~g"
    figure.update_xaxes(title_text=finding.about.statistic, tickformat=form)
    figure.update_yaxes(title_text="draws")
    ends = [*finding.samples, finding.value]
    margin = 0.05 * (max(ends) - min(ends) or abs(finding.value) or 1.0)
    figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin])
    figure.update_layout(bargap=0.05, legend={"y": -0.4})
    return figure


def verdicts(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The verdict of every claim in every layer; `frame` is `frames.evidence.by_layer`.

    Filled marks hold, half-filled marks hold weakly, open marks are chance. Cells carry verdict and reason.
    """
    layers = frame["short"].unique(maintain_order=True).to_list()
    claims = [claim for claim in CLAIMS if claim in set(frame["claim"])]
    # Levels, words and marks of the verdicts, each (claims, layers).
    level = {str(verdict): index for index, verdict in enumerate(Verdict)}
    values = np.full((len(claims), len(layers)), np.nan)
    words = np.full(values.shape, "", dtype=object)
    marks = np.full(values.shape, "", dtype=object)
    for row in frame.iter_rows(named=True):
        cell = claims.index(row["claim"]), layers.index(row["short"])
        values[cell], words[cell] = level[row["verdict"]], f"{row['verdict']}: {row['reason']}"
        marks[cell] = MARKS[Verdict(row["verdict"])]
    figure = style.figure(theme, height=150 + 28 * len(claims))
    # Opaque ones: plotly chooses black or white marks by the colour without what lies behind it.
    colours = (theme.series[0], theme.series[4], theme.grid, theme.page)
    figure.add_heatmap(
        z=values,
        x=layers,
        y=[CLAIMS[claim].title for claim in claims],
        zmin=-0.5,
        zmax=3.5,
        xgap=2,
        ygap=2,
        showscale=False,
        # Equal, unmixed steps.
        colorscale=[((i + side) / 4, colour) for i, colour in enumerate(colours) for side in (0, 1)],
        customdata=words,
        hovertemplate="%{x}<br>%{y}<br>%{customdata}<extra></extra>",
        text=marks if values.size <= MOST_MARKS else None,
        texttemplate="%{text}" if values.size <= MOST_MARKS else None,
    )
    for verdict, colour in zip(Verdict, colours, strict=True):
        marker = {"symbol": "square", "size": 11, "color": colour, "line": {"color": theme.quiet, "width": 1}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{MARKS[verdict]} {verdict}")
    figure.update_xaxes(type="category", showgrid=False, ticks="", tickangle=-90 if len(layers) > 4 else 0)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    return figure


def curve(frame: pl.DataFrame, *, statistic: str, ceiling: bool = True, theme: Theme = LIGHT) -> go.Figure:
    """A statistic against the number of models, with the interval of the repeats, noise, and guide lines.

    `frame` is `frames.evidence.curve`. Ranks get the line n - 1, their upper bound; the captured share gets a guide for
    a remainder that falls as 1 / sqrt(n).
    """
    part = frame.filter((pl.col("statistic") == statistic) & pl.col("middle").is_not_null())
    figure = style.figure(theme, height=360)
    n, low, middle, high = (part[name].to_numpy() for name in ("models", "low", "middle", "high"))
    edge = {"color": theme.band, "width": 0.5}
    figure.add_scatter(x=n, y=high, mode="lines", line=edge, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=n,
        y=low,
        mode="lines",
        line=edge,
        fill="tonexty",
        fillcolor=theme.band,
        name="95 % of subsets",
        hoverinfo="skip",
    )
    line = {"color": theme.series[0], "width": 2}
    figure.add_scatter(x=n, y=middle, mode="lines+markers", line=line, name="these models, median")
    dashed = {"color": theme.quiet, "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=n, y=part["noise"].to_numpy(), mode="lines", line=dashed, name="noise, median")
    thin = {"color": theme.quiet, "width": 1, "dash": "dot"}
    if statistic in ("rank", "effective_rank") and ceiling:
        figure.add_scatter(x=n, y=n - 1, mode="lines", line=thin, name="n - 1, the most there can be")
    if statistic == "captured" and n.size:
        guide = 1 - (1 - middle[0]) * np.sqrt(n[0] / n)
        figure.add_scatter(x=n, y=guide, mode="lines", line=thin, name="if the rest fell as 1 / sqrt(n)")
    share = statistic in ("share", "overlap", "captured")
    figure.update_xaxes(title_text="models", type="log", tickvals=n.tolist(), ticktext=[str(size) for size in n])
    figure.update_yaxes(title_text=NAMES[statistic], rangemode="tozero", tickformat=".0%" if share else None)
    return figure


def determined(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The bound on the angles to the true subspace for every k; it is informative below 1/2.

    `frame` is `frames.evidence.determined`.
    """
    known = frame.filter(pl.col("bound").is_not_null())
    figure = style.figure(theme, height=320)
    line = {"color": theme.series[0], "width": 2}
    figure.add_scatter(
        x=known["k"].to_list(),
        y=known["bound"].to_list(),
        mode="lines+markers",
        line=line,
        name="bound on the sine",
        customdata=known["gap"].to_list(),
        hovertemplate="k = %{x}: %{y:.2f}, gap %{customdata:.2~%}<extra></extra>",
    )
    style.rule(figure, {"color": theme.ink, "width": 1.2, "dash": "dot"}, y=0.5)
    # A sine is at most 1, so a bound in the shaded range says nothing.
    style.stripe(figure, theme, y=(1, 1e6))
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
    figure.update_yaxes(title_text="sine, at most", type="log", range=[-1.3, 1.3], tickvals=ticks)
    figure.update_xaxes(title_text="directions kept, k")
    return figure
