"""The exact independence test on the lineage page: which models, which hidden layer, its price, and its answer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import streamlit as st

from uws_core.analysis.hidden_layers import KNOWN_NAMES, hidden_layers
from uws_core.errors import StoreError
from uws_core.jobs import Report
from uws_core.nouns.independence import HiddenLayer, IndependenceTest
from uws_core.nouns.models import Collection
from uws_core.passes.options import no_report
from uws_core.store.codec import from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import job_panel, page, state, tasks
from uws_core.ui.selection import Selection

MOST_NETWORKS = 24
COPIES = 999
DEFINITION = (
    "Training does not know the order of an MLP's hidden units, so copies of a network with its units permuted are as "
    "likely as the network itself. p is the share of permuted copies in which units at the same place are as alike as "
    "here, and exact at 1 / (1 + copies) whatever the weights are. (arXiv 2502.12292) A relative whose units were "
    "reordered afterwards is not found."
)


def panel(selection: Selection, collection: Collection) -> None:
    """Whether chosen models were trained independently, once somebody asks."""
    st.markdown("**Trained independently?**", help=DEFINITION)
    if any(key.factor for key in collection.layers):
        st.caption("Updates of one base have the order of its hidden units, so an exact test takes whole networks.")
        return
    known = hidden_layers(collection.layers, transposed=collection.transposed)
    if not known:
        st.caption(
            "The exact test permutes the units of an MLP's hidden layer; no two matrices around one are known here by "
            f"name. Known names: {KNOWN_NAMES}."
        )
        return
    rows, layer = _choice(selection, collection, known)
    if len(rows) < 2:
        st.caption("Choose at least two models.")
        return
    task = _task(collection, rows, layer)
    if not job_panel.task_panel(task, tasks.peek(task)):
        return
    test = _test(collection, rows, layer)
    st.markdown(f"{page.plain(', '.join(test.labels))}: {test}")
    drawn = "" if test.units == layer.units else f", drawn from {layer.units}"
    st.caption(f"{test.units} hidden units of `{layer.name}`{drawn}. p cannot be below 1 / {test.copies + 1}.")


def _choice(
    selection: Selection, collection: Collection, known: tuple[HiddenLayer, ...]
) -> tuple[tuple[int, ...], HiddenLayer]:
    """The rows of the chosen models and the hidden layer."""
    members = selection.members_in(collection)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        rows = st.multiselect(
            "Models",
            list(members),
            default=list(members[:2]),
            max_selections=MOST_NETWORKS,
            format_func=lambda row: collection.labels[row],
            key=f"independence.models.{selection.collection}.{'|'.join(selection.members)}",
            help=f"2 to {MOST_NETWORKS}: of two it says whether they are relatives, of more whether any two are.",
        )
        names = {one.name: one for one in known}
        near = next((one.name for one in known if selection.layer in one.layers), known[0].name)
        name = st.selectbox(
            "Hidden layer",
            list(names),
            key=state.held(f"independence.layer.{selection.collection}", near),
            width=190,
            help="The matrices before and after it are compared, unit by unit.",
        )
    return tuple(sorted(rows)), names[name]


def _task(collection: Collection, rows: tuple[int, ...], layer: HiddenLayer) -> tasks.Task:
    n, shapes = len(rows), [collection.by_name[name].shape for name in layer.layers]
    read = 4 * n * sum(m * p for m, p in shapes)
    steps = n * (n - 1) / 2 * layer.units * sum(m * p for m, p in shapes)
    return tasks.Task(
        key=tasks.key_of("independence", collection.fingerprint, rows, layer),
        title=f"Testing whether {n} models were trained independently",
        seconds=tasks.read_seconds(collection, layer.layers) * n / len(collection) + steps / tasks.STEPS_PER_SECOND,
        bytes=read,
        work=lambda report: _test(collection, rows, layer, report),
    )


def _test(
    collection: Collection, rows: tuple[int, ...], layer: HiddenLayer, report: Report = no_report
) -> IndependenceTest:
    """The test, from the store or made now; the key holds rows, and models bear the names they have now."""
    key = f"{tasks.key_of('independence', collection.fingerprint, rows, layer)}/result"
    labels = tuple(collection.labels[row] for row in rows)
    with suppress(StoreError):
        raw = default_store().get(key)
        if raw is not None:
            return replace(from_bytes(IndependenceTest, raw), labels=labels)
    # torch is loaded only where weights are read.
    from uws_core.passes.independence import independence

    test = independence(collection, rows, hidden=layer.name, copies=COPIES, report=report)
    with suppress(StoreError):
        default_store().put(key, to_bytes(test))
    return test
