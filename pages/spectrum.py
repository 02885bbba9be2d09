"""How many directions carry a layer, against chance?"""

from __future__ import annotations

import streamlit as st

from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames.spectrum import HELP
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.page import Rest
from uws_core.ui.spectrum import controls, data, hosvd, sides, slider, view

Shown = tuple[data.SpectrumResult, Query, Provenance]


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("spectrum")
    collection = page.opened(selection, "Spectrum", "How many directions carry a layer, against chance?")
    body(collection, Rest())


@st.fragment
def body(collection: Collection, rest: Rest) -> None:
    """All that follows a control: it runs alone, without the sidebar, when one is changed."""
    shown = _curves(collection)
    if shown is not None:
        result, query, source = shown
        hosvd.panel(query, collection, source)

        selection = state.current()
        network = controls.network(selection, collection)
        measure = view.overview_measure()
        everywhere = grams.availability(collection, network.layers)
        rows = data.overview(grams.of_ready(network, everywhere.ready), noise=measure == "z")
        view.overview(rows, source, measure=measure, chosen=selection.layer, share=selection.share)

        page.left_out((*collection.left_out, *result.left_out))
        page.table(result.frame, HELP, label="Directions", percent=("share", "cumulative"))
        page.table(rows, HELP, label="Layers", percent=("first_share",))
        page.definitions(view.DEFINITIONS)
    rest.follow(complete=shown is not None)


def _curves(collection: Collection) -> Shown | None:
    answer, numbers = st.container(), st.container()
    query = controls.spectrum(state.current(), collection)
    selection = state.current()
    page.need_two(query.members, "A spectrum needs")
    availability = grams.availability(collection, query.layers, query.precision)
    job_panel.scan_panel(availability, collection, query.layers, query.precision)
    if not availability.ready:
        return None
    query, without_noise = view.noise_or_less(grams.of_ready(query, availability.ready))
    if query.axis != "models" and not job_panel.task_panel(sides.task(query, collection)):
        return None
    try:
        result = data.result_of(query)
    except UwsError as error:
        everything = {"members": (), "about": "mean"}
        page.problem(str(error), way_out="Back to the mean of all models", set_selection=everything)
        return None

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
    slider.share(result, query)
    view.curves(result, query, source)
    return result, query, source


main()
