"""The groups of the lineage page, copies and outliers, the map of models, and what columns explain of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.analysis.model_map import neighbours
from uws_core.analysis.training_run import training_steps
from uws_core.charts import lineage
from uws_core.charts.style import Theme
from uws_core.export import Provenance
from uws_core.frames import lineage as frames
from uws_core.nouns.models import Collection, Value
from uws_core.ui import figures, page, state, tokens
from uws_core.ui.lineage import controls
from uws_core.ui.lineage.data import LineageResult
from uws_core.ui.merge.link import offer
from uws_core.ui.selection import Selection

FOUND = "group found here"
# The column of the map's frame in whose order the models of a training run are joined.
PATH = "training_step"
ALONE = "alone"
ONE_GROUP = "All models are in one group"
# More reasons than this are read in the table.
_MOST_REASONS = 5
# More groups than this are not told apart by colour.
_MOST_COLOURED = 9
_MOST_VALUES = lineage.MOST_COLOURS


def groups(result: LineageResult, selection: Selection, collection: Collection) -> None:
    """The groups, and buttons that choose one of them, or one model of each, on every page."""
    family = result.family
    frame = frames.groups(family)
    st.markdown("**Groups**")
    one_each = "" if result.divided else ONE_GROUP if family.sizes.size == 1 else "Every model is alone"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        names = {number: _size(number, int(models)) for number, models in frame.select("group", "models").iter_rows()}
        group = st.selectbox("Group", list(names), format_func=lambda number: names[number], width=150, key="kin.group")
        _use(
            "Use this group",
            tokens.tokens_for(collection, [int(row) for row in family.of_group(group - 1)]),
            why=_why_not(result, group),
            key="kin.use",
        )
        _use(
            "Use one of each group",
            tokens.tokens_for(collection, [int(row) for row in family.one_each]),
            why=one_each,
            key="kin.each",
        )
        offer(
            "Merge one of each group",
            tokens.tokens_for(collection, [int(row) for row in family.one_each]),
            why=one_each,
            key="kin.merge",
        )
        if selection.members:
            st.button("Use all models", on_click=state.set_selection, kwargs={"members": ()}, key="kin.all")
    st.dataframe(
        frame,
        hide_index=True,
        height=page.height(frame.height, most=215),
        column_order=("group", "models", "representative", "mean_cosine", "share"),
        column_config=page.configs(frame, frames.HELP, percent=("share",)),
        alt="Groups of models, the largest first",
    )


def outliers(result: LineageResult) -> None:
    """Copies and outliers, each with the reason in words."""
    family = result.family
    found, copies = frames.outliers(family), frames.duplicates(family)
    st.markdown("**Copies and outliers**")
    if found.is_empty() and copies.is_empty():
        apart = "no model stands apart from the others" if family.sizes[0] > 1 else "all are without relatives alike"
        st.caption(f"None: no two models are nearly the same, and {apart}.")
    for one in family.outliers[:_MOST_REASONS]:
        st.markdown(f"**{page.plain(one.model)}**, {one.kind}: {page.plain(one.reason)}")
    if found.height:
        page.table(found, frames.HELP, label="Outliers")
    if copies.height:
        config = page.configs(copies, frames.HELP)
        st.dataframe(copies, hide_index=True, column_config=config, alt="Pairs of models that are nearly the same")


def model_map(result: LineageResult, selection: Selection, source: Provenance) -> None:
    """The models as points along their leading components, coloured by an attribute."""
    offered = {name: name for name, values in columns(result).items() if _colours(values)}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        colour = controls.colour(offered, selection)
        key = f"kin.model.{selection.collection}"
        chosen = st.selectbox(
            "Model",
            result.family.labels,
            key=key,
            width=190,
            help="It gets a ring, and its nearest models are named below. Clicking a point chooses it too.",
        )
    if not result.points.shares.size:
        st.caption("No map of models: they do not differ here, so all of them are one point.")
        return
    steps = training_steps(result.points.labels, result.table)
    given = columns(result) | ({PATH: list(steps)} if steps else {})
    # In the order of the strip over the cosines, so that a value has one colour in both.
    frame = frames.points(result.points, given).sort(pl.col(colour).cast(pl.String), nulls_last=True)
    path = f", joined from step {min(steps):g} to step {max(steps):g} of their training" if steps else ""
    figures.figure(
        f"Map of models, about their mean{path}",
        partial(_model_map, frame, tuple(result.points.shares), colour, chosen),
        frame,
        named(source, "map", without=tuple(result.table)),
        alt=f"Models as points along their first two components, coloured by {colour}{path}",
        key="map",
        on_select=partial(_choose_point, key),
    )
    near = neighbours(result.family, chosen, count=5)
    words = ", ".join(f"{page.plain(name)} {cosine:.2f}" for name, cosine in near)
    bold = f"**{page.plain(chosen)}**"
    st.caption(f"Nearest to {bold}, with cosines: {words}." if near else f"{bold} has no direction here.")


def attributes(result: LineageResult, source: Provenance) -> None:
    """Which column of the models table explains the groups and the components."""
    if not result.table:
        st.caption("No column of a models table to compare with: put a `models.csv` beside the models.")
        return
    frame = frames.explained(result.explained)
    if frame["explained"].is_not_null().any():
        title = "What each column explains of each component"
        draw = partial(_explained, frame)
        figures.figure(title, draw, frame, named(source, "explained"), alt=f"Heatmap: {title}", key="explained")
    if result.family.sizes.size == 1:
        st.caption(f"{ONE_GROUP}, so no column can say who is in which.")
        return
    overlap = frames.overlaps(result.overlaps).with_columns(pl.col("note").fill_null(""))
    st.markdown("**Which column explains the groups**")
    config = page.configs(overlap, frames.HELP)
    st.dataframe(overlap, hide_index=True, column_config=config, alt="Agreement of each column with the groups")


def named(source: Provenance, part: str, *, without: tuple[str, ...] = ()) -> Provenance:
    """Where one figure of the page comes from, under a name of its own; `without` are columns of the models table."""
    told = {name: text for name, text in source.columns.items() if name not in without}
    return replace(source, name=f"{source.name} {part}", columns=told)


def columns(result: LineageResult) -> dict[str, list[Value]]:
    """What can colour the models: the groups found, then the table's columns; one value a model of the lineage."""
    sizes = result.family.sizes
    own: list[Value] = [_group_name(int(group), int(sizes[group])) for group in result.family.groups]
    return {FOUND: own} | {name: list(values) for name, values in result.table.items()}


def _choose_point(key: str) -> None:
    """The clicked point's model becomes the chosen one."""
    picked = st.session_state.get("figure.map") or {}
    points = picked.get("selection", {}).get("points", [])
    if points and isinstance(points[0].get("customdata"), str):
        st.session_state[key] = points[0]["customdata"]


def _use(label: str, members: tuple[str, ...], *, why: str, key: str) -> None:
    st.button(
        label, on_click=state.set_selection, kwargs={"members": members}, disabled=bool(why), help=why or None, key=key
    )


def _why_not(result: LineageResult, group: int) -> str:
    """Why one group is no choice of its own, or nothing."""
    if result.family.sizes.size == 1:
        return ONE_GROUP
    return "One model alone has nothing to be compared with" if result.family.sizes[group - 1] < 2 else ""


def _size(number: int, models: int) -> str:
    return f"{number}: {models} model" + ("" if models == 1 else "s")


def _group_name(group: int, size: int) -> str:
    if size == 1:
        return ALONE
    return _size(group + 1, size) if group < _MOST_COLOURED else "a smaller group"


def _colours(values: list[Value]) -> bool:
    """Whether values can be told apart by colour: a few names, or a quantity."""
    known = [value for value in values if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    return bool(known) and (numbers or len(Counter(known)) <= _MOST_VALUES)


def _model_map(frame: pl.DataFrame, shares: tuple[float, ...], colour: str, chosen: str, theme: Theme) -> go.Figure:
    return lineage.model_map(
        frame, shares=shares, colour=colour, chosen=chosen, path=PATH if PATH in frame.columns else None, theme=theme
    )


def _explained(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    return lineage.explained(frame, theme=theme)
