"""Does the shared subspace rebuild a model it never saw, and at what size?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.answers import reconstruction
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames.reconstruction import HELP
from uws_core.nouns.models import Collection
from uws_core.nouns.query import RebuildQuery
from uws_core.ui import figures, grams, job_panel, page, state
from uws_core.ui.page import Rest
from uws_core.ui.reconstruction import chance, controls, data, function, slider, unseen_model, view

Shown = tuple[data.Rebuilt, RebuildQuery, Provenance, int]


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("reconstruction")
    question = "Does the shared subspace rebuild a model it never saw, and at what size?"
    collection = page.opened(selection, "Reconstruction", question)
    body(collection, Rest())


@st.fragment
def body(collection: Collection, rest: Rest) -> None:
    """All that follows a control: it runs alone, without the sidebar, when one is changed."""
    shown = _curves(collection)
    if shown is not None:
        rebuilt, query, source, k = shown
        selection = state.current()
        function.panel(controls.whole_network(query, selection, collection), collection, source)
        unseen_model.panel(query, collection, source, k=selection.k)

        page.left_out((*collection.left_out, *rebuilt.left_out))
        view.tables(rebuilt, k)
        page.definitions(view.DEFINITIONS)
    rest.follow(complete=shown is not None)


def _curves(collection: Collection) -> Shown | None:
    answer, numbers = st.container(), st.container()
    query = controls.reconstruction(state.current(), collection)
    selection = state.current()
    page.need_two(query.members, "Holding out needs")
    availability = grams.availability(collection, query.layers)
    job_panel.scan_panel(availability, collection, query.layers)
    if availability.missing:
        return None
    task = data.task(query, collection)
    if task is not None and not job_panel.task_panel(task):
        return None
    try:
        rebuilt = data.rebuilt(query)
    except UwsError as error:
        page.problem(
            str(error), way_out="Back to all models about their mean", set_selection={"members": (), "about": "mean"}
        )
        return None

    drawn, without = chance.panel(query, collection)
    rebuilt = replace(rebuilt, chance=drawn)
    k, clipped = rebuilt.clipped(selection.k)
    place, stored = view.place(query, collection), view.stored(query, collection, k)
    caption = reconstruction.answer(rebuilt.together, k=k, location=place, by=query.group, chance=rebuilt.chance)
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(view.numbers(rebuilt, stored, k))
    for note in (*clipped, *without, *rebuilt.notes, *stored.notes[:1]):
        st.caption(f":material/info: {page.plain(note)}.")

    origin = figures.origin(
        f"reconstruction {collection.name} {query.axis} {place}",
        caption,
        page="reconstruction",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=rebuilt.left_out,
    )
    source = replace(figures.viewed(origin, controls.views()), columns=HELP)
    above = st.container()
    wide, narrow = st.columns([3, 2], gap="medium")
    with wide:
        view.errors_figure(rebuilt, query, source, k=k)
    with narrow:
        sizes = view.sizes_frame(query, collection)
        view.sizes_figure(sizes, source, k=k)
    with above:
        slider.directions(rebuilt, query, collection, sizes[0], k)
    view.models_figure(rebuilt, collection, source, k=k)
    return rebuilt, query, source, k


main()
