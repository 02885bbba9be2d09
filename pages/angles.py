"""Do two models, groups or layers use the same directions?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.errors import UwsError
from uws_core.frames.angles import HELP
from uws_core.nouns.angles import BASE
from uws_core.ui import figures, grams, job_panel, page, state
from uws_core.ui.angles import base, controls, data, reads, view
from uws_core.ui.catalogue import catalogue


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("angles")
    page.head("Angles", "Do two models, groups or layers use the same directions?")
    entry = catalogue().open(selection.collection)
    collection = entry.collection
    if collection is None:
        page.problem(entry.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
        return

    answer, numbers = st.container(), st.container()
    query = controls.angles(selection, collection)
    selection = state.current()
    if len(query.members) < 2:
        page.problem(
            f"Angles need at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
            way_out="Choose all models",
            set_selection={"members": ()},
        )
        return

    task = reads.task(query, collection)
    if task is None:
        availability = grams.availability(collection, query.layers)
        job_panel.scan_panel(availability, collection, query.layers)
        if availability.missing:
            return
    elif not job_panel.task_panel(task):
        return
    try:
        result = base.base_result(query) if query.view == "base" else data.result_of(query)
    except UwsError as error:
        page.problem(str(error), way_out="Take the mean as the centre", set_selection={"about": "mean"})
        return

    place = view.place(query, collection)
    caption = result.answer(query, place)
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(base.numbers(result) if isinstance(result, base.BaseResult) else view.numbers(result))
    for note in (*result.notes, *([base.about_note(query)] if query.view == "base" else [])):
        if note:
            st.caption(f":material/info: {note}.")

    origin = figures.origin(
        f"angles {collection.name} {query.view} {query.axis} {place}",
        caption,
        page="angles",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=result.left_out,
    )
    source = replace(origin, columns=HELP)
    if isinstance(result, base.BaseResult):
        wide, narrow = st.columns([3, 2], gap="medium")
        with narrow:
            row = controls.model(result.labels, base.nearest(result))
            names = (result.labels[row], BASE)
            source = figures.viewed(source, view.views(query, names))
            view.pair(query, names, source)
        with wide:
            base.figure(result, query, collection, source)
        base.table(base.ordered(result, query, collection))
        page.left_out((*collection.left_out, *result.left_out))
        page.definitions(base.DEFINITIONS)
        return
    if result.table is None:
        view.halves_figure(result, figures.viewed(source, view.views(query, None)))
    else:
        wide, narrow = st.columns([3, 2], gap="medium")
        with narrow:
            chosen = controls.pair(result.table.labels, view.nearest(result.table))
            names = (result.table.labels[chosen[0]], result.table.labels[chosen[1]])
            source = figures.viewed(source, view.views(query, names))
            view.pair(query, names, source)
        with wide:
            view.pairs_figure(result, query, collection, source, chosen=chosen)
        view.rows_table(result, query, collection, chosen)
    page.left_out((*collection.left_out, *result.left_out))
    view.pairs_table(result)
    page.definitions(view.DEFINITIONS)


main()
