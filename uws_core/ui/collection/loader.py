"""How the files of the chosen collection were read: notices, and every key of every file on demand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from uws_core.errors import UwsError
from uws_core.frames.loader import HELP, keys, scales
from uws_core.nouns.loader import USUAL, Fate, LoaderReport, Located
from uws_core.nouns.models import Collection
from uws_core.reporting import loader
from uws_core.ui import figures, folders, page, saved_collections
from uws_core.ui.catalogue import catalogue
from uws_core.ui.collection import controls
from uws_core.ui.selection import Selection

_ASSUMED = "scale assumed 1"


def models_at(here: str, collection: Collection) -> tuple[Located, ...]:
    """The models of the collection `here`, then those left out of it that lie at its place."""
    place = catalogue().place(here)
    choices = USUAL if place is None else place.choices
    try:
        return loader.models_of(collection, None if place is None else place.path, pickled=choices.pickled)
    except UwsError:
        return loader.models_of(collection)


def notices(collection: Collection) -> None:
    """That a scale was assumed, and that pickled files were opened; nothing where neither is so."""
    assumed = dict.fromkeys(item.reason for item in collection.left_out if item.reason.startswith(_ASSUMED))
    for reason in assumed:
        st.caption(
            f":material/info: The scale of the updates is assumed to be 1{page.plain(reason.removeprefix(_ASSUMED))}. "
            "Adapters trained with different alphas then compare as if with one; put adapter_config.json beside the "
            "weights, or upload it together with them."
        )
    if any(ref.pickled for ref in collection.refs):
        st.caption(f":material/warning: Pickled files are read here. {controls.WARNING}")


def panel(selection: Selection, collection: Collection) -> None:
    """One model's keys with what became of each, and its scales with what told them; read when it is unfolded."""
    with st.expander("Loader report", icon=":material/fact_check:", key="loader.open", on_change="rerun") as box:
        if not box.open:
            return
        models = {model.label: model for model in models_at(selection.collection, collection)}
        label = st.selectbox(
            "Model",
            list(models),
            format_func=lambda name: name if models[name].compared else f"{name} (left out)",
            key=f"loader.model.{selection.collection}",
            width=320,
            help="Every key of its files is listed: used, ignored, unknown, or unmatched without its other half.",
        )
        try:
            # What became of every key of a model's files.
            model = models[label]
            # Models that are compared were checked when the collection was opened, and the built-in ones lie elsewhere.
            roots = (*folders.roots(), saved_collections.folder().resolve())
            loader_report = _cached_report(model, None if model.compared else tuple(map(str, roots)))
        except UwsError as error:
            page.problem(str(error))
            return
        st.caption(page.plain(_summary(loader_report)))
        _tables(label, loader_report, selection, collection)


# An adapter's alphas are a small read each, over a network a slow one.
@st.cache_data(ttl=60, max_entries=64, show_spinner="Reading the headers")
def _cached_report(model: Located, roots: tuple[str, ...] | None) -> LoaderReport:
    return loader.report_of(model, roots=None if roots is None else [Path(root) for root in roots])


def _summary(report: LoaderReport) -> str:
    kind = " and ".join(report.dialects) + (" " if report.dialects else "") + report.format
    counts = ", ".join(f"{report.counts[fate]} {fate}" for fate in Fate)
    return ". ".join([f"{kind}, {len(report.keys)} keys: {counts}", *report.notes])


def _tables(label: str, report: LoaderReport, selection: Selection, collection: Collection) -> None:
    """The keys, the scales where there are any, and each as a file."""
    tables = {"keys": keys({label: report}), "scales": scales({label: report})}
    for name, frame in tables.items():
        if frame.is_empty():
            continue
        st.markdown(f"**{name.capitalize()}**")
        shown = frame.drop("model")
        st.dataframe(
            shown,
            hide_index=True,
            height=page.height(shown.height),
            column_config=page.configs(shown, HELP),
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
        figures.table_buttons(frame, replace(source, columns=HELP), key=f"loader.{name}")
