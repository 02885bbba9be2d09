"""Does the shared subspace rebuild a model it never saw, and at what size?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.answers import reconstruction as answers
from uws_core.errors import UwsError
from uws_core.frames.reconstruction import HELP
from uws_core.ui import figures, grams, job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.reconstruction import controls, data, function, unseen_model, view


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("reconstruction")

    page.head("Reconstruction", "Does the shared subspace rebuild a model it never saw, and at what size?")
    entry = catalogue().open(selection.collection)
    collection = entry.collection
    if collection is None:
        page.problem(entry.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
        return

    answer, numbers = st.container(), st.container()
    query = controls.reconstruction(selection, collection)
    selection = state.current()
    if len(query.members) < 2:
        page.problem(
            f"Holding out needs at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
            way_out="Choose all models",
            set_selection={"members": ()},
        )
        return

    availability = grams.availability(collection, query.layers)
    job_panel.scan_panel(availability, collection, query.layers)
    if availability.missing:
        return
    task = data.task(query, collection)
    if task is not None and not job_panel.task_panel(task):
        return

    try:
        rebuilt = data.rebuilt(query)
    except UwsError as error:
        page.problem(
            str(error), way_out="Back to all models about their mean", set_selection={"members": (), "about": "mean"}
        )
        return

    k, clipped = rebuilt.clipped(selection.k)
    place, stored = view.place(query, collection), view.stored(query, collection, k)
    caption = answers.answer(rebuilt.together, k=k, location=place, by=query.group)
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(view.numbers(rebuilt, stored, k))
    for note in (*clipped, *rebuilt.notes, *stored.notes[:1]):
        st.caption(f":material/info: {page.plain(note)}.")

    source = figures.viewed(
        figures.origin(
            f"reconstruction {collection.name} {query.axis} {place}",
            caption,
            page="reconstruction",
            selection=selection,
            collection=collection,
            layers=query.layers,
            left_out=rebuilt.left_out,
        ),
        controls.views(),
    )
    source = replace(source, columns=HELP)
    wide, narrow = st.columns([3, 2], gap="medium")
    with wide:
        view.errors_figure(rebuilt, query, source, k=k)
    with narrow:
        view.sizes_figure(query, collection, source, k=k)
    view.models_figure(rebuilt, collection, source, k=k)
    function.panel(controls.whole_network(query, selection, collection), collection, source)
    unseen_model.panel(query, collection, source, k=selection.k)

    page.left_out((*collection.left_out, *rebuilt.left_out))
    view.tables(rebuilt, k)
    page.definitions(view.DEFINITIONS)


main()
