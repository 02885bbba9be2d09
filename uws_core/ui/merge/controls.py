"""The controls of the merge page."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import streamlit as st

from uws_core.answers.merge import NAMES
from uws_core.nouns.merging import METHODS, Convention, MergeMethod, MergeRecipe
from uws_core.nouns.models import Collection, Value
from uws_core.ui import tokens
from uws_core.ui.selection import Selection

ALL, LINEAGE, COLUMN = "all", "lineage", "column"
MOST_SCALE = 3.0
_USUAL = MergeRecipe()


@dataclass(frozen=True, slots=True)
class MergeQuery:
    """What is merged, and how: plain texts and numbers, so that it can key a cache.

    `members` are rows of the collection, `take` says how they were chosen among the sidebar's, `column` is the
    attribute whose values tell siblings, `weights` one a member or none.
    """

    collection: str
    fingerprint: str
    layers: tuple[str, ...]
    members: tuple[int, ...]
    take: str
    column: str
    method: str
    scale: float
    weights: tuple[float, ...]
    convention: str
    density: float
    rank: int
    seed: int

    def recipe(self, method: str = "", *, scale: float = 1.0) -> MergeRecipe:
        """The recipe of a method (this query's own without a name) with the query's options."""
        return MergeRecipe(
            method=MergeMethod(method or self.method),
            weights=self.weights,
            scale=scale,
            convention=Convention(self.convention),
            density=self.density,
            rank=self.rank or None,
            seed=self.seed,
        )


def take(selection: Selection, collection: Collection) -> tuple[str, str]:
    """Which of the sidebar's models are merged, and the attribute that tells siblings; empty where none does."""
    rows = selection.members_in(collection)
    column = tokens.telling_column(collection, rows, chosen=selection.group)
    names = {ALL: f"all {len(rows)} chosen", LINEAGE: "one of each lineage"}
    if column and len(first_of_each(collection.table[column], rows)) < len(rows):
        names = {COLUMN: f"one of each {column}"} | names
    if st.session_state.get("take", ALL) not in names:
        del st.session_state["take"]
    picked = st.segmented_control(
        "Members",
        list(names),
        default=next(iter(names)),
        required=True,
        key="take",
        bind="query-params",
        format_func=names.__getitem__,
        help="Merge all models chosen in the sidebar, the first of each value of an attribute, or one of each group of "
        "alike updates. Choose the attribute under Group by in the sidebar.",
    )
    return str(picked or ALL), column


def first_of_each(values: tuple[Value, ...], rows: tuple[int, ...]) -> tuple[int, ...]:
    """The first of these rows with each value; rows without a value are not taken."""
    found: dict[Value, int] = {}
    for row in rows:
        if values[row] is not None:
            found.setdefault(values[row], row)
    return tuple(found.values())


def method(query: MergeQuery, known: tuple[str, ...], *, based: bool) -> MergeQuery:
    """The query with the method and the scale of the row of controls; `known` are the methods that can be taken.

    Without a base a scale has no meaning, and there is none.
    """
    if st.session_state.get("by", known[0]) not in known:
        del st.session_state["by"]
    picked = st.selectbox(
        "Method",
        known,
        index=known.index(MergeMethod.TIES) if MergeMethod.TIES in known else 0,
        key="by",
        bind="query-params",
        format_func=lambda name: NAMES[name],
        width=180,
        help="How the models become one. Every figure has all methods; this one is drawn in colour and written.",
    )
    chosen = str(picked or known[0])
    if not based:
        return replace(query, method=chosen)
    scale = st.slider(
        "Scale lambda",
        min_value=0.0,
        max_value=MOST_SCALE,
        value=1.0,
        step=0.05,
        key="lam",
        bind="query-params",
        width=170,
        help=f"merge = base + lambda (merge at 1 - base). {METHODS[MergeMethod(chosen)].says.capitalize()}.",
    )
    return replace(query, method=chosen, scale=float(scale))


def options() -> dict[str, object]:
    """What the folded options say: weights as a text, convention, density, rank, seed."""
    with st.popover("Options", width="content"):
        weights = st.text_input(
            "Weights",
            placeholder="1 for each member",
            key="weights",
            bind="query-params",
            help="One number a member, in their order, with spaces or commas between. Empty: all alike.",
        )
        convention = st.selectbox(
            "Convention",
            [str(one) for one in Convention],
            key="conv",
            bind="query-params",
            help="Whose reading of a method is meant where programs differ: the paper's, mergekit's or PEFT's.",
        )
        density = st.number_input(
            "Density",
            min_value=0.01,
            max_value=1.0,
            value=_USUAL.density,
            step=0.05,
            key="rho",
            bind="query-params",
            help="Share of entries kept by TIES, DARE, DELLA, Breadcrumbs and SCE.",
        )
        rank = st.number_input(
            "Rank",
            min_value=1,
            max_value=4096,
            value=None,
            step=1,
            key="mrank",
            bind="query-params",
            placeholder="as many as there are",
            help="Rank of a merged adapter, or the directions that TSV and the subspace merge keep.",
        )
        seed = st.number_input(
            "Seed",
            min_value=0,
            value=0,
            step=1,
            key="mseed",
            bind="query-params",
            help="Where the random drops of DARE and DELLA begin.",
        )
    return {
        "weights": str(weights or ""),
        "convention": str(convention or Convention.PAPER),
        "density": float(density or _USUAL.density),
        "rank": int(rank or 0),
        "seed": int(seed or 0),
    }


def parsed_weights(text: str, members: int) -> tuple[float, ...]:
    """The weights that a text names.

    Raises:
        ValueError: no numbers, or not one a member.
    """
    parts = [part for part in re.split(r"[\s,;]+", text.strip()) if part]
    try:
        weights = tuple(float(part) for part in parts)
    except ValueError as error:
        raise ValueError(f"Weights are numbers with spaces or commas between; found {text[:60]!r}") from error
    if weights and len(weights) != members:
        raise ValueError(f"{len(weights)} weights for {members} members; give one a member, or none")
    return weights


def views() -> dict[str, str | list[str]]:
    """What the page's own switches say, for the address of an export."""
    keys = ("take", "by", "lam", "weights", "conv", "rho", "mrank", "mseed", "against")
    said = {key: st.session_state.get(key) for key in keys}
    return {key: str(value) for key, value in said.items() if value not in (None, "")}
