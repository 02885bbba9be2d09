"""How the files were read: what a reader must know of it at once, and every key of every file, folded."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.errors import UwsError
from uws_core.frames import loader as frames
from uws_core.nouns.loader import Fate, LoaderReport
from uws_core.nouns.models import Collection
from uws_core.ui import figures, page
from uws_core.ui.panels import choices
from uws_core.ui.selection import Selection
from uws_core.ui.serve import loader as serve

_ASSUMED = "scale assumed 1"
_HEIGHT = 300


def notices(collection: Collection) -> None:
    """That a scale was assumed, and that pickled files were opened; nothing where neither is so."""
    assumed = dict.fromkeys(one.reason for one in collection.left_out if one.reason.startswith(_ASSUMED))
    for reason in assumed:
        st.caption(
            f":material/info: The scale of the updates is assumed to be 1{page.plain(reason.removeprefix(_ASSUMED))}. "
            "Adapters trained with different alphas then compare as if with one; put adapter_config.json beside the "
            "weights, or upload it together with them."
        )
    if any(ref.pickled for ref in collection.refs):
        st.caption(f":material/warning: Pickled files are read here. {choices.WARNING}")


def report(selection: Selection, collection: Collection) -> None:
    """One model's keys with what became of each, and its scales with what told them; read when it is unfolded."""
    with st.expander("Loader report", icon=":material/fact_check:", key="loader.open", on_change="rerun") as box:
        if not box.open:
            return
        models = {one.label: one for one in serve.models(selection.collection, collection)}
        label = st.selectbox(
            "Model",
            list(models),
            format_func=lambda name: name if models[name].compared else f"{name} (left out)",
            key=f"loader.model.{selection.collection}",
            width=320,
            help="Every key of its files is listed: used, ignored, unknown, or unmatched without its other half.",
        )
        try:
            found = serve.report(models[label])
        except UwsError as error:
            page.problem(str(error))
            return
        st.caption(page.plain(_summary(found)))
        _tables(label, found, selection, collection)


def _summary(found: LoaderReport) -> str:
    kind = " and ".join(found.dialects) + (" " if found.dialects else "") + found.format
    counts = ", ".join(f"{found.counts[fate]} {fate}" for fate in Fate)
    return ". ".join([f"{kind}, {len(found.keys)} keys: {counts}", *found.notes])


def _tables(label: str, found: LoaderReport, selection: Selection, collection: Collection) -> None:
    """The keys, the scales where there are any, and each as a file."""
    tables = {"keys": frames.keys({label: found}), "scales": frames.scales({label: found})}
    for name, frame in tables.items():
        if frame.is_empty():
            continue
        st.markdown(f"**{name.capitalize()}**")
        shown = frame.drop("model")
        st.dataframe(
            shown,
            hide_index=True,
            height=_HEIGHT if shown.height > 7 else "auto",
            column_config=page.configs(shown, frames.HELP),
            alt=f"{name.capitalize()} of {label}, and what became of them",
        )
        source = figures.origin(
            f"loader report {label} {name}",
            f"{label}: how its files were read, {name}",
            page="collection",
            selection=selection,
            collection=collection,
            layers=(),
        )
        figures.table_buttons(frame, replace(source, columns=frames.HELP), key=f"loader.{name}")
