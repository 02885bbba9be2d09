"""The controls of the lineage page."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui import state
from uws_core.ui.selection import POOLS, Selection

# What is compared, and the centre it is compared about; the factors come as they are.
LIKENESS: Mapping[str, str] = {"raw": "zero", "about base": "base", "about mean": "mean", "A factors": "zero"}
WHOLE = "sum"


def lineage(selection: Selection, collection: Collection) -> Query:
    """The lineage page's query, from its row of controls; it has no layer where none has what was asked for."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        after = state.change(layer=layer(selection, collection))
        kind = likeness(selection, collection)
        st.number_input(
            "Threshold, cosine",
            min_value=-1.0,
            max_value=1.0,
            value=None,
            step=0.05,
            format="%.2f",
            placeholder="automatic",
            key="threshold",
            bind="query-params",
            width=150,
            help="Two models above it are relatives, and chains of relatives a group. Empty: the middle of the widest "
            "range of thresholds that give the same groups.",
        )
        st.toggle(
            "Fit colours",
            key="fit",
            bind="query-params",
            help="Let the colours of the cosines end where the numbers end, to see small and negative differences.",
        )
    return query_of(after, collection, likeness=kind)


def layer(selection: Selection, collection: Collection) -> str:
    """One layer, or all chosen ones as one long vector; a choice of another page stays until this one is touched."""
    names = selection.layers_in(collection)
    whole = {WHOLE: f"all {len(names)} layers as one"} if len(names) > 1 else {}
    choices = whole | {name: collection.by_name[name].short for name in names}
    before = WHOLE if selection.layer in POOLS else selection.layer
    picked = st.selectbox(
        "Layer",
        list(choices),
        key=state.held(f"lineage.layer.{selection.collection}.{'|'.join(selection.layers)}", before),
        format_func=lambda name: choices.get(name, name),
        width=185,
        help="One layer, or all that are chosen in the sidebar as one long vector.",
    )
    return selection.layer if picked == before else picked


def likeness(selection: Selection, collection: Collection) -> str:
    """What is compared: raw weights, what was learned, or the random starts of adapters."""
    known = list(kinds(selection, collection))
    # What another collection offered and this one does not is forgotten before the widget sees it.
    if st.session_state.get("likeness", known[0]) not in known:
        del st.session_state["likeness"]
    return str(
        st.segmented_control(
            "Compare",
            known,
            default=known[0],
            required=True,
            key="likeness",
            bind="query-params",
            help="Raw weights: siblings of one base are alike whatever they learned. About the base or the mean: "
            "what was learned. A factors: adapters that share a random start.",
        )
    )


def kinds(selection: Selection, collection: Collection) -> tuple[str, ...]:
    """What can be compared in the chosen layers of this collection."""
    base = collection.base is not None
    factors = any(f"{name}:A" in collection.by_name for name in selection.layers_in(collection))
    missing = {"about base": not base, "A factors": not factors}
    return tuple(name for name in LIKENESS if not missing.get(name, False))


def threshold() -> float | None:
    """The cosine above which two models are relatives; None is found from the cosines."""
    value = st.session_state.get("threshold")
    return None if value is None else float(value)


def views() -> dict[str, str]:
    """What the page's own switches say, as the address has it."""
    said = {"likeness": st.session_state.get("likeness", "raw"), "threshold": threshold(), "fit": fit()}
    plain = {"likeness": "raw", "threshold": None, "fit": False}
    return {
        name: str(value).lower() if name == "fit" else str(value)
        for name, value in said.items()
        if value != plain[name]
    }


def fit() -> bool:
    """Whether the colours of the cosines end where the numbers end."""
    return bool(st.session_state.get("fit", False))


def query_of(selection: Selection, collection: Collection, *, likeness: str) -> Query:
    """The query that a selection asks of the lineage page."""
    whole = selection.layer in POOLS
    layers = selection.layers_in(collection) if whole else (selection.layer,)
    if likeness == "A factors":
        views = (name if name.endswith(":A") else f"{name}:A" for name in layers)
        layers = tuple(dict.fromkeys(name for name in views if name in collection.by_name))
    return Query(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        members=selection.members_in(collection),
        layers=layers,
        pool="sum",
        about=LIKENESS[likeness],
    )


def colour(columns: Mapping[str, str], selection: Selection) -> str:
    """The attribute that colours the map; the sidebar's group where there is one."""
    names = list(columns)
    first = selection.group if selection.group in columns else names[0]
    return st.selectbox(
        "Colour",
        names,
        # Another group in the sidebar is another start here, so it is another widget.
        key=state.held(f"lineage.colour.{selection.collection}.{selection.group}", first),
        format_func=lambda name: columns[name],
        width=190,
        help="What colours the points: the groups found here, or a column of the models table.",
    )
