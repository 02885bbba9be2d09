"""The controls of the spectrum page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui import state
from uws_core.ui.selection import AXES, CENTRES, NULLS, POOLS, Selection

NOISE = {"profile": "same profile", "strength": "same norms", "gaussian": "equal norms", "none": "none"}
CENTRE = {"mean": "their mean", "zero": "zero", "base": "the base"}


def spectrum(selection: Selection, collection: Collection) -> Query:
    """The spectrum page's query, from its row of controls; what is chosen goes into the selection and the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        selection = state.change(axis=axis(selection))
        chosen = {
            "layer": layer(selection, collection),
            "about": centre(selection, collection),
            "null": noise(selection),
            "share": share(selection),
        }
        with st.popover("Options", width="content"):
            after = state.change(**chosen, unit=unit_norm(selection))
            st.segmented_control(
                "Scale of the shares", ["log", "linear"], default="log", required=True, key="scale", bind="query-params"
            )
            precision()
    return query_of(after, collection)


def axis(selection: Selection) -> str:
    """What the points of the spectrum are."""
    picked = st.segmented_control(
        "Axis",
        [one.value for one in Axis],
        format_func=AXES.__getitem__,
        key=state.held("axis", selection.axis),
        required=True,
        help="models: each model's layer is one point, and a direction costs one number a model. inputs, outputs: the "
        "rows or the columns of all models are the points (the modes of the HOSVD), and a direction costs m or p "
        "numbers a model. The same k means very different sizes.",
    )
    return picked or selection.axis


def layer(selection: Selection, collection: Collection) -> str:
    """One layer, or what all chosen ones become."""
    choices = layer_choices(selection, collection)
    return st.selectbox(
        "Layer",
        list(choices),
        # Another choice of layers in the sidebar is another list here, so it is another widget.
        key=state.held(f"layer.{selection.collection}.{selection.axis}.{'|'.join(selection.layers)}", selection.layer),
        format_func=lambda name: choices.get(name, name),
        width=155,
        help="One layer, or all that are chosen in the sidebar: as one long vector, averaged, or side by side.",
    )


def centre(selection: Selection, collection: Collection, page: str = "spectrum") -> str:
    """What is subtracted from every model, asked for on `page`."""
    known = CENTRES if collection.base is not None else CENTRES[:2]
    picked: str = st.selectbox(
        "Centre",
        [*known, *(label for label in collection.labels if label not in CENTRES)],
        # A key that two pages share would hand the second a value without its widget: Streamlit then takes the first.
        key=state.held(f"{page}.about.{selection.collection}", selection.about),
        format_func=lambda name: CENTRE.get(name, name),
        width=115,
        help="What is subtracted from every model before anything is squared: the mean of the chosen models, "
        "nothing, the base they started from, or one of them.",
    )
    return picked


def noise(selection: Selection) -> str:
    """What the models are compared with; on the side axes one kind, as others take every decay for sharing."""
    if selection.axis != Axis.MODELS:
        picked = st.selectbox(
            "Noise",
            ("profile", "none"),
            key=state.held("null.side", side_null(selection)),
            format_func=lambda kind: {"profile": "same spectra"}.get(kind, kind),
            width=142,
            help="Every model keeps its own singular values and gets random directions on both sides. Noise of equal "
            "entries is not offered: it takes the decay inside each model for sharing.",
        )
        return selection.null if picked == side_null(selection) else picked
    return st.selectbox(
        "Noise",
        NULLS,
        key=state.held("null", selection.null),
        format_func=lambda kind: NOISE[kind],
        width=142,
        help="What they are compared with. Same profile: every model's part in every block of rows or columns gets a "
        "random sign, which keeps norms and scales of rows. Same norms: random directions at every model's own "
        "distance from the centre. Equal norms: random directions at equal distances, with the Marchenko-Pastur edge.",
    )


def side_null(selection: Selection) -> str:
    """The noise of a side axis, whatever is chosen for the models axis."""
    return "none" if selection.null == "none" else "profile"


def share(selection: Selection, page: str = "spectrum") -> float:
    """The share of the variance that the counted directions carry, asked for on `page`."""
    percent = st.number_input(
        "Share, %",
        min_value=1.0,
        max_value=99.9,
        step=5.0,
        format="%g",
        key=state.held(f"{page}.share", round(100 * selection.share, 3)),
        width=92,
        help="How much of the variance the counted directions have to carry: a rank is the fewest that do.",
    )
    return percent / 100


def unit_norm(selection: Selection) -> bool:
    """Whether every centred model is scaled to norm 1."""
    return st.toggle(
        "Unit norm",
        key=state.held("unit", selection.unit),
        help="Scale every centred model to norm 1 first: models of unequal strength alone make a spectrum fall.",
    )


def precision() -> None:
    """What products are formed in."""
    st.segmented_control(
        "Precision of the products",
        ["auto", "double"],
        default="auto",
        required=True,
        key="precision",
        bind="query-params",
        help="auto: single precision, which keeps variances to 1e-7 of the largest of all models, unless the weights "
        "are stored in double. double: to 1e-15; the layer is read again and takes longer. On the models axis.",
    )


def choose_double() -> None:
    """Form products in double precision from now on."""
    st.session_state["precision"] = "double"


def log_scale() -> bool:
    """Whether shares are drawn on a logarithmic scale."""
    return st.session_state.get("scale") != "linear"


def query_of(selection: Selection, collection: Collection) -> Query:
    """The query that a selection asks of the spectrum page."""
    pooled = selection.layer in POOLS
    return Query(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        members=selection.members_in(collection),
        layers=selection.shown_in(collection),
        pool=selection.layer if pooled else "sum",
        axis=selection.axis,
        about=selection.about,
        unit=selection.unit,
        null=selection.null if selection.axis == Axis.MODELS else side_null(selection),
        share=selection.share,
        precision="double" if selection.axis == Axis.MODELS and in_double() else "auto",
    )


def in_double() -> bool:
    """Whether double precision was asked for."""
    return st.session_state.get("precision") == "double"


def network(selection: Selection, collection: Collection) -> Query:
    """The query of the overview: every chosen layer for itself."""
    layers = selection.layers_in(collection)
    return replace(query_of(selection, collection), layers=layers, pool="each", precision="auto")


def layer_choices(selection: Selection, collection: Collection) -> Mapping[str, str]:
    """What can be chosen as the layer, each with what a person reads; the pools first where there are several."""
    layers = selection.layers_in(collection)
    whole = sum(not collection.by_name[name].factor for name in layers)
    words = {"sum": f"all {whole} layers as one", "mean": f"mean over {whole} layers", "each": f"each of {len(layers)}"}
    return {pool: words[pool] for pool in selection.pools_in(collection)} | {
        name: collection.by_name[name].short for name in layers
    }
