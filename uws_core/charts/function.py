"""Scores of rebuilt networks, against k or against the error of their weights."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme

_WAYS = {"held out": "unseen models", "in sample": "in sample (saw the model)"}


def scores(
    frame: pl.DataFrame,
    *,
    against: str = "k",
    relative: bool = True,
    untrained: float | None = None,
    theme: Theme = LIGHT,
) -> go.Figure:
    """The score of rebuilt networks against k or against the error of their weights: medians, and single networks.

    `frame` is `frames.reconstruction.scores`; `relative` divides by each network's own score. The originals, the mean
    alone (k = 0) and the reference are horizontal lines; `untrained` is the score of untrained networks.
    """
    figure = style.figure(theme, height=380)
    column = "kept_score" if relative else "score"
    known = frame.filter(pl.col(column).is_not_null())
    for way, colour, symbol in (("held out", 0, "circle"), ("in sample", 1, "square")):
        part = known.filter(pl.col("way") == way)
        if not part.is_empty():
            _scores(figure, part, against, column, _WAYS[way], style.colour_of(colour, theme), symbol)
    for way, name, dash in (("original", "originals", "dash"), ("reference", "the reference itself", "dot")):
        _level(figure, known.filter(pl.col("way") == way)[column], name, dash, theme)
    mean = known.filter((pl.col("way") == "held out") & (pl.col("k") == 0))[column]
    _level(figure, mean, "mean only", "dashdot", theme)
    if untrained is not None:
        _level(figure, pl.Series([untrained]), "untrained", "longdash", theme)
    figure.update_xaxes(title_text="directions kept" if against == "k" else "squared error of the weights, relative")
    if against != "k":
        figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(title_text="score kept" if relative else "score", tickformat=".0%" if relative else "")
    # One bad network (R2 has no lower bound) must not flatten all others.
    shown = known.filter(pl.col("way") != "reference")[column]
    low = float(shown.quantile(0.05) or 0.0)
    figure.update_yaxes(range=[max(min(low, 0.0), -0.3) - 0.03, max(float(shown.max() or 1.0), 1.0) + 0.06])  # type: ignore[arg-type]
    return figure


def _scores(
    figure: go.Figure, part: pl.DataFrame, against: str, column: str, name: str, colour: str, symbol: str
) -> None:
    """Adds every network as a faint mark, and the median of each k."""
    figure.add_scatter(
        x=part[against].to_numpy(),
        y=part[column].to_numpy(),
        mode="markers",
        marker={"color": colour, "size": 4, "opacity": 0.25, "symbol": symbol},
        text=part["model"].to_list(),
        hovertemplate="%{text}: %{y:.3~g}<extra></extra>",
        showlegend=False,
        name=f"{name}, single",
    )
    middle = part.group_by("k").agg(pl.col(against if against != "k" else "weight_error", column).median()).sort("k")
    figure.add_scatter(
        x=middle[against].to_numpy(),
        y=middle[column].to_numpy(),
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 2.2},
        marker={"symbol": symbol, "size": 8},
        customdata=middle["k"].to_numpy(),
        hovertemplate=f"{name}, k %{{customdata}}: %{{y:.3~g}}<extra></extra>",
    )


def _level(figure: go.Figure, scores: pl.Series, name: str, dash: str, theme: Theme) -> None:
    """Adds a median as a horizontal line, named in the legend."""
    middle = scores.median()
    if not isinstance(middle, float):
        return
    figure.add_shape(type="line", xref="x domain", x0=0, x1=1, y0=middle, y1=middle, line=_quiet(dash, theme))
    figure.add_scatter(x=[None], y=[None], mode="lines", line=_quiet(dash, theme), name=f"{name}, {middle:.2g}")


def _quiet(dash: str, theme: Theme) -> dict[str, object]:
    return {"color": theme.quiet, "width": 1.4, "dash": dash}
