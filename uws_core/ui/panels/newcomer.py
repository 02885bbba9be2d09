"""A model from outside on the same lines: a folder under the roots, or one uploaded file."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.answers import reconstruction as answers
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames import reconstruction as frames
from uws_core.frames.reconstruction import HELP
from uws_core.nouns.models import Collection, ModelRef
from uws_core.nouns.views import RebuildQuery
from uws_core.ui import job_panel, page
from uws_core.ui.panels import reconstruction as panels
from uws_core.ui.serve import newcomer as serve


def panel(query: RebuildQuery, collection: Collection, source: Provenance, *, k: int) -> None:
    """Ask for a model, and show how much of it the collection's subspace leaves."""
    with st.expander("Project another model", icon=":material/input:", key="newcomer.box"):
        st.caption(
            "A model of the same architecture that is not in the collection: type its folder, or drop one safetensors "
            "file. It stays on the machine the app runs on."
        )
        left, right = st.columns(2)
        typed = left.text_input("Folder", key="newcomer.folder", placeholder="/path/to/model")
        dropped = right.file_uploader("File", type=["safetensors"], key="newcomer.file")
        if not typed and dropped is None:
            return
        try:
            if dropped is not None:
                ref, label = serve.from_upload(dropped.getvalue()), dropped.name.removesuffix(".safetensors")
            else:
                ref, label = serve.from_folder(typed), typed.rstrip("/").rsplit("/", 1)[-1]
            _show(query, collection, source, ref, _apart(label, collection), k=k)
        except UwsError as error:
            page.problem(str(error))


def _show(
    query: RebuildQuery, collection: Collection, source: Provenance, ref: ModelRef, label: str, *, k: int
) -> None:
    if str(ref.commit) in {one.commit for one in collection.refs}:
        st.caption(":material/info: This very model is in the collection; its subspace has seen it.")
    task = serve.task(query, collection, str(ref))
    if not job_panel.task_panel(task):
        return
    found = serve.projected(query, str(ref), label)
    most, n = found.together.ceiling, found.together.trained_on
    if k > most:
        st.caption(f":material/info: {k} directions were asked for, the {n} models give {most}; that many are shown.")
    k = min(k, most)
    caption = answers.answer_unseen_model(found.together, k=k, place=panels.place(query, collection))
    st.markdown(caption)
    panels.newcomer_curve(found.together, query, _source(source, found, ref, caption), k=k)
    by_layer = frames.by_layer({collection.by_name[name].short: [one] for name, one in found.layers.items()}, k)
    st.dataframe(
        by_layer.drop("model", "group", "nothing", "note"),
        hide_index=True,
        column_config=page.configs(by_layer, HELP, percent=panels.PERCENT),
        alt="The newcomer's errors layer by layer",
    )
    for one in found.left_out:
        st.caption(f":material/info: {page.plain(one.what)}: {page.plain(one.reason)}")


def _source(source: Provenance, found: serve.Projected, ref: ModelRef, caption: str) -> Provenance:
    """Where the newcomer's figure comes from: the collection's models and this one, in the layers they share."""
    return replace(
        panels.figure_source(source, f"projected {found.together.model}", caption),
        models=(*source.models, str(ref)),
        layers=tuple(found.layers),
        settings={**source.settings, "projected": found.together.model},
        left_out=(*source.left_out, *found.left_out),
    )


def _apart(label: str, collection: Collection) -> str:
    """A name that no model of the collection bears."""
    return f"{label} (new)" if label in collection.labels else label
