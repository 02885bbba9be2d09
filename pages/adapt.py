"""Does the shared subspace help a new task more than a random one?"""

from __future__ import annotations

import streamlit as st

from uws_core.analysis.adapt import judged
from uws_core.answers import adapt
from uws_core.errors import UwsError
from uws_core.nouns.adapting import Row
from uws_core.nouns.models import Collection
from uws_core.ui import figures, job_panel, page, state
from uws_core.ui.adapt import controls, data, view
from uws_core.ui.selection import Selection


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("adapt")
    collection = page.opened(selection, "Adapt", "Does the shared subspace help a new task more than a random one?")
    answer = st.container()
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with row:
        source = controls.source()
    if source == controls.FOLDER:
        _elsewhere(selection, collection, answer, row)
    else:
        _here(selection, collection, answer, row)
    page.definitions(view.DEFINITIONS)


def _here(
    selection: Selection,
    collection: Collection,
    answer: st.delta_generator.DeltaGenerator,
    row: st.delta_generator.DeltaGenerator,
) -> None:
    """Training on a built-in task: the reason before, the verdict after."""
    known = data.trainable_tasks(collection)
    if not known:
        with answer:
            page.answer("Nothing can be trained here on these models.")
        page.problem(
            "The page trains the built-in networks on their own tasks. For other models call uws.adapt(model, basis, "
            "loss=, data=) in Python, with a folder for the log, and open that folder here.",
            way_out="Open the built-in adapters",
            set_selection={"collection": "demo:lora"},
        )
        return
    with row:
        query = controls.adapt(selection.collection, collection, known)
    if not job_panel.task_panel(data.gradient_task(query, collection)):
        return
    shares = data.gradient(query)
    try:
        log = data.own_log(query)
    except UwsError as error:
        page.problem(str(error))
        return
    trained = log is not None and bool(log.comparison.runs)
    line = adapt.answer(judged(log.comparison, query.task)) if trained and log else adapt.before(shares, query.task)
    with answer:
        page.answer(line)
        if trained:
            st.caption(adapt.before(shares, query.task))
    origin = figures.viewed(
        figures.origin(
            f"adapt {collection.name} {query.task}",
            line,
            page="adapt",
            selection=selection,
            collection=collection,
            layers=[share.layer for share in shares],
        ),
        controls.views(),
    )
    st.caption(
        f"Basis: {len(shares)} layers of the {_members(collection, query.task)} models of other tasks; the models of "
        f"{page.plain(query.task)} are held out, whatever is chosen in the sidebar."
    )
    view.training_panel(query, collection, log)
    if trained and log is not None:
        view.results(log, query.task, origin)
        view.export_panel(log, query.task)
    if shares:
        view.gradient(shares, origin)


def _elsewhere(
    selection: Selection,
    collection: Collection,
    answer: st.delta_generator.DeltaGenerator,
    row: st.delta_generator.DeltaGenerator,
) -> None:
    """A log of trainings made elsewhere."""
    with row:
        text = controls.folder()
    if not text.strip():
        with answer:
            page.answer("Name the folder of a training log.")
        st.caption(
            "`uws adapt --out FOLDER` writes one, so does uws.adapt in Python. Of trainings made with other programs a "
            "table runs.csv does, in the folder or one a task in folders inside it; rows are called "
            f"{', '.join(Row)}:"
        )
        st.code("row,seed,trainables,score\nshared,0,648,0.94\nrandom,0,648,0.95", language=None)
        return
    try:
        log = data.log_in(text)
    except UwsError as error:
        with answer:
            page.answer("There is no training log to show.")
        page.problem(str(error))
        return
    with row:
        task = controls.logged_task(log.comparison.tasks)
    line = adapt.answer(judged(log.comparison, task))
    with answer:
        page.answer(line)
    if not log.comparison.runs:
        return
    origin = figures.viewed(
        figures.origin(f"adapt {task}", line, page="adapt", selection=selection, collection=collection, layers=()),
        controls.views(),
    )
    if not log.comparison.complete:
        st.caption(f"{len(log.comparison.runs)} of {log.comparison.expected} trainings are finished.")
    view.results(log, task, origin)
    if task:
        view.export_panel(log, task)
        if log.gradients.get(task):
            view.gradient(log.gradients[task], origin)


def _members(collection: Collection, task: str) -> int:
    return sum(value != task for value in collection.table["task"])


main()
