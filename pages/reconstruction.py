"""Does the shared subspace rebuild a model it never saw, and at what size?"""

from dataclasses import replace

import streamlit as st

from uws_core.answers import reconstruction as answers
from uws_core.errors import UwsError
from uws_core.frames.reconstruction import HELP
from uws_core.ui import figures, grams, job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.panels import function, newcomer
from uws_core.ui.panels import reconstruction as panels
from uws_core.ui.pick import reconstruction as pick
from uws_core.ui.serve import reconstruction as serve

selection = state.require("reconstruction")

page.head("Reconstruction", "Does the shared subspace rebuild a model it never saw, and at what size?")
found = catalogue().open(selection.collection)
collection = found.collection
if collection is None:
    page.problem(found.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
    st.stop()

answer, numbers = st.container(), st.container()
query = pick.reconstruction(selection, collection)
selection = state.current()
if len(query.members) < 2:
    page.problem(
        f"Holding out needs at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
        way_out="Choose all models",
        set_selection={"members": ()},
    )
    st.stop()

availability = grams.availability(collection, query.layers)
job_panel.scan_panel(availability, collection, query.layers)
if availability.missing:
    st.stop()
task = serve.task(query, collection)
if task is not None and not job_panel.task_panel(task):
    st.stop()

try:
    rebuilt = serve.rebuilt(query)
except UwsError as error:
    page.problem(
        str(error), way_out="Back to all models about their mean", set_selection={"members": (), "about": "mean"}
    )
    st.stop()

k, clipped = rebuilt.clipped(selection.k)
place, stored = panels.place(query, collection), panels.stored(query, collection, k)
caption = answers.answer(rebuilt.together, k=k, place=place, by=query.group)
with answer:
    page.answer(caption)
with numbers:
    page.numbers(panels.numbers(rebuilt, stored, k))
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
    pick.views(),
)
source = replace(source, columns=HELP)
wide, narrow = st.columns([3, 2], gap="medium")
with wide:
    panels.errors_figure(rebuilt, query, source, k=k)
with narrow:
    panels.sizes_figure(query, collection, source, k=k)
panels.models_figure(rebuilt, collection, source, k=k)
function.panel(pick.whole_network(query, selection, collection), collection, source)
newcomer.panel(query, collection, source, k=selection.k)

page.left_out((*collection.left_out, *rebuilt.left_out))
panels.tables(rebuilt, k)
page.definitions(panels.DEFINITIONS)
