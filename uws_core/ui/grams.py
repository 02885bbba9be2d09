"""Where a page's Grams come from: the store, a pass at once when it is small, or a job that the page shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import streamlit as st

from uws_core import cluster, run
from uws_core.analysis.cost import NETWORK as NETWORK
from uws_core.analysis.cost import scan_cost
from uws_core.errors import CollectionError, UwsError
from uws_core.jobs import JobManager, JobState, Report
from uws_core.nouns.cost import Cost, Reading, Throughput, planned, result_bytes
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey, LeftOut, by_model
from uws_core.nouns.query import Query
from uws_core.sources.base import on_hub
from uws_core.store.codec import gram_key
from uws_core.store.results import default_store, store_limit_problem
from uws_core.ui import compute
from uws_core.ui.catalogue import catalogue

if TYPE_CHECKING:
    from uws_core.passes.stored_sizes import StoredBytes

# A pass expected to take no longer runs at once; a longer one starts by itself as a job, and asks first beyond.
INLINE_SECONDS = 4.0
ASK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Availability:
    """Which layers can be shown now, which are missing, and the job that makes them, if one was asked for.

    `problem` is what went wrong, `no_room` why the store cannot keep all of them together.
    """

    ready: tuple[str, ...]
    missing: tuple[str, ...]
    job: JobState | None = None
    problem: str = ""
    no_room: str = ""


@st.cache_resource(show_spinner=False, on_release=JobManager.close)
def jobs() -> JobManager:
    """The one job manager of this server; its jobs are everybody's. At most two run at once, one of them short."""
    return JobManager(workers=1)


def cost(
    collection: Collection, layers: Sequence[str], *, throughput: Throughput | None = None, precision: str = "auto"
) -> Cost:
    """What a pass over these layers of all models takes, on a modest machine where no other is given.

    Bytes, ranks and types are those that the headers tell; what the Hub must send comes over a modest connection.
    """
    options = compute.options(precision)
    return scan_cost(
        _readings(collection, layers, precision), n=len(collection), budget=options.budget, throughput=throughput
    )


def sent(collection: Collection, layers: Sequence[str]) -> StoredBytes | None:
    """What reading these layers moves where a model is on the Hub; None where none is, or headers cannot be read."""
    refs = [*collection.refs, *([collection.base] if collection.base else [])]
    if not any(on_hub(ref) for ref in refs):
        return None
    from uws_core.passes.stored_sizes import StoredBytes

    found = _far_readings(collection.fingerprint, tuple(layers), "auto", collection)
    return StoredBytes(sum(one.bytes for one in found), sum(one.far for one in found)) if found else None


def measured_cost(collection: Collection, layers: Sequence[str], precision: str = "auto") -> Cost:
    """The same at the throughput of this machine, which is measured once; for when somebody is about to decide."""
    from uws_core.passes.throughput import measured_throughput

    return cost(collection, layers, throughput=measured_throughput(), precision=precision)


def availability(collection: Collection, layers: Sequence[str], precision: str = "auto") -> Availability:
    """What can be shown of these layers now; a small rest is computed here, a larger one becomes a job.

    Beyond `ASK_SECONDS`, or after somebody stopped the job, it waits for `start_scan`.
    """
    rest = missing(collection, layers, precision)
    problem, no_room = "", room(collection, layers, precision) if rest else ""
    if rest and not no_room and _seconds(collection, rest, precision) <= INLINE_SECONDS:
        problem = _compute(collection, rest, precision)
        rest = missing(collection, rest, precision)
    job = jobs().get(job_key(collection, layers, precision)) if rest else None
    if rest and not problem and not no_room and job is None and _seconds(collection, rest, precision) <= ASK_SECONDS:
        job = start_scan(collection, layers, precision)
    gone = set(rest)
    return Availability(tuple(name for name in layers if name not in gone), rest, job, problem, no_room)


def room(collection: Collection, layers: Sequence[str], precision: str = "auto") -> str:
    """Why nothing of these layers can be computed, with the way out; empty if something can.

    There may be no room for all results, so that computing them would never end, or none for one slab of any layer.
    """
    what = f"{len(layers)} layers of {len(collection)} models"
    no_room = store_limit_problem(result_bytes(len(layers), n=len(collection)), what=what)
    rest = () if no_room else missing(collection, layers, precision)
    price = cost(collection, rest, precision=precision) if rest else None
    return refusal(price) if price is not None and not price.layers else no_room


def refusal(price: Cost) -> str:
    """Which layers the memory budget has no room for, and where it is raised; empty if it has for all."""
    return f"{price.refusal}. The budget is set on the About page, or with UWS_BUDGET." if price.refused else ""


def start_scan(collection: Collection, layers: Sequence[str], precision: str = "auto") -> JobState:
    """The job that computes what is missing of these layers: a new one, or the one under way."""
    names = tuple(layers)
    rest = missing(collection, names, precision)
    title = f"Reading {len(rest)} layers of {len(collection)} models in {collection.name}"
    where, options = compute.scheduler(), compute.options(precision)

    def work(report: Report) -> None:
        problems: dict[str, UwsError] = {}

        def failed(layer: LayerKey, error: UwsError) -> None:
            problems[layer.name] = error

        with cluster.connected(where) as executor:
            for _ in run.scan(collection, names, options=options, report=report, executor=executor, failed=failed):
                pass
        if problems:
            told = "; ".join(str(error) for error in list(problems.values())[:3])
            raise UwsError(f"{len(problems)} of {len(names)} layers failed, the others are done: {told}")

    price, key = cost(collection, rest, precision=precision), job_key(collection, names, precision)
    return jobs().submit(key, work, title=title, bytes_total=price.bytes, short=price.seconds <= ASK_SECONDS)


def job_key(collection: Collection, layers: Sequence[str], precision: str = "auto") -> str:
    """The same for everybody who asks for these layers of these contents."""
    named = sha256("|".join([precision, *sorted(layers)]).encode()).hexdigest()[:12]
    return f"scan/{collection.fingerprint}/{named}"


def missing(collection: Collection, layers: Sequence[str], precision: str = "auto") -> tuple[str, ...]:
    """The layers whose Gram is not in the store; opens no value."""
    store = default_store()
    keys = collection.by_name
    return tuple(name for name in layers if gram_key(collection, keys[name], precision) not in store)


def of(query: Query) -> Iterator[Gram]:
    """The Grams of a query's layers, in the order of the collection; ask for layers that `availability` called ready.

    Raises:
        CollectionError: the collection changed or went away meanwhile.
    """
    collection = catalogue().get(query.collection)
    if collection is None or collection.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    # The store may have dropped one since; a small pass brings it back.
    options = compute.options(query.precision)
    # One at a time: all of a large collection's are more than memory holds.
    ordered = run.chosen_layers(collection, query.layers)
    return (gram for layer in ordered for gram in run.scan(collection, [layer], options=options))


def of_ready(query: Query, ready: Sequence[str]) -> Query:
    """The query with only those of its layers that are ready to be shown."""
    names = set(ready)
    return replace(query, layers=tuple(name for name in query.layers if name in names))


@st.cache_data(max_entries=256, max_size="16mb", show_spinner=False)
def left_out(query: Query) -> tuple[LeftOut, ...]:
    """Which of a query's models take no part in which of its layers, and why; one line a model.

    Raises:
        CollectionError: the collection changed or went away meanwhile.
    """
    return of_members(tuple(of(query)), query.members)


def of_members(every: Sequence[Gram], members: Sequence[int]) -> tuple[LeftOut, ...]:
    """What Grams over all models left out of these ones, one line a model."""
    asked = {f"{gram.labels[row]}, {gram.layer.short}" for gram in every for row in members}
    return by_model(item for gram in every for item in gram.left_out if item.what in asked)


def _compute(collection: Collection, layers: Sequence[str], precision: str) -> str:
    """Compute these layers now; what went wrong with any of them, which spoils no other, or nothing."""
    problems: list[str] = []
    with st.spinner(f"Reading {len(layers)} layers of {len(collection)} models"):
        for _ in run.scan(
            collection,
            layers,
            options=compute.options(precision),
            failed=lambda _, error: problems.append(str(error)),
        ):
            pass
    return "; ".join(problems[:3])


def _seconds(collection: Collection, layers: Sequence[str], precision: str) -> float:
    return cost(collection, layers, precision=precision).seconds


def _readings(collection: Collection, layers: Sequence[str], precision: str) -> tuple[Reading, ...]:
    refs = [*collection.refs, *([collection.base] if collection.base else [])]
    told = (collection.fingerprint, tuple(layers), precision, collection)
    try:
        found = _far_readings(*told) if any(on_hub(ref) for ref in refs) else _near_readings(*told)
    except UwsError:
        found = ()
    return found or planned([collection.by_name[name] for name in layers], n=len(refs))


# Asked for several times a click; what is fetched meanwhile is noticed soon enough.
@st.cache_data(ttl=5, max_entries=64, show_spinner=False)
def _far_readings(
    fingerprint: str, layers: tuple[str, ...], precision: str, _collection: Collection
) -> tuple[Reading, ...]:
    # Loads torch, which the first paint does without.
    from uws_core.passes.stored_sizes import readings

    try:
        return readings(_collection, layers, precision=precision)
    except UwsError:
        return ()


# The contents are part of the key, so an answer stays right.
@st.cache_data(max_entries=64, show_spinner=False)
def _near_readings(
    fingerprint: str, layers: tuple[str, ...], precision: str, _collection: Collection
) -> tuple[Reading, ...]:
    from uws_core.passes.stored_sizes import readings

    return readings(_collection, layers, precision=precision)
