"""Scores of rebuilt networks against k and against the error of their weights, for the built-in collections."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.charts.function import scores
from uws_core.charts.style import Theme
from uws_core.errors import StoreError
from uws_core.export import Provenance
from uws_core.frames import reconstruction
from uws_core.frames.reconstruction import HELP
from uws_core.jobs import Report
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import FunctionPoint
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.query import Query, RebuildQuery
from uws_core.store.codec import MATH_VERSION, sequence_from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import figures, grams, job_panel, page, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.reconstruction.data import kept_on
from uws_core.ui.reconstruction.folds import group_labels, groups
from uws_core.zoo.demo import DEMOS, PREFIX

# One call of the tiny networks' evaluator, and rebuilding one of them.
_SECONDS_PER_SCORE = 0.025
MOST_KS = 8


def possible(collection_id: str) -> bool:
    """Whether the networks of a collection can be scored here: whole networks of a built-in collection."""
    demo = DEMOS.get(collection_id.removeprefix(PREFIX)) if collection_id.startswith(PREFIX) else None
    return demo is not None and demo.scored and demo.name != "lora"


def task(query: RebuildQuery, collection: Collection) -> tasks.Task:
    """Rebuilding and scoring every chosen network at about eight ks."""
    n, points = len(query.members), 2 + 2 * len(_kept(query, collection))
    return tasks.Task(
        key=tasks.key_of("scores", *_asked(query, collection)),
        title=f"Rebuilding and scoring {n} networks",
        seconds=n * points * _SECONDS_PER_SCORE,
        # Small networks: what takes the time is trying them, so progress counts networks.
        bytes=0,
        work=lambda report: _score(query, collection, report),
    )


def points(query: RebuildQuery) -> tuple[FunctionPoint, ...]:
    """The scores there are, possibly of some networks only while the rest is under way or was stopped."""
    collection = catalogue().get(query.collection)
    raw = default_store().get(_key(query, collection)) if collection is not None else None
    if collection is None or raw is None:
        return ()
    with suppress(StoreError, ValueError, IndexError):
        return tuple(
            replace(point, model=collection.labels[int(point.model)])
            for point in sequence_from_bytes(FunctionPoint, raw)
        )
    return ()


def left_out(query: RebuildQuery) -> tuple[LeftOut, ...]:
    """Which networks take no part in which of the rebuilt layers; only of layers that were read already."""
    collection = catalogue().get(query.collection)
    if collection is None or grams.missing(collection, query.layers):
        return ()
    return grams.left_out(Query(query.collection, query.fingerprint, query.members, query.layers))


def untrained(collection: Collection, members: tuple[int, ...]) -> float | None:
    """The median of what networks that never learned reach, relative to the chosen ones of the same names."""
    other = catalogue().get(f"{PREFIX}untrained")
    if other is None or "test_score" not in collection.table:
        return None
    fresh = dict(zip(other.labels, other.table["test_score"], strict=True))
    pairs = [(fresh.get(collection.labels[row]), collection.table["test_score"][row]) for row in members]
    ratios = [a / b for a, b in pairs if isinstance(a, float) and isinstance(b, float) and b > 0]
    return float(np.median(ratios)) if ratios else None


def _score(query: RebuildQuery, collection: Collection, report: Report) -> None:
    """Scores every network; what is done goes to the store after each network."""
    # torch is loaded only where weights are read.
    from uws_core.passes.function import FunctionQuestion, function_errors
    from uws_core.zoo.evaluate import evaluate

    question = FunctionQuestion(
        layers=tuple(collection.by_name[name] for name in query.layers),
        kept=_kept(query, collection),
        groups=groups(query, collection),
        members=query.members,
        axis=Axis(query.axis),
        about=query.about,
        reference=query.reference,
    )
    asked = Query(query.collection, query.fingerprint, query.members, query.layers)
    every = {gram.layer.name: gram for gram in grams.of(asked)}
    found: list[FunctionPoint] = []

    rows = {label: str(row) for row, label in enumerate(collection.labels)}

    def noted(fraction: float, message: str) -> None:
        default_store().put(_key(query, collection), to_bytes(found))
        report(fraction, message)

    for point in function_errors(collection, evaluate, question, grams=every, report=noted):
        found.append(replace(point, model=rows[point.model]))


def _kept(query: RebuildQuery, collection: Collection) -> tuple[int, ...]:
    """About eight numbers of directions, from the mean alone to all there are."""
    every = np.array(kept_on(query, collection))
    most = int(every.max(initial=0))
    wanted = np.unique(np.round(np.geomspace(1, max(most, 1), MOST_KS - 1)).astype(int))
    nearest = {int(every[np.abs(every - k).argmin()]) for k in wanted}
    return tuple(sorted(nearest | {0}))


def _asked(query: RebuildQuery, collection: Collection) -> tuple[object, ...]:
    """The query with what an edited table changes: what is held out together, and the task that is tried."""
    tasks = collection.table.get("task", ())
    return replace(query, collection="", own=False), group_labels(query, collection), tuple(map(repr, tasks))


def _key(query: RebuildQuery, collection: Collection) -> str:
    return f"scores/{MATH_VERSION}/{tasks.key_of('points', *_asked(query, collection))}"


def panel(query: RebuildQuery, collection: Collection, source: Provenance) -> None:
    """The scores of the rebuilt networks, or a button that makes them; nothing where they cannot be scored."""
    if not possible(query.collection):
        return
    st.subheader("Function against weight error", anchor=False)
    st.caption(
        f"Every network rebuilt in {len(query.layers)} layers at once and tried on the 450 test pictures of its task. "
        "From Python, any collection can be scored with a function of your own."
    )
    scoring = task(query, collection)
    done = job_panel.task_panel(scoring, tasks.peek(scoring))
    frame = reconstruction.scores(points(query))
    if frame.is_empty():
        return
    if not done:
        st.caption(f"{frame['model'].n_unique()} of {len(query.members)} networks are scored so far.")
    failed = frame.filter(pl.col("problem").is_not_null())
    if failed.height:
        first = failed.row(0, named=True)
        st.caption(
            f":material/info: {failed['model'].n_unique()} networks could not be scored, the first of them "
            f"{page.plain(str(first['model']))}: {page.plain(str(first['problem']))}"
        )
    _figures(frame, untrained(collection, query.members), _source(source, query, collection, frame))
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
        left_out=(*collection.left_out, *left_out(query)),
    )


def _scores(frame: pl.DataFrame, against: str, untrained: float | None, theme: Theme) -> go.Figure:
    return scores(frame, against=against, untrained=untrained, theme=theme)
