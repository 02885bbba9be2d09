"""Which of these models are relatives, copies or odd ones out?"""

import streamlit as st

from uws_core.answers import lineage as answers
from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.frames import lineage as frames
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.panels import kin
from uws_core.ui.panels import lineage as panels
from uws_core.ui.pick import lineage as pick
from uws_core.ui.serve import lineage as serve

selection = state.require("lineage")

page.head("Lineage", "Which of these models are relatives, copies or odd ones out?")
found = catalogue().open(selection.collection)
collection = found.collection
if collection is None:
    page.problem(found.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
    st.stop()

answer, numbers = st.container(), st.container()
query = pick.lineage(selection, collection)
selection = state.current()
if len(query.members) < 2:
    page.problem(
        f"A lineage needs at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
        way_out="Choose all models",
        set_selection={"members": ()},
    )
    st.stop()
if not query.layers:
    page.problem(
        "This layer has no A factor.", way_out="Take all layers as one", set_selection={"layer": "sum", "layers": ()}
    )
    st.stop()

availability = grams.availability(collection, query.layers)
job_panel.scan_panel(availability, collection, query.layers)
if not availability.ready:
    st.stop()

query = grams.of_ready(query, availability.ready)
try:
    seen = serve.seen(query, pick.threshold())
except UwsError as error:
    page.problem(str(error), way_out="Choose all models", set_selection={"members": ()})
    st.stop()
if not seen.alike:
    page.problem("These models do not differ from the centre here, so nothing points anywhere: compare raw weights.")
    page.left_out((*collection.left_out, *seen.left_out))
    st.stop()

place = panels.place(query, collection)
caption = answers.answer(seen.family, place=place)
with answer:
    page.answer(caption)
with numbers:
    page.numbers(panels.numbers(seen))
name = f"lineage {collection.name} {place.replace('`', '')}"
source = panels.source(name, caption, selection, collection, query, seen)

left, right = st.columns([3, 2], gap="medium")
with left:
    panels.likeness(seen, selection, source)
with right:
    kin.groups(seen, selection, collection)
    panels.stability(seen, source)
left, right = st.columns(2, gap="medium")
with left:
    kin.model_map(seen, selection, source)
with right:
    kin.attributes(seen, source)
left, right = st.columns(2, gap="medium")
with left:
    panels.strengths(seen, query, source)
with right:
    kin.odd(seen)

for note in gauge_notes(collection.by_name[name] for name in query.layers):
    st.caption(note)
page.left_out((*collection.left_out, *seen.left_out))
page.table(frames.models(seen.family, seen.stats), frames.HELP, label="Models")
page.table(frames.cosines(seen.family), frames.HELP, label="Pairs")
page.definitions(panels.DEFINITIONS)
