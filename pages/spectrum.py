"""How many directions carry a layer, against chance?"""

import streamlit as st

from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.frames.spectrum import HELP
from uws_core.ui import state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.panels import errand, hosvd, page, work
from uws_core.ui.panels import spectrum as panels
from uws_core.ui.pick import spectrum as pick
from uws_core.ui.serve import errands, grams, sides
from uws_core.ui.serve import spectrum as serve

selection = state.require("spectrum")

page.head("Spectrum", "How many directions carry a layer, against chance?")
found = catalogue().look(selection.collection)
collection = found.collection
if collection is None:
    page.problem(found.problem, way_out="Open the first built-in collection", steer={"collection": ""})
    st.stop()

answer, numbers = st.container(), st.container()
query = pick.spectrum(selection, collection)
selection = state.current()
if len(query.members) < 2:
    page.problem(
        f"A spectrum needs at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
        way_out="Choose all models",
        steer={"members": ()},
    )
    st.stop()

supply = grams.supply(collection, query.layers, query.precision)
work.supply_panel(supply, collection, query.layers, query.precision)
if not supply.ready:
    st.stop()

query, without_noise = panels.noise_or_less(serve.ready(query, supply.ready))
if query.axis != "models":
    task = sides.errand(query, collection)
    if not errand.panel(task, errands.attend(task)):
        st.stop()
try:
    seen = serve.seen(query)
except UwsError as error:
    page.problem(str(error), way_out="Back to the mean of all models", steer={"members": (), "about": "mean"})
    st.stop()

caption = seen.answer(query.share)
with answer:
    page.answer(caption)
with numbers:
    page.numbers(panels.numbers(seen, query))
place = panels.place(query, collection)
source = panels.source(f"spectrum {collection.name} {place}", caption, selection, collection, query, seen)
for note in (*without_noise, *sides.notes(seen.items), *gauge_notes(collection.by_name[name] for name in query.layers)):
    st.caption(note)
panels.in_double(seen)
panels.curves(seen, query, source, log=pick.log_scale())
hosvd.panel(query, collection, source)

network = pick.network(selection, collection)
measure = st.segmented_control(
    "Colour", list(panels.MEASURES), default="rank", required=True, key="colour", bind="query-params"
)
everything = grams.supply(collection, network.layers)
rows = serve.overview(serve.ready(network, everything.ready), noise=measure == "z")
panels.overview(rows, source, measure=measure or "rank", chosen=selection.layer)

page.left_out((*collection.left_out, *seen.left_out))
page.table(seen.frame, HELP, label="Directions", percent=("share", "cumulative"))
page.table(rows, HELP, label="Layers", percent=("first_share",))
page.definitions(panels.DEFINITIONS)
