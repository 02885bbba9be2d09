"""The controls of the evidence page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.models import Collection
from uws_core.nouns.query import EvidenceQuery
from uws_core.reporting.evidence_cache import DRAWS, USUAL_DRAWS
from uws_core.ui import state, tokens
from uws_core.ui.selection import POOLS, Selection
from uws_core.ui.spectrum.controls import share

EACH, WHOLE = "each", "sum"
CLAIM = "claim"
_BY_LINEAGE = "by lineage only"
MOST_SEED = 2**31 - 1


def evidence(selection: Selection, collection: Collection) -> EvidenceQuery:
    """The page's query, from its row of controls; what is chosen goes into the selection and the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        after = state.change(layer=layer(selection, collection))
        group = _group(after, collection)
        draws, seed = _draws(), _seed()
        with st.popover("Options", width="content"):
            after = state.change(share=share(after, "evidence"))
            kept = _kept()
    return EvidenceQuery(
        collection=after.collection,
        fingerprint=collection.fingerprint,
        members=after.members_in(collection),
        layers=after.layers_in(collection) if after.layer in POOLS else (after.layer,),
        each=after.layer in POOLS and after.layer != WHOLE,
        group=group,
        kept=kept,
        share=after.share,
        draws=draws,
        seed=seed,
    )


def layer(selection: Selection, collection: Collection) -> str:
    """One layer, all chosen ones as one long vector, or each by itself with the tests corrected together."""
    names = selection.layers_in(collection)
    n = len(names)
    many = {EACH: f"each of {n} layers", WHOLE: f"all {n} layers as one"} if n > 1 else {}
    choices = many | {name: collection.by_name[name].short for name in names}
    # A mean over layers is another page's: here it is each of them.
    before = EACH if selection.layer in POOLS and selection.layer != WHOLE else selection.layer
    picked = st.selectbox(
        "Layer",
        list(choices),
        key=state.held(f"evidence.layer.{selection.collection}.{'|'.join(selection.layers)}", before),
        format_func=lambda name: choices.get(name, name),
        width=185,
        help="One layer, all that are chosen in the sidebar as one long vector, or each of them by itself: then the "
        "tests of all layers are corrected together.",
    )
    return selection.layer if picked == before else picked


def network(query: EvidenceQuery, selection: Selection, collection: Collection) -> EvidenceQuery:
    """The same question for every chosen layer by itself."""
    return replace(query, layers=selection.layers_in(collection), each=True)


def claim(claims: Sequence[str]) -> str:
    """The one of the `claims` that is shown below, chosen in its box or by a row of the table."""
    # What was asked of other groups and is not of these is forgotten before the box sees it.
    if st.session_state.get(CLAIM, claims[0]) not in claims:
        del st.session_state[CLAIM]
    return str(
        st.selectbox(
            "Claim",
            list(claims),
            index=list(claims).index("concentrated"),
            key=CLAIM,
            bind="query-params",
            format_func=lambda key: CLAIMS[key].title,
            help="What is shown below. A row of the table chooses it too.",
        )
    )


def look_at(key: str) -> None:
    """Choose a claim from outside its box: in a callback."""
    if key in CLAIMS:
        st.session_state[CLAIM] = key


def views() -> dict[str, str | list[str]]:
    """What the page's own switches say, for the address of an export."""
    said = {key: st.session_state.get(key) for key in ("draws", "seed", "kept")}
    about = CLAIMS.get(str(st.session_state.get(CLAIM)))
    # The address of a box holds what a person reads in it.
    said[CLAIM] = about.title if about is not None else None
    said["grouped"] = _BY_LINEAGE if st.session_state.get("grouped") == "lineage" else None
    return {key: str(value) for key, value in said.items() if value is not None}


def _group(selection: Selection, collection: Collection) -> str:
    """The attribute whose values are the groups, or nothing for those of the lineage alone."""
    column = tokens.telling_column(collection, selection.members_in(collection), chosen=selection.group)
    if not column:
        return ""
    picked = st.segmented_control(
        "Groups",
        ["column", "lineage"],
        default="column",
        required=True,
        key="grouped",
        bind="query-params",
        format_func={"column": column, "lineage": _BY_LINEAGE}.__getitem__,
        help="What relatives are: models with one value of the attribute, and those that the weights say are (both are "
        "judged), or the latter alone. Choose another attribute under Group by in the sidebar.",
    )
    return "" if picked == "lineage" else column


def _draws() -> int:
    draws = st.selectbox(
        "Draws",
        DRAWS,
        index=DRAWS.index(USUAL_DRAWS),
        key="draws",
        bind="query-params",
        width=95,
        help="How often chance is drawn. A p is never below 1 / (1 + draws). Many layers may get fewer each.",
    )
    return int(draws or USUAL_DRAWS)


def _seed() -> int:
    seed = st.number_input(
        "Seed",
        min_value=0,
        max_value=MOST_SEED,
        value=0,
        step=1,
        key="seed",
        bind="query-params",
        width=120,
        help="Where the draws begin. The same seed gives the same table, to the last digit.",
    )
    return int(seed or 0)


def _kept() -> int:
    kept = st.number_input(
        "k",
        min_value=1,
        max_value=4096,
        value=None,
        step=1,
        key="kept",
        bind="query-params",
        placeholder="automatic",
        help="Directions of every subspace. Empty: a quarter of those there can be.",
    )
    return int(kept or 0)
