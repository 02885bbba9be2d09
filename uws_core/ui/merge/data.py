"""The data of the merge page: previews from stored Grams, and what passes measure, kept in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import streamlit as st

from uws_core import run
from uws_core.analysis.lineage import lineage
from uws_core.analysis.merge_conflicts import Measured, compatibility
from uws_core.analysis.merge_methods import combine, possible
from uws_core.analysis.merge_preview import merge_grams, of_entries, standing
from uws_core.errors import Cancelled, StoreError, UwsError
from uws_core.jobs import Report
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.merge_preview import Compatibility, MergedUpdate, MergeGrams, Standing
from uws_core.nouns.merging import METHODS, MergeMethod, Need
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.query import Query
from uws_core.store.results import default_store
from uws_core.ui import compute, grams, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.merge.controls import COLUMN, LINEAGE, MergeQuery, first_of_each
from uws_core.ui.selection import Selection
from uws_core.ui.tasks import Task

SCALES = tuple(float(scale) for scale in np.round(np.arange(0.0, 3.01, 0.1), 2))
# Leading directions of each member that are compared.
DIRECTIONS = 8


@dataclass(frozen=True)
class Preview:
    """Every method that is known so far, at all `SCALES` and at the query's own scale; and why some are not known."""

    labels: tuple[str, ...]
    has_base: bool
    swept: tuple[Standing, ...]
    at: tuple[Standing, ...]
    left_out: tuple[LeftOut, ...]
    siblings: float | None

    def chosen(self, method: str) -> Standing | None:
        """The standing of a method at the query's scale; None while it is not measured."""
        return next((one for one in self.at if one.method == method), None)


def members(
    selection: Selection, collection: Collection, take: str, column: str, layers: tuple[str, ...]
) -> tuple[int, ...]:
    """The rows that are merged: those of the sidebar, the first of each value, or one of each lineage."""
    rows = selection.members_in(collection)
    if take == COLUMN:
        return first_of_each(collection.table[column], rows)
    if take == LINEAGE and len(rows) > 1:
        return _one_each(Query(selection.collection, collection.fingerprint, rows, layers))
    return rows


@st.cache_data(max_entries=64, show_spinner=False)
def _one_each(query: Query) -> tuple[int, ...]:
    whole = reduce(add, _every(query))
    about = "base" if whole.base is not None else "mean"
    try:
        family = lineage(whole, members=query.members, about=about)
    except UwsError:
        return query.members
    return tuple(sorted(int(row) for row in family.one_each))


def methods(query: MergeQuery, collection: Collection) -> tuple[str, ...]:
    """The methods that can be taken for these members: those that need a base only where there is one."""
    there, n = based(query, collection), len(query.members)
    return tuple(
        str(name)
        for name, facts in METHODS.items()
        if (there or not facts.needs_base) and facts.least_members <= n <= (facts.most_members or n)
    )


def low_rank(query: MergeQuery, collection: Collection) -> bool:
    """Whether the members are adapters: updates, of which the factors are views of their own."""
    return any(f"{name}:A" in collection.by_name for name in query.layers)


def based(query: MergeQuery, collection: Collection) -> bool:
    """Whether the members are updates of a base, so that a scale has a meaning."""
    return low_rank(query, collection) or all(name in collection.base_layers for name in query.layers)


def preview(query: MergeQuery, collection: Collection) -> Preview:
    """Every method's standing: those of inner products at once, the others as far as they were measured.

    Raises:
        UwsError: the members cannot be merged by any method.
    """
    measured = {name: _stored(query, name) for name in measurable(query, collection)}
    known = tuple((name, one) for name, one in measured.items() if one is not None)
    return _preview(query, known)


@st.cache_data(max_entries=64, max_size="128mb", show_spinner=False)
def _preview(query: MergeQuery, measured: tuple[tuple[str, str], ...]) -> Preview:
    of = _merge_grams(replace(query, method="", scale=0.0, weights=(), convention="", density=0.0, rank=0, seed=0))
    merged: list[MergedUpdate] = []
    left_out: list[LeftOut] = []
    for method in possible(of):
        try:
            merged.append(combine(of, query.recipe(method)))
        except UwsError as error:
            left_out.append(LeftOut(method, str(error)))
    for name, text in measured:
        found = json.loads(text)
        if "problem" in found:
            left_out.append(LeftOut(name, found["problem"]))
        else:
            arrays = (np.array(found[part], dtype=np.float64) for part in ("inner", "norm2"))
            merged.append(of_entries(of, name, *arrays, note=found.get("note", "")))
    return Preview(
        labels=of.labels,
        has_base=of.has_base,
        swept=tuple(standing(of, one, SCALES) for one in merged),
        at=tuple(standing(of, one, (query.scale,)) for one in merged),
        left_out=tuple(left_out),
        siblings=_siblings(query, of),
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def _merge_grams(query: MergeQuery) -> MergeGrams:
    """The products of the members; kept as they are, because every change of a weight needs them."""
    return merge_grams(_every(_plain(query)), members=query.members)


def _siblings(query: MergeQuery, of: MergeGrams) -> float | None:
    """How far two models of one value of the column lie apart, over the length of the mean; None without siblings."""
    collection = catalogue().get(query.collection)
    if not query.column or collection is None:
        return None
    values = collection.table[query.column]
    length = float(np.sqrt(of.mean_norm2.sum()))
    pairs = [(i, j) for j in range(len(values)) for i in range(j) if values[i] is not None and values[i] == values[j]]
    whole = reduce(add, _every(_plain(query)))
    pairs = [pair for pair in pairs if whole.usable[list(pair)].all()]
    if not pairs or length == 0:
        return None
    squares = np.diag(whole.values)
    apart = [np.sqrt(max(squares[i] + squares[j] - 2 * whole.values[i, j], 0.0)) for i, j in pairs]
    return float(np.median(apart)) / length


def judged(query: MergeQuery, collection: Collection) -> Compatibility:
    """Who may be merged and which layers collide, with what was measured of it so far.

    Raises:
        UwsError: fewer than two usable members.
    """
    return _judged(_plain(query), peeked(query, collection), low_rank(query, collection), collection.left_out)


@st.cache_data(max_entries=64, max_size="64mb", show_spinner=False)
def _judged(query: Query, measured: bool, low_rank: bool, left_out: tuple[LeftOut, ...]) -> Compatibility:
    every, collection = _every(query), catalogue().get(query.collection)
    assert collection is not None
    found = Measured(left_out=left_out, low_rank=low_rank)
    if low_rank:
        from uws_core.passes.stored_sizes import stored_sizes

        found = replace(found, ranks=stored_sizes(collection, query.layers, query.members).ranks)
    if measured:
        signs = {name: run.cached_sign_conflict(collection, name, members=query.members) for name in query.layers}
        about = _about(collection, query.layers, low_rank)
        factors = {
            name: run.cached_factors(collection, name, kept=DIRECTIONS, about=about, members=query.members)
            for name in query.layers
        }
        found = replace(found, signs=signs, directions=factors)
    return compatibility(every, members=query.members, measured=found)


def conflicts_task(query: MergeQuery, collection: Collection) -> Task:
    """Opposed signs and leading directions of all members in every layer: what Grams do not know."""
    n, layers = len(query.members), query.layers
    entries = sum(min(collection.by_name[name].entries, 2**18) for name in layers)
    shapes = [collection.by_name[name].shape for name in layers]
    steps = 20.0 * entries * n * n / 2 + n * sum(4.0 * m * p * min(m, p) for m, p in shapes)
    low = low_rank(query, collection)

    def work(report: Report) -> None:
        part = tasks.in_parts(report, 2 * len(layers))
        about = _about(collection, layers, low)
        for place, name in enumerate(layers):
            run.cached_sign_conflict(
                collection, name, members=query.members, options=compute.options(), report=part(2 * place)
            )
            run.cached_factors(
                collection,
                name,
                kept=DIRECTIONS,
                about=about,
                members=query.members,
                options=compute.options(),
                report=part(2 * place + 1),
            )

    return Task(
        key=tasks.key_of("merge conflicts", collection.fingerprint, query.members, layers),
        title=f"Comparing signs and directions of {n} models in {len(layers)} layers",
        seconds=tasks.read_seconds(collection, layers, times=2 * n / len(collection)) + steps / 1e9,
        bytes=0,
        work=work,
    )


def peeked(query: MergeQuery, collection: Collection) -> bool:
    """Whether signs and directions were measured already."""
    return tasks.peek(conflicts_task(query, collection)).done


def measurable(query: MergeQuery, collection: Collection) -> tuple[str, ...]:
    """The methods that look at entries or factors, and can be taken here."""
    return tuple(name for name in methods(query, collection) if METHODS[MergeMethod(name)].need is not Need.GRAM)


def measure_task(query: MergeQuery, collection: Collection, names: Sequence[str]) -> Task:
    """The distances of merges by methods that read weights, each of them once; what was measured stays."""
    n, shapes = len(query.members), [collection.by_name[name].shape for name in query.layers]
    steps = len(names) * n * sum(30.0 * m * p + m * p * min(m, p) for m, p in shapes)

    def work(report: Report) -> None:
        part = tasks.in_parts(report, len(names))
        for place, name in enumerate(names):
            if _stored(query, name) is None:
                default_store().put(
                    _key(query, name), json.dumps(_measured(query, collection, name, part(place))).encode()
                )
            report((place + 1) / len(names), f"{place + 1} of {len(names)} methods")

    return Task(
        key=tasks.key_of("merges", *(_key(query, name) for name in names)),
        title=f"Merging {n} models by {len(names)} methods, to measure only,",
        seconds=len(names) * tasks.read_seconds(collection, query.layers, times=n / len(collection)) + steps / 2e9,
        bytes=0,
        work=work,
    )


def _measured(query: MergeQuery, collection: Collection, name: str, report: Report) -> dict[str, object]:
    """The products of one method's merge at scale 1, or why it cannot be formed."""
    from uws_core.use.merge.door import merge

    try:
        found = merge(
            collection,
            recipe=query.recipe(name),
            members=query.members,
            layers=query.layers,
            budget=compute.options().budget,
            report=report,
        )
    except UwsError as error:
        if isinstance(error, Cancelled):
            raise
        return {"problem": str(error)}
    by_name = {layer.layer.name: layer for layer in found.layers}
    lines = [by_name[layer] for layer in query.layers]
    inner: list[Floats] = [(one.norm2 + one.member_norms2 - one.to_members2) / 2 for one in lines]
    return {"inner": [row.tolist() for row in inner], "norm2": [one.norm2 for one in lines]}


def _stored(query: MergeQuery, name: str) -> str | None:
    try:
        raw = default_store().get(_key(query, name))
    except StoreError:
        return None
    return None if raw is None else raw.decode()


def _key(query: MergeQuery, name: str) -> str:
    """The key of one measured method: what of the recipe it uses, the members and the layers."""
    recipe = query.recipe(name).as_dict()
    return tasks.key_of("merge", query.fingerprint, query.layers, query.members, sorted(recipe.items(), key=str))


def _about(collection: Collection, layers: Sequence[str], low_rank: bool) -> str:
    return "base" if low_rank or all(name in collection.base_layers for name in layers) else "mean"


def _plain(query: MergeQuery) -> Query:
    return Query(query.collection, query.fingerprint, query.members, query.layers)


def _every(query: Query) -> list[Gram]:
    return list(grams.of(replace(query, members=())))
