"""The controls of the compress page."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from uws_core.nouns.models import Collection
from uws_core.ui import state, tokens
from uws_core.ui.selection import Selection

KINDS = ("directions", "size", "error")
METHODS = {"auto": "automatic", "two-sided": "two-sided", "diagonal": "diagonal", "in": "inputs", "out": "outputs"}
# Each has other numbers behind it: 8 directions, a quarter of the bytes, 50 % error.
_FIRST = {"directions": 8.0, "size": 25.0, "error": 50.0}


@dataclass(frozen=True, slots=True)
class CompressQuery:
    """What is compressed, and how: plain texts and numbers, so that it can key a cache."""

    collection: str
    fingerprint: str
    layers: tuple[str, ...]
    members: tuple[int, ...]
    kind: str
    amount: float
    method: str
    dtype: str
    # The column whose groups are held out of the basis in turn; empty for none.
    held_out: str = ""


def compress(selection: Selection, collection: Collection) -> CompressQuery:
    """The query of the compress page, from its row of controls."""
    low_rank = any(f"{layer.name}:A" in collection.by_name for layer in collection.layers)
    methods = ("auto", "two-sided", "diagonal") if low_rank else ("auto", "in", "out", "two-sided")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        kind = str(
            st.segmented_control(
                "Choose by",
                KINDS,
                default=KINDS[0],
                required=True,
                key="fit_by",
                help="Directions a side in every layer, the size of the chosen layers against what they take now, or "
                "the error that no model may exceed.",
            )
        )
        units = {"directions": "Directions", "size": "Size, % of now", "error": "Largest error, %"}
        amount = st.number_input(
            units[kind],
            min_value=1.0,
            max_value=4096.0 if kind == "directions" else 99.0,
            value=_FIRST[kind],
            step=1.0,
            format="%g",
            key=f"amount.{kind}",
            width=130,
        )
        method = st.selectbox(
            "Basis",
            methods,
            format_func=lambda name: METHODS[name],
            key=f"method.{low_rank}",
            width=130,
            help="Two-sided: U S V with one core a model. Diagonal: the core has only a diagonal. Inputs or outputs: "
            "a basis on one side of whole weights.",
        )
        dtype = st.selectbox("Numbers", ("float32", "bfloat16", "float16"), key="numbers", width=110)
        columns = tokens.group_columns(collection)
        held_out = st.selectbox(
            "Hold out",
            ("", *columns),
            format_func=lambda name: name or "nothing",
            key="hold_out",
            width=130,
            help="Each group of models also in the basis that is made without it: what a new model of a new group "
            "would lose.",
        )
    layers = tuple(name for name in state.current().layers_in(collection) if not collection.by_name[name].factor)
    return CompressQuery(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        layers=layers,
        members=tuple(selection.members_in(collection)),
        kind=kind,
        amount=float(amount),
        method=method,
        dtype=dtype,
        held_out=held_out if held_out in columns else "",
    )
