"""The pair page's answers: the Grams say how far two models are apart, one reading of both says in how many entries."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from uws_core import run
from uws_core.analysis.pairs import pair_layers
from uws_core.errors import LayerError, StoreError
from uws_core.jobs import Report
from uws_core.nouns.angles import Factors
from uws_core.nouns.lineage import PairLayer
from uws_core.nouns.models import Collection
from uws_core.nouns.query import PairQuery, Query
from uws_core.passes.options import no_report
from uws_core.store.codec import MATH_VERSION
from uws_core.store.results import default_store
from uws_core.ui import compute, grams, tasks

# Singular values of a difference that are kept; of larger layers its effective rank is a lower bound.
KEPT = 32


def task(query: PairQuery, collection: Collection) -> tasks.Task:
    """What reads the weights of both models: how many entries differ, and the rank of the difference."""
    keys = [collection.by_name[name] for name in query.layers]
    steps = sum(2.0 * key.entries * min(key.shape) + 30.0 * min(key.shape) ** 3 for key in keys)
    share = 4.0 / max(len(collection), 1)
    return tasks.Task(
        key=tasks.key_of("pair", query.fingerprint, query.layers, query.left, query.right),
        title=f"Comparing every entry of {_labels(query, collection)} in {len(keys)} layers",
        seconds=tasks.read_seconds(collection, query.layers, times=share) + steps / tasks.STEPS_PER_SECOND,
        bytes=sum(16 * key.entries for key in keys),
        work=lambda report: _prepare(query, collection, report),
    )


def layers(query: PairQuery, collection: Collection, *, entries: bool) -> tuple[PairLayer, ...]:
    """Every layer of the two models, with ranks and changed entries where the weights have been read.

    Raises:
        UwsError: a layer has no Gram yet.
    """
    items = grams.of(Query(query.collection, query.fingerprint, (query.left, query.right), query.layers))
    if not entries:
        return pair_layers(tuple(items), query.left, query.right)
    return pair_layers(
        tuple(items),
        query.left,
        query.right,
        differences={name: one for name in query.layers if (one := _difference(query, collection, name)) is not None},
        changed={name: _changed(query, collection, name) for name in query.layers},
    )


def _labels(query: PairQuery, collection: Collection) -> str:
    return f"{collection.labels[query.left]} and {collection.labels[query.right]}"


def _prepare(query: PairQuery, collection: Collection, report: Report) -> None:
    part = tasks.in_parts(report, len(query.layers))
    for index, name in enumerate(query.layers):
        _changed(query, collection, name, part(index))
        _difference(query, collection, name, part(index))
        part(index)(1.0, collection.by_name[name].short)


def _difference(query: PairQuery, collection: Collection, name: str, report: Report = no_report) -> Factors | None:
    """The factors of one model about the other; None for a layer that has none."""
    with suppress(LayerError):
        return run.cached_factors(
            collection, name, kept=KEPT, about=collection.labels[query.right], members=[query.left], report=report
        )
    return None


def _changed(query: PairQuery, collection: Collection, name: str, report: Report = no_report) -> float:
    """The share of changed entries, from the store or by reading both models."""
    one, two = sorted((query.left, query.right))
    key = f"changed/{MATH_VERSION}/{tasks.key_of('layer', query.fingerprint, name, one, two)}"
    with suppress(StoreError):
        raw = default_store().get(key)
        if raw is not None:
            return float(raw.decode())
    # torch is loaded only where weights are read.
    from uws_core.passes.changed import changed_share

    share = changed_share(collection, name, one, two, options=replace(compute.options(), report=report))
    with suppress(StoreError):
        default_store().put(key, repr(share).encode())
    return share
