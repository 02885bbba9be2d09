"""Claim by claim: what holds here, what is chance, what is ancestry?"""

from __future__ import annotations

import streamlit as st

from uws_core.answers import evidence
from uws_core.answers.factors import gauge_notes
from uws_core.errors import UwsError
from uws_core.frames.evidence import HELP, by_layer, claims, pooled
from uws_core.nouns.models import Collection
from uws_core.nouns.query import EvidenceQuery
from uws_core.ui import grams, job_panel, page, state
from uws_core.ui.evidence import controls, data, report, view
from uws_core.ui.merge import link


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("evidence")
    collection = page.opened(
        selection, "Evidence", "Claim by claim: what holds here, what is chance, what is ancestry?"
    )
    answer, numbers = st.container(), st.container()
    query = controls.evidence(selection, collection)
    selection = state.current()
    page.need_two(query.members, "Evidence needs")

    network = controls.network(query, selection, collection)
    availability = grams.availability(collection, query.layers)
    job_panel.scan_panel(availability, collection, query.layers)
    if availability.missing:
        return
    task = data.task(query, collection)
    if not job_panel.task_panel(task):
        return

    try:
        every, single = (data.network(query), None) if query.each else (None, data.evidence_of(query))
    except UwsError as error:
        page.problem(str(error), way_out="Choose all models", set_selection={"members": ()})
        return

    place = view.place(query, collection)
    if single is not None:
        caption = evidence.answer(single, location=place)
        verdicts, table = [item.verdict for item in single.findings], claims(single)
    elif every is not None:
        n, by = every.layers[0][1].n, every.layers[0][1].grouped_by
        caption = evidence.answer_layers(every.pooled, models=n, layers=len(every.layers), grouped_by=by)
        verdicts, table = [item.verdict for item in every.pooled], pooled(every.pooled)
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(view.numbers(verdicts))
    source = view.source(f"evidence {collection.name} {place}", caption, selection, collection, query)

    for note in gauge_notes(collection.by_name[name] for name in query.layers):
        st.caption(note)
    with st.container(horizontal=True, gap="small"):
        report.panel(network, collection)
        link.offer("Preview the merge of these models", selection.members, key="evidence.merge")
    view.claims_table(table, single.findings if single is not None else ())
    claim = controls.claim(tuple(table["claim"]))
    if single is not None:
        view.claim(single[claim], single, query, source)
    else:
        view.definition(claim)

    if every is None and len(network.layers) > 1:
        every = _every_layer(network, collection)
    if every is not None:
        view.network(every, claim, source, chosen=selection.layer, draws=query.draws)
        view.glance(every, source)
        page.table(by_layer(every.layers), HELP, label="Claims in layers")

    page.left_out((*collection.left_out, *data.left_out(query)))
    page.table(table, HELP, label="Claims")
    page.definitions(view.DEFINITIONS)


def _every_layer(query: EvidenceQuery, collection: Collection) -> data.Network | None:
    """The claims in every chosen layer, or None while some are missing; a panel offers to compute them."""
    availability = grams.availability(collection, query.layers)
    job_panel.scan_panel(availability, collection, query.layers)
    if availability.missing or not job_panel.task_panel(data.task(query, collection)):
        return None
    return data.network(query)


main()
