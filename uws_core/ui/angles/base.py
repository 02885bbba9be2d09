"""The angles page with the base: each model's own directions against those the base is strongest in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.analysis.base_angles import base_angles, base_levels
from uws_core.answers.base_angles import answer
from uws_core.charts.angles import to_base
from uws_core.charts.style import Theme
from uws_core.export import Provenance
from uws_core.frames import angles
from uws_core.frames.angles import HELP
from uws_core.nouns.angles import BASE, Angles, ChanceLevel
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import figures, page, state
from uws_core.ui.angles import controls, data, reads, view
from uws_core.ui.page import Number

_FIGURE = "angles.base"
_TABLE = "angles.table.base"
DEFINITIONS = {
    "The base's directions": "The leading singular vectors of the base's own weights in this layer, about zero: what "
    "it does most strongly. Chance is k / D for k of its directions in D dimensions; the grey band holds 95 % of "
    "random ones. (Hu et al. 2021, section 7.3; Shuttleworth et al. 2024)",
    **view.DEFINITIONS,
}


@dataclass(frozen=True, slots=True)
class BaseResult:
    """Each model's angles to the base in the order of the list, with what chance gives for them."""

    labels: tuple[str, ...]
    every: tuple[Angles, ...]
    levels: tuple[ChanceLevel, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the numbers."""
        notes = dict.fromkeys(note for one in self.every for note in one.notes)
        return (*list(notes)[:1], *([f"{len(notes) - 1} more models have fewer too"] if len(notes) > 1 else []))

    def frame(self, attributes: Mapping[str, Sequence[object]] | None = None) -> pl.DataFrame:
        """Every number of the figure, a row a model."""
        return angles.to_base(self.labels, self.every, self.levels, attributes)

    def answer(self, query: AnglesQuery, location: str) -> str:
        """The sentence that answers the page's question."""
        return answer(self.every, self.levels, location=location, side=query.axis, about=query.about)


@st.cache_data(max_entries=48, max_size="128mb", show_spinner=False)
def base_result(query: AnglesQuery) -> BaseResult:
    """How these models' own directions lie to the base's.

    Raises:
        UwsError: the collection has no base with this layer, or a centre is not known.
    """
    factors = reads.factors(query, reads.collection_of(query))
    every = base_angles(factors, side=query.axis, kept=query.k)
    return BaseResult(factors.labels[:-1], every, base_levels(every), factors.left_out)


def numbers(result: BaseResult) -> list[Number]:
    """The numbers beside the answer, each with what chance gives."""
    frame = result.frame().drop_nulls("overlap")
    if frame.is_empty():
        return []
    middle = {name: float(np.median(frame[name].to_numpy())) for name in frame.columns if name != "name"}
    return [
        Number("Overlap", f"{middle['overlap']:.2g}", HELP["overlap"], f"chance: {middle['chance']:.2g}"),
        Number(
            "Mean angle",
            f"{middle['mean_degrees']:.0f}°",
            HELP["mean_degrees"],
            f"chance: {middle['chance_mean_degrees']:.0f}°",
        ),
        Number(
            "Beyond chance",
            f"{int((frame['overlap'] > frame['high']).sum())} of {frame.height}",
            "Models whose overlap with the base is above 97.5 % of random ones.",
            f"below: {int((frame['overlap'] < frame['low']).sum())}",
        ),
    ]


def about_note(query: AnglesQuery) -> str:
    """What the centre makes of the question, where another one asks the usual question."""
    if query.about != "mean":
        return ""
    return (
        "About their mean these are the directions that tell the models apart; with the base as the centre (Options) "
        "they are those that training changed"
    )


def nearest(result: BaseResult) -> int:
    """The model that overlaps most with the base."""
    return int(np.argmax([one.overlap if one.k else -1.0 for one in result.every]))


def figure(result: BaseResult, query: AnglesQuery, collection: Collection, source: Provenance) -> None:
    """A dot a model, in the order that is asked for; a click looks at the model."""
    frame, measure = ordered(result, query, collection), view.MEASURES[controls.measure()]
    figures.figure(
        f"Every model with the base: {measure.title}",
        partial(_dots, frame, measure.name, measure.title),
        frame,
        source,
        alt=f"The {measure.title} of every model's own directions with those of the base. {source.caption}",
        key=_FIGURE,
        on_select=_choose,
    )
    view.tell_floor(max(one.floor for one in result.every))
    st.caption("Click a dot to look at its model.")


def ordered(result: BaseResult, query: AnglesQuery, collection: Collection) -> pl.DataFrame:
    """The frame in the order that is asked for: by likeness the nearest to the base first."""
    groups = data.groups_of(collection, state.current().group, query.members)
    frame = result.frame(None if groups is None else {"group": groups})
    if controls.order() == "likeness":
        return frame.sort("overlap", descending=True, nulls_last=True, maintain_order=True)
    if controls.order() == "group" and groups is not None:
        return frame.sort("group", maintain_order=True)
    return frame


def table(frame: pl.DataFrame) -> None:
    """Every model with its numbers; choosing one looks at it."""
    with page.folded(f"Models ({frame.height} rows)", icon="table_rows", key="angles.rows") as unfolded:
        if not unfolded:
            return
        st.caption("Choose a row to look at its model.")
        st.dataframe(
            frame,
            hide_index=True,
            column_config=page.configs(frame, HELP),
            alt="Every model with its angles to the base",
            key=_TABLE,
            on_select=partial(_row, tuple(frame["name"].to_list())),
            selection_mode="single-row",
        )


def _choose() -> None:
    """The clicked dot's model is looked at."""
    picked = st.session_state.get(f"figure.{_FIGURE}") or {}
    points = picked.get("selection", {}).get("points", [])
    name = points[0].get("customdata") if points else None
    if isinstance(name, list):
        name = name[0] if name else None
    if isinstance(name, str):
        controls.look_at(name, BASE)


def _row(names: tuple[str, ...]) -> None:
    picked = st.session_state.get(_TABLE) or {}
    rows = picked.get("selection", {}).get("rows", [])
    if rows and 0 <= rows[0] < len(names):
        controls.look_at(names[rows[0]], BASE)


def _dots(frame: pl.DataFrame, measure: str, title: str, theme: Theme) -> go.Figure:
    return to_base(frame, measure=measure, title=title, theme=theme)
