"""Which of these can be merged, and is it more than the mean?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from uws_core.analysis.merge_scores import best_scales
from uws_core.answers import merge
from uws_core.answers.wording import counted
from uws_core.errors import UwsError
from uws_core.nouns.models import Collection
from uws_core.ui import grams, job_panel, page, state, tasks
from uws_core.ui.merge import controls, data, scores, view, writing
from uws_core.ui.selection import Selection


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("merge")
    collection = page.opened(selection, "Merge", "Which of these can be merged, and is it more than the mean?")
    answer = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        take, column = controls.take(selection, collection)
        row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
        options = controls.options()
    layers = tuple(name for name in selection.layers_in(collection) if not collection.by_name[name].factor)
    if len(selection.members_in(collection)) < 2 or not layers:
        page.problem(
            "A merge needs at least two models and a layer; chosen: "
            f"{counted(len(selection.members_in(collection)), 'model')}, {counted(len(layers), 'layer')}.",
            way_out="Choose all models and layers",
            set_selection={"members": (), "layers": ()},
        )
        return
    availability = grams.availability(collection, layers)
    job_panel.scan_panel(availability, collection, layers)
    if availability.missing:
        return

    try:
        members = data.members(selection, collection, take, column, layers)
        weights = controls.parsed_weights(str(options.pop("weights")), len(members))
    except (UwsError, ValueError) as error:
        page.problem(str(error))
        return
    query = controls.MergeQuery(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        layers=layers,
        members=members,
        take=take,
        column=column,
        method="mean",
        scale=1.0,
        weights=weights,
        **options,  # type: ignore[arg-type]
    )
    if len(members) < 2:
        page.problem(f"A merge needs at least two models; {len(members)} is left of each {column or 'lineage'}.")
        return
    known = data.methods(query, collection)
    with row:
        query = controls.method(query, known, based=data.based(query, collection))
    _show(query, selection, collection, known, answer)


def _show(
    query: controls.MergeQuery,
    selection: Selection,
    collection: Collection,
    known: tuple[str, ...],
    answer: DeltaGenerator,
) -> None:
    """Everything under the controls, from the verdict to the definitions."""
    measurable = data.measurable(query, collection)
    if query.method in measurable:
        job_panel.task_panel(data.measure_task(query, collection, [query.method]))
    try:
        preview, judged = data.preview(query, collection), data.judged(query, collection)
    except UwsError as error:
        page.problem(str(error), way_out="Choose all models", set_selection={"members": (), "layers": ()})
        return
    points = scores.points(query, known) if scores.possible(query, collection) else ()
    # A verdict waits until all were tried: the scales still missing may be the best ones.
    best = best_scales(points) if points and tasks.peek(scores.task(query, collection, known)).done else ()
    standing = preview.chosen(query.method)
    if standing is None:
        reason = next((one.reason for one in preview.left_out if one.what == query.method), "")
        page.problem(reason or f"{merge.NAMES[query.method]} is not measured yet; the mean is shown meanwhile.")
        query = replace(query, method="mean")
        standing = preview.chosen("mean")
        if standing is None:
            return
    length = float(standing.norm_to_mean[0, 0])
    siblings = preview.siblings / length if preview.siblings is not None and length > 0 else None
    caption = merge.answer(standing, best=best, compatibility=judged, siblings=siblings, by=query.column)
    with answer:
        page.answer(caption)
        page.numbers(view.numbers(query, standing, preview))
    source = view.source(caption, selection, collection, query, preview)

    left, right = st.columns([3, 2], gap="medium")
    with left:
        view.sweep_figure(query, preview, points, source)
    with right:
        view.warnings(judged, collection)
    _rest(query, collection, measurable)
    if scores.possible(query, collection):
        _scores(query, collection, known)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        view.kept_figure(preview, source)
    with right:
        view.cosines_figure(judged, source)
    view.layers_figure(judged, source)
    task = data.conflicts_task(query, collection)
    if not tasks.peek(task).done and job_panel.task_panel(task):
        st.rerun()
    writing.panel(query, collection, low_rank=data.low_rank(query, collection))
    page.left_out((*collection.left_out, *preview.left_out))
    view.tables(preview, judged, best, points)
    page.definitions(view.DEFINITIONS)


def _rest(query: controls.MergeQuery, collection: Collection, measurable: tuple[str, ...]) -> None:
    """The methods that read weights and were not measured yet, with what measuring them costs."""
    if measurable:
        task = data.measure_task(query, collection, measurable)
        job_panel.task_panel(task, tasks.peek(task))


def _scores(query: controls.MergeQuery, collection: Collection, known: tuple[str, ...]) -> None:
    """Trying the merged networks, or a button that does."""
    task = scores.task(query, collection, known)
    job_panel.task_panel(task, tasks.peek(task))


main()
