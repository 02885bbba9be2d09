"""Which models, which layers, and what was left out?"""

import streamlit as st

from uws_core.answers import collection as answers
from uws_core.ui import job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.panels import attributes, download, flags, loader, places
from uws_core.ui.panels import collection as panels
from uws_core.ui.spectrum import controls

selection = state.require("collection")

page.head("Collection", "Which models, which layers, and what was left out?")
answer = st.container()
places.show(selection)
found = catalogue().open(selection.collection)
collection = found.collection
if collection is None:
    page.problem(found.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
    st.stop()

members, layers = selection.members_in(collection), selection.layers_in(collection)
with answer:
    page.answer(answers.answer(collection, members=members, layers=layers))
    st.caption(" ".join((catalogue().about(selection.collection), answers.design(collection))))
    flags.check(selection.collection, collection)
    loader.notices(collection)

st.subheader("Models", anchor=False)
panels.models(selection, collection)
places.save_box(selection, collection)
attributes.editor(collection)

st.subheader("Layers", anchor=False)
panels.layers(selection, collection, controls.network(selection, collection))
job_panel.rest_panel(collection, layers)
download.box(collection)

page.left_out(collection.left_out)
loader.report(selection, collection)
