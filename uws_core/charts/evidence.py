"""Figures of evidence: a number among draws of chance, all verdicts at one glance, growth with n, the eigengap."""

from __future__ import annotations

from math import isfinite

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.arrays import Floats
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Finding, Verdict

# Colour and letter say the same, so that neither is needed alone.
Texts = NDArray[np.object_]
MARKS = {Verdict.HOLDS: "●", Verdict.WEAK: "◐", Verdict.CHANCE: "○", Verdict.UNKNOWN: "?"}
MOST_MARKS = 400
NAMES = {
    "share": "share of the first directions",
    "rank": "directions for the chosen share",
    "effective_rank": "effective rank",
    "overlap": "overlap of halves",
    "captured": "captured share of held-out models",
}


def draws(found: Finding, *, theme: Theme = LIGHT) -> go.Figure:
    """What the models show as a line among what the draws of chance show; nothing but a note where there is no test."""
    figure = style.figure(theme, height=280)
    if not found.samples.size:
        note = {"text": found.reason, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        figure.add_annotation(**note)
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        return figure
    figure.add_histogram(x=found.samples, nbinsx=30, marker={"color": theme.quiet}, name=f"chance, {found.draws} draws")
    style.rule(figure, {"color": theme.series[0], "width": 3}, x=found.value)
    # A line has no place in the legend, so an empty trace stands for it.
    line = {"color": theme.series[0], "width": 3}
    figure.add_scatter(x=[None], y=[None], mode="lines", line=line, name=f"these models, {_score(found)}")
    form = ".2~%" if found.about.form == "share" else ".3~g"
    figure.update_xaxes(title_text=found.about.statistic, tickformat=form)
    figure.update_yaxes(title_text="draws")
    ends = [*found.samples, found.value]
    margin = 0.05 * (max(ends) - min(ends) or abs(found.value) or 1.0)
    figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin])
    figure.update_layout(bargap=0.05, legend={"y": -0.4})
    return figure


def verdicts(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """Every claim in every layer at one glance; `frame` is that of `frames.evidence.by_layer`.

    Filled marks hold, half filled ones hold weakly, open ones are chance. Cells carry claim and layer as custom data.
    """
    layers = frame["short"].unique(maintain_order=True).to_list()
    claims = [claim for claim in CLAIMS if claim in set(frame["claim"])]
    values, words, marks = _cells(frame, claims, layers)
    figure = style.figure(theme, height=150 + 28 * len(claims))
    colours = (theme.series[0], theme.series[4], theme.band, "rgba(0,0,0,0)")
    figure.add_heatmap(
        z=values,
        x=layers,
        y=[CLAIMS[claim].title for claim in claims],
        zmin=-0.5,
        zmax=3.5,
        xgap=2,
        ygap=2,
        showscale=False,
        colorscale=_steps(colours),
        customdata=words,
        hovertemplate="%{x}<br>%{y}<br>%{customdata}<extra></extra>",
    )
    if values.size <= MOST_MARKS:
        figure.data[0].text = marks
        figure.data[0].texttemplate = "%{text}"
    for verdict, colour in zip(Verdict, colours, strict=True):
        marker = {"symbol": "square", "size": 11, "color": colour, "line": {"color": theme.quiet, "width": 1}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{MARKS[verdict]} {verdict}")
    figure.update_xaxes(type="category", showgrid=False, ticks="", tickangle=-90 if len(layers) > 4 else 0)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    return figure


def _cells(frame: pl.DataFrame, claims: list[str], layers: list[str]) -> tuple[Floats, Texts, Texts]:
    """The verdicts' levels, words and marks, each (claims, layers)."""
    level = {str(verdict): place for place, verdict in enumerate(Verdict)}
    values = np.full((len(claims), len(layers)), np.nan)
    words = np.full(values.shape, "", dtype=object)
    marks = np.full(values.shape, "", dtype=object)
    for row in frame.iter_rows(named=True):
        place = claims.index(row["claim"]), layers.index(row["short"])
        values[place], words[place] = level[row["verdict"]], f"{row['verdict']}: {row['reason']}"
        marks[place] = MARKS[Verdict(row["verdict"])]
    return values, words, marks


def curve(frame: pl.DataFrame, *, statistic: str, ceiling: bool = True, theme: Theme = LIGHT) -> go.Figure:
    """A number against the number of models, with the interval of the repeats, noise, and guides.

    `frame` is that of `frames.evidence.curve`. Ranks get the line n - 1, which no number of models can exceed; the
    share that is not captured gets the guide 1 / sqrt(n).
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
    _guide(figure, n, middle, statistic, ceiling=ceiling, theme=theme)
    share = statistic in ("share", "overlap", "captured")
    figure.update_xaxes(title_text="models", type="log", tickvals=n.tolist(), ticktext=[str(size) for size in n])
    figure.update_yaxes(title_text=NAMES[statistic], rangemode="tozero", tickformat=".0%" if share else None)
    return figure


def determined(frame: pl.DataFrame, *, theme: Theme = LIGHT) -> go.Figure:
    """The bound on the angles to the true subspace for every k, and where it says something: below 1/2.

    `frame` is that of `frames.evidence.determined`.
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
    # A sine is at most 1 anyway: a bound in the shaded range says nothing.
    style.stripe(figure, theme, y=(1, 1e6))
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
    figure.update_yaxes(title_text="sine, at most", type="log", range=[-1.3, 1.3], tickvals=ticks)
    figure.update_xaxes(title_text="directions kept, k")
    return figure


def _guide(figure: go.Figure, n: Floats, middle: Floats, statistic: str, *, ceiling: bool, theme: Theme) -> None:
    thin = {"color": theme.quiet, "width": 1, "dash": "dot"}
    if statistic in ("rank", "effective_rank") and ceiling:
        figure.add_scatter(x=n, y=n - 1, mode="lines", line=thin, name="n - 1, the most there can be")
    if statistic == "captured" and n.size:
        guide = 1 - (1 - middle[0]) * np.sqrt(n[0] / n)
        figure.add_scatter(x=n, y=guide, mode="lines", line=thin, name="if the rest fell as 1 / sqrt(n)")


def _steps(colours: tuple[str, ...]) -> list[tuple[float, str]]:
    """A colour scale of equal steps without mixtures."""
    count = len(colours)
    return [((place + side) / count, colour) for place, colour in enumerate(colours) for side in (0, 1)]


def _score(found: Finding) -> str:
    return f"z {found.z:.1f}, p {found.p:.2g}" if isfinite(found.z) else f"p {found.p:.2g}"
