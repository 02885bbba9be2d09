"""The controls of the pair page."""

from __future__ import annotations

import streamlit as st

from uws_core.nouns.models import Collection
from uws_core.nouns.query import PairQuery
from uws_core.ui.angles import controls
from uws_core.ui.selection import Selection


def pair(selection: Selection, collection: Collection) -> PairQuery:
    """The page's query, from its row of controls: two of the chosen models, whose names stand in the address."""
    members = selection.members_in(collection)
    names = [collection.labels[row] for row in members]
    left, right = controls.pair(names, (0, 1))
    # A pair that nobody chose yet stands in the address as well.
    if st.query_params.get_all("pair") != [names[left], names[right]]:
        st.query_params["pair"] = [names[left], names[right]]
    return PairQuery(
        collection=selection.collection,
        fingerprint=collection.fingerprint,
        layers=selection.layers_in(collection),
        left=members[left],
        right=members[right],
    )


def only_differing() -> bool:
    """Whether equal layers are left away, from its switch."""
    return bool(
        st.toggle(
            "Only what differs",
            key="differs",
            bind="query-params",
            help="Leave equal layers away, the largest difference first.",
        )
    )
