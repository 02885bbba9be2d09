"""The sidebar: what data, the same on every page, with a line of state and what is being computed."""

from __future__ import annotations

import streamlit as st

from uws_core.errors import StoreError
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.models import Collection
from uws_core.store.results import default_store
from uws_core.ui import grams, state, tokens
from uws_core.ui.catalogue import catalogue
from uws_core.ui.compute import device
from uws_core.ui.page import plain
from uws_core.ui.selection import ARCHITECTURE, Selection, base_id, having_id, id_parts


def show() -> None:
    """The controls of the sidebar; what they say goes into the selection and the address."""
    selection = state.current()
    collections = catalogue()
    with st.sidebar:
        chosen = st.selectbox(
            "Collection",
            collections.ids(),
            key=state.held("collection", base_id(selection.collection)),
            format_func=collections.title,
            help="Models of one architecture. Open a folder of your own on the collection page.",
        )
        if chosen != base_id(selection.collection):
            selection = state.change(collection=chosen)
        selection = _having(_architecture(selection))
        collection = collections.get(selection.collection)
        if collection is not None:
            selection = _models_and_layers(selection, collection)
            st.caption(state_line(selection, collection))
        if any(job.status.active for job in grams.jobs().jobs()):
            st.fragment(_jobs, run_every=1.0)()
    if asked := state.lost():
        st.warning(
            f"This link names a collection that nobody has opened here: {plain(asked)}. Shown instead: "
            f"{plain(collections.title(selection.collection))}. Open yours under Folder on the collection page, which "
            "also says what cannot be read."
        )


def state_line(selection: Selection, collection: Collection) -> str:
    """How much of the collection is chosen, where numbers are computed, and how much is stored."""
    models = f"{len(selection.members_in(collection))} of {len(collection)} models"
    *_, layer = id_parts(selection.collection)
    if layer:
        models = f"{models} that have {plain(layer)}"
    layers = f"{len(selection.layers_in(collection))} of {len(collection.layers)} layers"
    return ", ".join([models, layers, device(), _stored()])


def _architecture(selection: Selection) -> Selection:
    """The choice of an architecture, where models of several lie at one place."""
    here, known = base_id(selection.collection), catalogue().architectures(selection.collection)
    collection = catalogue().get(selection.collection)
    if not known or collection is None:
        return selection
    shown = next((item.id for item in known if collection.labels[0] in item.models), known[0].id)
    titles = {item.id: str(item) for item in known}
    picked = st.selectbox(
        "Architecture",
        list(titles),
        key=state.held(f"architecture.{here}", shown),
        format_func=lambda name: titles.get(name, name),
        help="Models of several architectures lie here. Those of one can be compared with each other.",
    )
    return selection if picked == shown else state.change(collection=f"{here}{ARCHITECTURE}{picked}")


def _having(selection: Selection) -> Selection:
    """The choice of a layer that part of the models have, where there is one: then only these are compared."""
    place, (*_, chosen) = having_id(selection.collection, ""), id_parts(selection.collection)
    whole = catalogue().get(place)
    if whole is None or not whole.partial:
        return selection
    titles = {"": f"any: all {len(whole)} models"}
    titles |= {item.key.name: f"{item.key.short} ({len(item.models)} of {item.of})" for item in whole.partial}
    picked = st.selectbox(
        "Models with layer",
        list(titles),
        key=state.held(f"having.{place}", chosen),
        format_func=lambda name: titles.get(name, name),
        help="Some layers are in part of the models only. Choose one to compare it among the models that have it.",
    )
    return selection if picked == chosen else state.change(collection=having_id(place, picked))


def _models_and_layers(selection: Selection, collection: Collection) -> Selection:
    here = selection.collection
    models = tokens.model_options(collection)
    models |= {token: tokens.model_caption(collection, token) for token in selection.members if token not in models}
    layers = dict.fromkeys([*tokens.layer_options(collection), *selection.layers])
    members = st.multiselect(
        "Models",
        list(models),
        key=state.held(f"members.{here}", list(selection.members)),
        format_func=lambda token: models.get(token, token),
        placeholder=f"all {len(collection)}",
        help="Values of one attribute add up, different attributes narrow, single models are added. Empty means all.",
    )
    chosen = st.multiselect(
        "Layers",
        list(layers),
        key=state.held(f"layers.{here}", list(selection.layers)),
        format_func=lambda token: tokens.layer_caption(collection, token),
        placeholder=f"all {len(tokens.layer_names(collection, ()))}",
        help="Single layers, a module at every depth (`*.attn.q`), or a whole block (`2.*`). Empty means all.",
    )
    group = st.selectbox(
        "Group by",
        ["", *tokens.group_columns(collection)],
        key=state.held(f"group.{here}", selection.group),
        format_func=lambda name: name or "nothing",
        help="The attribute whose values are compared, coloured, or held out together.",
    )
    return state.change(members=members, layers=chosen, group=group)


def _stored() -> str:
    try:
        return f"store {bytes_text(default_store().stats().bytes)}"
    except StoreError:
        return "store not usable"


def _jobs() -> None:
    active = [job for job in grams.jobs().jobs() if job.status.active]
    for job in active:
        st.progress(job.fraction, text=f"{job.title}: {job.fraction:.0%}")
    if not active:
        st.rerun()
