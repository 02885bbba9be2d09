"""Which models are held out together, what of it stands in the keys of results, and the baseline of per-model SVDs.

The fingerprint of a collection is that of its weights: attributes may be edited and models renamed under the same
one. So whatever depends on groups is kept under the labels of the groups, and names no model but its row.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from uws_core import run
from uws_core.errors import StoreError
from uws_core.jobs import Report
from uws_core.nouns.angles import Factors
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.models import Collection
from uws_core.nouns.query import RebuildQuery
from uws_core.passes.options import ComputeOptions, no_report
from uws_core.store.codec import MATH_VERSION, from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import compute, tasks

# Directions of each model that are kept anyway; here only their singular values are used.
KEPT = 32


def groups(query: RebuildQuery, collection: Collection) -> tuple[object, ...]:
    """One label for each model of the collection: what is held out together."""
    return tuple(collection.table[query.group]) if query.group else tuple(range(len(collection)))


def group_labels(query: RebuildQuery, collection: Collection) -> tuple[str, ...]:
    """The label of each chosen model's group: what a key needs besides the query."""
    labels = groups(query, collection)
    return tuple(repr(labels[row]) for row in query.members)


def names(query: RebuildQuery, collection: Collection) -> tuple[str, ...]:
    """The chosen models' names."""
    return tuple(collection.labels[row] for row in query.members)


def by_row(items: tuple[HeldOut, ...], collection: Collection) -> tuple[HeldOut, ...]:
    """Errors of models that are called by their row, to be kept whatever the models are called."""
    rows = {label: str(row) for row, label in enumerate(collection.labels)}
    return tuple(replace(one, model=rows[one.model]) for one in items)


def by_name(items: tuple[HeldOut, ...], collection: Collection) -> tuple[HeldOut, ...]:
    """The same errors under the names that the models bear now.

    Raises:
        StoreError: they are of other models.
    """
    try:
        return tuple(replace(one, model=collection.labels[int(one.model)]) for one in items)
    except (ValueError, IndexError) as error:
        raise StoreError(f"Stored errors are not those of {collection.name}; computed again") from error


def per_model_svd(query: RebuildQuery, collection: Collection, report: Report | None = None) -> Factors:
    """The models' own singular values in the query's one layer, about what the errors are relative to."""
    name = query.layers[0]
    if query.reference != "mean":
        about, members = query.reference, query.members
        return run.cached_factors(collection, name, kept=KEPT, about=about, members=members, report=report or no_report)
    # Relative to the mean of the others, every group has a centre of its own.
    asked = (collection.fingerprint, name, query.members, group_labels(query, collection))
    key = f"own/{MATH_VERSION}/{tasks.key_of('own', *asked)}"
    raw = default_store().get(key)
    if raw is not None:
        with suppress(StoreError):
            return replace(from_bytes(Factors, raw), labels=names(query, collection))
    # torch is loaded only where weights are read.
    from uws_core.passes.per_model_svd import per_model_svds

    held, room = groups(query, collection), compute.options().budget
    found = per_model_svds(
        collection,
        name,
        groups=held,
        members=query.members,
        options=ComputeOptions(budget=room, report=report or no_report),
    )
    default_store().put(key, to_bytes(found))
    return found
