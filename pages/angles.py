"""Do two models, groups or layers use the same directions?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames.angles import HELP
from uws_core.nouns.angles import BASE
from uws_core.nouns.models import Collection
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import figures, grams, job_panel, page, state
from uws_core.ui.angles import base, controls, data, reads, slider, view
from uws_core.ui.angles.base import BaseResult
from uws_core.ui.angles.data import AnglesResult
from uws_core.ui.page import Rest

Shown = tuple[AnglesResult | BaseResult, AnglesQuery]


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("angles")
    collection = page.opened(selection, "Angles", "Do two models, groups or layers use the same directions?")
    body(collection, Rest())


@st.fragment
def body(collection: Collection, rest: Rest) -> None:
    """All that follows a control: it runs alone, without the sidebar, when one is changed."""
    shown = _angles(collection)
    if shown is not None:
        _tables(*shown, collection)
    rest.follow(complete=shown is not None)


def _tables(result: AnglesResult | BaseResult, query: AnglesQuery, collection: Collection) -> None:
    if isinstance(result, BaseResult):
        base.table(base.ordered(result, query, collection))
        page.left_out((*collection.left_out, *result.left_out))
        page.definitions(base.DEFINITIONS)
        return
    if result.table is not None:
        view.rows_table(result, query, collection)
    page.left_out((*collection.left_out, *result.left_out))
    view.pairs_table(result)
    page.definitions(view.DEFINITIONS)


def _angles(collection: Collection) -> Shown | None:
    answer, numbers = st.container(), st.container()
    query = controls.angles(state.current(), collection)
    page.need_two(query.members, "Angles need")
    task = reads.task(query, collection)
    if task is None:
        availability = grams.availability(collection, query.layers)
        job_panel.scan_panel(availability, collection, query.layers)
        if availability.missing:
            return None
    elif not job_panel.task_panel(task):
        return None
    try:
        result = base.base_result(query) if query.view == "base" else data.result_of(query)
    except UwsError as error:
        page.problem(str(error), way_out="Take the mean as the centre", set_selection={"about": "mean"})
        return None

    caption = result.answer(query, view.place(query, collection))
    with answer:
        page.answer(caption)
    with numbers:
        page.numbers(base.numbers(result) if isinstance(result, BaseResult) else view.numbers(result))
    for note in (
        *view.thinned(query, collection),
        *result.notes,
        *([base.about_note(query)] if query.view == "base" else []),
    ):
        if note:
            st.caption(f":material/info: {note}.")
    _figures(result, query, collection, _source(result, query, collection, caption))
    return result, query


def _source(result: AnglesResult | BaseResult, query: AnglesQuery, collection: Collection, caption: str) -> Provenance:
    origin = figures.origin(
        f"angles {collection.name} {query.view} {query.axis} {view.place(query, collection)}",
        caption,
        page="angles",
        selection=state.current(),
        collection=collection,
        layers=query.layers,
        left_out=result.left_out,
    )
    return replace(origin, columns=HELP)


def _figures(result: AnglesResult | BaseResult, query: AnglesQuery, collection: Collection, source: Provenance) -> None:
    if isinstance(result, BaseResult):
        wide, narrow = st.columns([3, 2], gap="medium")
        with narrow:
            names = (result.labels[controls.model(result.labels, base.nearest(result))], BASE)
            source = figures.viewed(source, view.views(query, names))
            view.pair(query, names, source)
        with wide:
            base.figure(result, query, collection, source)
        return
    if result.table is None:
        view.halves_figure(result, figures.viewed(source, view.views(query, None)))
        return
    slider.directions(result, query, collection)
    wide, narrow = st.columns([3, 2], gap="medium")
    with narrow:
        left, right = controls.pair(result.table.labels, view.nearest(result.table))
        names = (result.table.labels[left], result.table.labels[right])
        source = figures.viewed(source, view.views(query, names))
        view.pair(query, names, source)
    with wide:
        view.pairs_figure(result, query, collection, source, chosen=(left, right))


main()
