"""Which of these models are relatives, copies or outliers?"""

from __future__ import annotations

import streamlit as st

from uws_core.answers import lineage
from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.frames.lineage import HELP, cosines, models
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.lineage import controls, data, independence, relatives, view


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("lineage")
    collection = page.opened(selection, "Lineage", "Which of these models are relatives, copies or outliers?")
    answer, numbers = st.container(), st.container()
    query = controls.lineage(selection, collection)
    selection = state.current()
    page.need_two(query.members, "A lineage needs")
    if not query.layers:
        page.problem(
            "This layer has no A factor.",
            way_out="Take all layers as one",
            set_selection={"layer": "sum", "layers": ()},
        )
        return

    availability = grams.availability(collection, query.layers)
    job_panel.scan_panel(availability, collection, query.layers)
    if not availability.ready:
        return

    query = grams.of_ready(query, availability.ready)
    try:
        result = data.lineage_of(query, controls.threshold())
    except UwsError as error:
        page.problem(str(error), way_out="Choose all models", set_selection={"members": ()})
        return
    if not result.alike:
        page.problem("These models do not differ from the centre here, so no two can be compared: compare raw weights.")
        page.left_out((*collection.left_out, *result.left_out))
        return

    place = view.place(query, collection)
    caption = lineage.answer(result.family, location=place)
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(view.numbers(result))
    name = f"lineage {collection.name} {place.replace('`', '')}"
    source = view.source(name, caption, selection, collection, query, result)

    left, right = st.columns([3, 2], gap="medium")
    with left:
        view.likeness(result, selection, source)
    with right:
        relatives.groups(result, selection, collection)
        view.stability_figure(result, source)
    left, right = st.columns(2, gap="medium")
    with left:
        relatives.model_map(result, selection, source)
    with right:
        relatives.attributes(result, source)
    left, right = st.columns(2, gap="medium")
    with left:
        view.norms(result, query, source)
    with right:
        relatives.outliers(result)
        independence.panel(selection, collection)

    for note in gauge_notes(collection.by_name[name] for name in query.layers):
        st.caption(note)
    page.left_out((*collection.left_out, *result.left_out))
    page.table(models(result.family, result.stats), HELP, label="Models")
    page.table(cosines(result.family), HELP, label="Pairs")
    page.definitions(view.DEFINITIONS)


main()
