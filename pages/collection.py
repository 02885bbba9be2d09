"""Which models, which layers, and what was left out?"""

from __future__ import annotations

import streamlit as st

from uws_core.answers.collection import answer, design
from uws_core.ui import job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.collection import attributes, download, flags, loader, places, view
from uws_core.ui.spectrum import controls


def main() -> None:
    """The page, from where collections come from to how their files were read."""
    selection = state.require("collection")

    page.head("Collection", "Which models, which layers, and what was left out?")
    top = st.container()
    places.show(selection)
    entry = catalogue().open(selection.collection)
    collection = entry.collection
    if collection is None:
        page.problem(entry.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
        return

    members, layers = selection.members_in(collection), selection.layers_in(collection)
    with top:
        page.answer(answer(collection, members=members, layers=layers))
        st.caption(" ".join((catalogue().about(selection.collection), design(collection))))
        flags.check(selection.collection, collection)
        loader.notices(collection)

    view.architectures(selection, collection)
    st.subheader("Models", anchor=False)
    view.models(selection, collection)
    places.save_box(selection, collection)
    attributes.editor(collection)

    st.subheader("Layers", anchor=False)
    view.layers(selection, collection, controls.network(selection, collection))
    view.partial_layers(selection)
    job_panel.rest_panel(collection, layers)
    download.box(collection)

    page.left_out(collection.left_out)
    loader.panel(selection, collection)


main()
