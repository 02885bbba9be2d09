"""Claim by claim: what holds here, what is chance, what is ancestry?"""

import streamlit as st

from uws_core.answers import evidence as answers
from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.frames import evidence as frames
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.panels import evidence as panels
from uws_core.ui.panels import report
from uws_core.ui.pick import evidence as pick
from uws_core.ui.serve import evidence as serve

selection = state.require("evidence")

page.head("Evidence", "Claim by claim: what holds here, what is chance, what is ancestry?")
found = catalogue().open(selection.collection)
collection = found.collection
if collection is None:
    page.problem(found.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
    st.stop()

answer, numbers = st.container(), st.container()
query = pick.evidence(selection, collection)
selection = state.current()
if len(query.members) < 2:
    page.problem(
        f"Evidence needs at least two models; {len(query.members)} are chosen. Clear the models in the sidebar.",
        way_out="Choose all models",
        set_selection={"members": ()},
    )
    st.stop()

network = pick.network(query, selection, collection)
availability = grams.availability(collection, query.layers)
job_panel.scan_panel(availability, collection, query.layers)
if availability.missing:
    st.stop()
task = serve.task(query, collection)
if not job_panel.task_panel(task):
    st.stop()

try:
    every = serve.network(query) if query.each else None
    single = None if query.each else serve.one(query)
except UwsError as error:
    page.problem(str(error), way_out="Choose all models", set_selection={"members": ()})
    st.stop()

place = panels.place(query, collection)
if every is not None:
    n, by = every.layers[0][1].n, every.layers[0][1].grouped_by
    caption = answers.answer_layers(every.pooled, models=n, layers=len(every.layers), grouped_by=by)
    verdicts, table = [one.verdict for one in every.pooled], frames.pooled(every.pooled)
else:
    caption = answers.answer(single, place=place)
    verdicts, table = [one.verdict for one in single.findings], frames.claims(single)
with answer:
    page.answer(caption)
with numbers:
    page.numbers(panels.numbers(verdicts))
source = panels.source(f"evidence {collection.name} {place}", caption, selection, collection, query)

for note in gauge_notes(collection.by_name[name] for name in query.layers):
    st.caption(note)
report.panel(network, collection)
panels.claims_table(table, single.findings if single is not None else ())
claim = pick.claim(tuple(table["claim"]))
if single is not None:
    panels.claim(single[claim], single, query, source)
else:
    panels.definition(claim)

everywhere = grams.availability(collection, network.layers) if every is None and len(network.layers) > 1 else None
if everywhere is not None:
    job_panel.scan_panel(everywhere, collection, network.layers)
    if not everywhere.missing:
        rest = serve.task(network, collection)
        every = serve.network(network) if job_panel.task_panel(rest) else None
if every is not None:
    panels.network(every, claim, source, chosen=selection.layer, asked=query.draws)
    panels.glance(every, source)
    page.table(frames.by_layer(every.layers), frames.HELP, label="Claims in layers")

page.left_out((*collection.left_out, *serve.left_out(query)))
page.table(table, frames.HELP, label="Claims")
page.definitions(panels.DEFINITIONS)
