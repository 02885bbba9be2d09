"""The controls of the angles page, and the pair that is looked at."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from uws_core.nouns.angles import BASE
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import state
from uws_core.ui.selection import POOLS, Selection
from uws_core.ui.spectrum.controls import centre

# These words stand in the address as they stand on the page.
VIEWS = ("models", "groups", "halves", "layers", "base")
MEASURES = ("mean", "largest", "overlap")
ORDERS = ("likeness", "group", "list")
# More directions than this of one side are all of them almost everywhere.
MOST = 1024
# Pairs of single models: 600 take 4 s of a core and 23 MB, 2,000 took 70 s and 256 MB at every change.
MOST_MODELS = 600
_PAIR = "angles.pair"


def angles(selection: Selection, collection: Collection) -> AnglesQuery:
    """The page's query, from its row of controls; what is chosen goes into the selection and the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        view = _view(collection)
        layer = "" if view == "layers" else _layer(selection, collection, view)
        axis = _axis(selection, view)
        k = int(
            st.number_input(
                "k",
                min_value=1,
                max_value=MOST,
                step=1,
                key=state.held("angles.k", min(selection.k, MOST)),
                width=110,
                help="How many leading directions of each are compared. What has fewer brings those it has.",
            )
        )
        _measure()
        about = _options(selection, collection)
    state.change(k=k, about=about)
    layers, members = selection.layers_in(collection), selection.members_in(collection)
    return AnglesQuery(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        members=members[:: thinning(len(members))] if view == "models" else members,
        layers=layers if view == "layers" else (layer,),
        view=view,
        axis=axis,
        k=k,
        group="" if view in ("models", "layers", "base") else selection.group,
        about=about,
    )


def thinning(models: int) -> int:
    """Every how many-th of so many models is compared with each other one, so that at most `MOST_MODELS` are."""
    return max(1, -(-models // MOST_MODELS))


def measure() -> str:
    """What a cell says: mean, largest or overlap."""
    return str(st.session_state.get("measure") or "mean")


def order() -> str:
    """In which order rows stand: likeness, group or list."""
    return str(st.session_state.get("order") or "likeness")


def fitted() -> bool:
    """Whether the colours end where the numbers end."""
    return st.session_state.get("colours") == "fitted"


def pair(names: Sequence[str], default: tuple[int, int]) -> tuple[int, int]:
    """The two rows that are looked at, from two boxes; what a click or the address asked for comes first."""
    start = looked_at(names) or default
    # Other rows, or another start, are other boxes.
    own = f"{start}.{hash(tuple(names))}"
    with st.container(horizontal=True, gap="small"):
        boxes = [
            st.selectbox(label, names, index=place, key=f"angles.{label}.{own}", on_change=_boxes, args=(own,))
            for label, place in zip(("First", "Second"), start, strict=True)
        ]
    return names.index(boxes[0]), names.index(boxes[1])


def looked_at(names: Sequence[str]) -> tuple[int, int] | None:
    """The two rows that a click or the address asks for; None where both are not among them."""
    asked = list(st.session_state.get(_PAIR) or st.query_params.get_all("pair"))
    known = [names.index(name) for name in asked if name in names]
    return (known[0], known[1]) if len(known) == 2 and known[0] != known[1] else None


def model(names: Sequence[str], default: int) -> int:
    """The one model that is looked at beside the base, from a box; a click or the address comes first."""
    asked = list(st.session_state.get(_PAIR) or st.query_params.get_all("pair"))
    start = next((names.index(name) for name in asked if name in names), default)
    own = f"base.{start}.{hash(tuple(names))}"
    box = f"angles.Model.{own}"
    picked: str = st.selectbox(
        "Model", names, index=start, key=box, on_change=lambda: look_at(st.session_state[box], BASE)
    )
    return names.index(picked)


def look_at(left: str, right: str) -> None:
    """Look at these two from the next run on, and say so in the address."""
    st.session_state[_PAIR] = [left, right]
    st.query_params["pair"] = [left, right]


def _boxes(own: str) -> None:
    look_at(*(st.session_state[f"angles.{label}.{own}"] for label in ("First", "Second")))


def _view(collection: Collection) -> str:
    picked = st.segmented_control(
        "Compare",
        VIEWS if collection.base_layers else VIEWS[:-1],
        default="models",
        required=True,
        key="view",
        bind="query-params",
        help="models: each model's own leading directions. groups: the directions that the models of a group share, "
        "group against group. halves: those of random halves. layers: those of layers of equal width. base: each "
        "model's own with those the base is strongest in, where a base is known.",
    )
    return str(picked or "models")


def _layer(selection: Selection, collection: Collection, view: str) -> str:
    names = selection.layers_in(collection)
    if view == "base":
        names = tuple(name for name in names if name in collection.base_layers) or names
    shown = selection.layer if selection.layer not in POOLS and selection.layer in names else names[0]
    picked: str = st.selectbox(
        "Layer",
        names,
        key=state.held(f"angles.layer.{selection.collection}.{'|'.join(selection.layers)}", shown),
        format_func=lambda name: collection.by_name[name].short,
        width=150,
        help="The layer whose directions are compared.",
    )
    if picked != shown:
        state.change(layer=picked)
    return picked


def _axis(selection: Selection, view: str) -> str:
    """Which directions; a page that cannot show the chosen axis shows the first it can and leaves the choice alone."""
    sides = [Axis.IN.value, Axis.OUT.value]
    known = sides if view in ("models", "layers", "base") else [Axis.MODELS.value, *sides]
    shown = selection.axis if selection.axis in known else known[0]
    picked = st.segmented_control(
        "Directions",
        known,
        key=state.held(f"angles.axis.{view}", shown),
        required=True,
        help="in: directions of what a layer reads. out: directions of what it writes. models: directions in the space "
        "of all its weights, one number a model each.",
    )
    if picked != shown:
        state.change(axis=picked)
    return str(picked or shown)


def _measure() -> None:
    st.segmented_control(
        "Show",
        MEASURES,
        default="mean",
        required=True,
        key="measure",
        bind="query-params",
        help="Mean or largest principal angle in degrees, or the overlap: the mean squared cosine of the angles, 1 for "
        "one subspace inside the other.",
    )


def _options(selection: Selection, collection: Collection) -> str:
    with st.popover("Options", width="content"):
        about = centre(selection, collection, page="angles")
        st.segmented_control(
            "Order",
            ORDERS,
            default="likeness",
            required=True,
            key="order",
            bind="query-params",
            help="By likeness: average linkage on the mean angles, with its tree. By group: the one in the sidebar.",
        )
        st.segmented_control(
            "Colours",
            ["fixed", "fitted"],
            default="fixed",
            required=True,
            key="colours",
            bind="query-params",
            help="Fixed: 0 to 90 degrees on every figure. Fitted: from the least to the most, for small differences.",
        )
    return about
