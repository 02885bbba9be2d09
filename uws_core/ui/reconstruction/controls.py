"""The controls of the reconstruction page."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.nouns.query import RebuildQuery
from uws_core.ui import state, tokens
from uws_core.ui.selection import AXES, POOLS, Selection

# All chosen layers, each with a subspace of its own: the pool that the address can say on every axis.
TOGETHER = "each"
REFERENCES = ("base", "mean", "zero")
MOST = 4096


def reconstruction(selection: Selection, collection: Collection) -> RebuildQuery:
    """The page's query, from its row of controls; what is chosen goes into the selection and the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        layers = _layers(selection, collection)
        axis = _axis(selection)
        group = _held_out(selection, collection)
        k = _directions(selection)
        reference, about, own = _options(selection, collection)
    state.change(k=k, axis=axis, layer=_focus(selection.layer, layers, axis))
    return RebuildQuery(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        members=selection.members_in(collection),
        layers=layers,
        axis=axis,
        group=group,
        reference=reference,
        # On the side axes the others' mean is the only centre.
        about=about if axis == Axis.MODELS else "mean",
        own=own,
    )


def whole_network(query: RebuildQuery, selection: Selection, collection: Collection) -> RebuildQuery:
    """The query for all chosen layers at once: one layer alone hardly changes what a network does."""
    return replace(query, layers=selection.layers_in(collection))


def log_scale() -> bool:
    """Whether errors are drawn on a logarithmic scale."""
    return st.session_state.get("error") == "log"


def whole() -> bool:
    """Whether sizes are those of whole checkpoints."""
    return st.session_state.get("count") == "whole checkpoints"


def views() -> dict[str, str | list[str]]:
    """What the page's own switches say, for the address of an export."""
    keys = ("hold", "relative", "reference", "own", "error", "count")
    return {key: str(st.session_state[key]).lower() for key in keys if key in st.session_state}


def _layers(selection: Selection, collection: Collection) -> tuple[str, ...]:
    """One layer, or all that are chosen in the sidebar, each with a subspace of its own."""
    names = selection.layers_in(collection)
    choices = ({TOGETHER: f"all {len(names)} layers"} if len(names) > 1 else {}) | {
        name: collection.by_name[name].short for name in names
    }
    shown = TOGETHER if selection.layer in POOLS and len(names) > 1 else selection.layer
    shown = shown if shown in choices else names[0]
    picked: str = st.selectbox(
        "Layer",
        list(choices),
        key=state.held(f"rebuild.layer.{selection.collection}.{'|'.join(selection.layers)}", shown),
        format_func=lambda name: choices.get(name, name),
        width=150,
        help="One layer, or all that are chosen in the sidebar: each with a subspace of its own.",
    )
    return names if picked == TOGETHER else (picked,)


def _focus(before: str, layers: tuple[str, ...], axis: str) -> str:
    """How the selection says these layers: a pool that is chosen stays, where the axis has it."""
    if len(layers) == 1:
        return layers[0]
    return before if before in POOLS and axis == Axis.MODELS else TOGETHER


def _axis(selection: Selection) -> str:
    picked = st.segmented_control(
        "Axis",
        [one.value for one in Axis],
        format_func=AXES.__getitem__,
        key=state.held("rebuild.axis", selection.axis),
        required=True,
        help="models: a direction is a whole layer and costs one number a model. inputs, outputs: it is one of the "
        "inputs or outputs and costs m or p numbers a model. The same k means very different sizes.",
    )
    return str(picked or selection.axis)


def _held_out(selection: Selection, collection: Collection) -> str:
    """The attribute whose values are held out as a whole, or nothing for one model at a time."""
    attribute = tokens.telling_column(collection, selection.members_in(collection), chosen=selection.group)
    if not attribute:
        return ""
    picked = st.segmented_control(
        "Hold out",
        ["group", "model"],
        default="group",
        required=True,
        key="hold",
        bind="query-params",
        format_func={"group": attribute, "model": "model"}.__getitem__,
        help="A model alone finds its siblings again: the same task with another seed. A whole group has to be rebuilt "
        "from the others. Choose the attribute under Group by in the sidebar.",
    )
    return "" if picked == "model" else attribute


def _directions(selection: Selection) -> int:
    return int(
        st.number_input(
            "k",
            min_value=1,
            max_value=MOST,
            step=1,
            key=state.held("rebuild.k", min(selection.k, MOST)),
            width=110,
            help="How many directions are kept: where the answer is read and the models are ranked.",
        )
    )


def _options(selection: Selection, collection: Collection) -> tuple[str, str, bool]:
    """The reference, the centre, and whether to compare with the models' own SVD."""
    known = [name for name in REFERENCES if name != "base" or collection.base is not None]
    with st.popover("Options", width="content"):
        reference, about = _reference(known), _about(selection, known)
        own = st.toggle(
            "Own SVD",
            value=True,
            key="own",
            bind="query-params",
            help="Compare with each model's own truncated SVD at as many stored numbers; reads the weights once more.",
        )
        st.segmented_control(
            "Scale of the errors", ["linear", "log"], default="linear", required=True, key="error", bind="query-params"
        )
        st.segmented_control(
            "Count", ["these layers", "whole checkpoints"], default="these layers", required=True, key="count",
            bind="query-params", help="Whose size is counted: the analysed layers, or everything a checkpoint stores.",
        )  # fmt: skip
    return reference, about, bool(own)


def _reference(known: list[str]) -> str:
    picked = st.segmented_control(
        "Errors relative to",
        known,
        default=known[0],
        required=True,
        # Another list of options is another switch.
        key="relative" if "base" in known else "reference",
        bind="query-params",
        help="What an error of 100 % is: the distance to the base, to the mean of the others, or to zero weights.",
    )
    return str(picked or known[0])


def _about(selection: Selection, known: list[str]) -> str:
    """What the subspace lies about; a page that cannot show the chosen centre leaves the choice alone."""
    shown = selection.about if selection.about in known else "mean"
    picked = st.segmented_control(
        "Subspace about",
        known,
        key=state.held(f"rebuild.about.{selection.collection}", shown),
        required=True,
        help="What the others' directions are taken about, on the models axis. The mean is stored as well.",
    )
    if picked != shown:
        state.change(about=picked)
    return str(picked or shown)
