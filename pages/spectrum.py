"""How many directions carry a layer, against chance?"""

from __future__ import annotations

import streamlit as st

from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.frames.spectrum import HELP
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.spectrum import controls, data, hosvd, sides, view


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("spectrum")
    page.head("Spectrum", "How many directions carry a layer, against chance?")
    entry = catalogue().open(selection.collection)
    collection = entry.collection
    if collection is None:
        page.problem(entry.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
        return

    answer, numbers = st.container(), st.container()
    query = controls.spectrum(selection, collection)
    selection = state.current()
    if len(query.members) < 2:
        page.problem(
            f"A spectrum needs at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
            way_out="Choose all models",
            set_selection={"members": ()},
        )
        return

    availability = grams.availability(collection, query.layers, query.precision)
    job_panel.scan_panel(availability, collection, query.layers, query.precision)
    if not availability.ready:
        return
    query, without_noise = view.noise_or_less(grams.of_ready(query, availability.ready))
    if query.axis != "models" and not job_panel.task_panel(sides.task(query, collection)):
        return
    try:
        result = data.result_of(query)
    except UwsError as error:
        everything = {"members": (), "about": "mean"}
        page.problem(str(error), way_out="Back to the mean of all models", set_selection=everything)
        return

    caption = result.answer(query.share)
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(view.numbers(result, query))
    source = view.source(caption, selection, collection, query, result)
    gauges = gauge_notes(collection.by_name[name] for name in query.layers)
    for note in (*without_noise, *result.notes, *gauges):
        st.caption(note)
    view.in_double(result)
    view.curves(result, query, source)
    hosvd.panel(query, collection, source)

    network = controls.network(selection, collection)
    measure = view.overview_measure()
    everywhere = grams.availability(collection, network.layers)
    rows = data.overview(grams.of_ready(network, everywhere.ready), noise=measure == "z")
    view.overview(rows, source, measure=measure, chosen=selection.layer)

    page.left_out((*collection.left_out, *result.left_out))
    page.table(result.frame, HELP, label="Directions", percent=("share", "cumulative"))
    page.table(rows, HELP, label="Layers", percent=("first_share",))
    page.definitions(view.DEFINITIONS)


main()
