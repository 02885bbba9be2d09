"""Where do two models differ, layer by layer?"""

from __future__ import annotations

import streamlit as st

from uws_core.analysis.pairs import only_differing
from uws_core.answers import pairs
from uws_core.frames.pairs import HELP, layers
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.pair import controls, data, view


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("pair")
    collection = page.opened(selection, "Pair", "Where do two models differ, layer by layer?")
    page.need_two(selection.members_in(collection), "A pair needs")
    answer, numbers = st.container(), st.container()
    query = controls.pair(selection, collection)
    names = (collection.labels[query.left], collection.labels[query.right])
    availability = grams.availability(collection, query.layers)
    job_panel.scan_panel(availability, collection, query.layers)
    if availability.missing:
        return
    # The Grams tell most; ranks and changed entries follow once both models have been read.
    entries = job_panel.task_panel(data.task(query, collection))
    items = data.layers(query, collection, entries=entries)
    caption = pairs.answer(items, left=names[0], right=names[1])
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(view.numbers(items))
    source = view.source(caption, names, selection, collection, query)
    shown = only_differing(items) if controls.only_differing() else items
    frame = layers(shown)
    if shown:
        view.figure(frame, source)
    else:
        st.caption("No layer differs.")
    page.left_out(collection.left_out)
    page.table(frame, HELP, label="Layers", percent=("changed",))
    page.definitions(view.DEFINITIONS)


main()
