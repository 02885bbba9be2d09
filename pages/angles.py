"""Do two models, groups or layers use the same directions?"""

import streamlit as st

from uws_core.errors import UwsError
from uws_core.frames.angles import HELP
from uws_core.nouns.factors import BASE
from uws_core.ui import state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.panels import angles as panels
from uws_core.ui.panels import base_angles as base_panels
from uws_core.ui.panels import errand as errand_panel
from uws_core.ui.panels import figure as figures
from uws_core.ui.panels import page, work
from uws_core.ui.pick import angles as pick
from uws_core.ui.serve import angle_reads, errands, grams
from uws_core.ui.serve import angles as serve
from uws_core.ui.serve import base_angles as base_serve
from uws_core.ui.serve.base_angles import SeenBase

selection = state.require("angles")

page.head("Angles", "Do two models, groups or layers use the same directions?")
found = catalogue().look(selection.collection)
collection = found.collection
if collection is None:
    page.problem(found.problem, way_out="Open the first built-in collection", steer={"collection": ""})
    st.stop()

answer, numbers = st.container(), st.container()
query = pick.angles(selection, collection)
selection = state.current()
if len(query.members) < 2:
    page.problem(
        f"Angles need at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
        way_out="Choose all models",
        steer={"members": ()},
    )
    st.stop()

errand = angle_reads.errand(query, collection)
if errand is None:
    supply = grams.supply(collection, query.layers)
    work.supply_panel(supply, collection, query.layers)
    if supply.missing:
        st.stop()
elif not errand_panel.panel(errand, errands.attend(errand)):
    st.stop()

try:
    seen = base_serve.seen(query) if query.view == "base" else serve.seen(query)
except UwsError as error:
    page.problem(str(error), way_out="Take the mean as the centre", steer={"about": "mean"})
    st.stop()

place = panels.place(query, collection)
caption = seen.answer(query, place)
with answer:
    page.answer(caption)
with numbers:
    page.numbers(base_panels.numbers(seen) if isinstance(seen, SeenBase) else panels.numbers(seen))
for note in (*seen.notes, *([base_panels.about_note(query)] if query.view == "base" else [])):
    if note:
        st.caption(f":material/info: {note}.")

source = figures.origin(
    f"angles {collection.name} {query.view} {query.axis} {place}",
    caption,
    page="angles",
    selection=selection,
    collection=collection,
    layers=query.layers,
    left_out=seen.left_out,
    columns=HELP,
)
if isinstance(seen, SeenBase):
    wide, narrow = st.columns([3, 2], gap="medium")
    with narrow:
        row = pick.model(seen.labels, base_panels.nearest(seen))
        source = figures.viewed(source, panels.views(query, (seen.labels[row], BASE)))
        panels.pair(query, (seen.labels[row], BASE), source)
    with wide:
        base_panels.figure(seen, query, collection, source)
    base_panels.table(base_panels.ordered(seen, query, collection))
elif seen.table is None:
    panels.halves_figure(seen, figures.viewed(source, panels.views(query, None)))
else:
    wide, narrow = st.columns([3, 2], gap="medium")
    with narrow:
        chosen = pick.pair(seen.table.labels, panels.nearest(seen.table))
        names = (seen.table.labels[chosen[0]], seen.table.labels[chosen[1]])
        source = figures.viewed(source, panels.views(query, names))
        panels.pair(query, names, source)
    with wide:
        panels.pairs_figure(seen, query, collection, source, chosen=chosen)
    panels.rows_table(seen, query, collection, chosen)

page.left_out((*collection.left_out, *seen.left_out))
if isinstance(seen, SeenBase):
    page.definitions(base_panels.DEFINITIONS)
else:
    panels.pairs_table(seen)
    page.definitions(panels.DEFINITIONS)
