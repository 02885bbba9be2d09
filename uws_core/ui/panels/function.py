"""What rebuilt networks can still do: scores against k and against the error of their weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.charts import function as charts
from uws_core.charts.style import Theme
from uws_core.export import Provenance
from uws_core.frames import reconstruction as frames
from uws_core.frames.reconstruction import HELP
from uws_core.nouns.models import Collection
from uws_core.nouns.views import RebuildQuery
from uws_core.ui import figures, job_panel, page, tasks
from uws_core.ui.serve import function as serve


def panel(query: RebuildQuery, collection: Collection, source: Provenance) -> None:
    """The scores of the rebuilt networks, or a button that makes them; nothing where they cannot be scored."""
    if not serve.possible(query.collection):
        return
    st.subheader("Function against weight error", anchor=False)
    st.caption(
        f"Every network rebuilt in {len(query.layers)} layers at once and tried on the 450 test pictures of its task. "
        "From Python, any collection can be scored with a function of your own."
    )
    task = serve.task(query, collection)
    done = job_panel.task_panel(task, tasks.peek(task))
    frame = frames.scores(serve.points(query))
    if frame.is_empty():
        return
    if not done:
        st.caption(f"{frame['model'].n_unique()} of {len(query.members)} networks are scored so far.")
    _problems(frame)
    _figures(frame, serve.untrained(collection, query.members), _source(source, query, collection, frame))
    page.table(frame, HELP, label="Scores", percent=("weight_error", "kept_score"))


def _figures(frame: pl.DataFrame, untrained: float | None, source: Provenance) -> None:
    """Against k and against the error of the weights, side by side."""
    for column, against, title in zip(
        st.columns(2, gap="medium"),
        ("k", "weight_error"),
        ("Score against k", "Score against weight error"),
        strict=True,
    ):
        with column:
            figures.figure(
                title,
                partial(_scores, frame, against, untrained),
                frame,
                replace(source, name=f"{title} {source.name}", caption=f"{title}. {source.caption}"),
                alt=f"Score of rebuilt networks relative to the originals, against {against}",
                key=f"scores.{against}",
            )


def _source(source: Provenance, query: RebuildQuery, collection: Collection, frame: pl.DataFrame) -> Provenance:
    """Where the figures come from: all layers at once, whatever the rest of the page is about."""
    n, held = frame["model"].n_unique(), f"with each {query.group or 'model'} held out and in sample"
    return replace(
        source,
        name=f"{collection.name} {query.axis} {len(query.layers)} layers",
        caption=f"{n} networks rebuilt in {len(query.layers)} layers at once on the {query.axis} axis, {held}; scores "
        "relative to each network's own.",
        layers=query.layers,
        left_out=(*collection.left_out, *serve.left_out(query)),
    )


def _problems(frame: pl.DataFrame) -> None:
    failed = frame.filter(pl.col("problem").is_not_null())
    if failed.height:
        first = failed.row(0, named=True)
        st.caption(
            f":material/info: {failed['model'].n_unique()} networks could not be scored, the first of them "
            f"{page.plain(str(first['model']))}: {page.plain(str(first['problem']))}"
        )


def _scores(frame: pl.DataFrame, against: str, untrained: float | None, theme: Theme) -> go.Figure:
    return charts.scores(frame, against=against, untrained=untrained, theme=theme)
