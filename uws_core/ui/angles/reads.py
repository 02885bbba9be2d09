"""What the angles page has to read before it can answer: directions of models, or side Grams of groups and layers."""

from __future__ import annotations

from dataclasses import replace

from uws_core import run
from uws_core.analysis.group_angles import random_halves
from uws_core.errors import CollectionError, NotEnoughModels
from uws_core.jobs import Report
from uws_core.nouns.angles import Factors
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import tasks
from uws_core.ui.catalogue import catalogue

# Directions of each model that are kept in the store: more than these are asked for by few and computed then.
KEPT = 32
# On the side axes every split reads the layer again.
SIDE_SPLITS = 4
# The views that compare single models, by their own directions.
OF_MODELS = ("models", "base")


def task(query: AnglesQuery, collection: Collection) -> tasks.Task | None:
    """What has to be read before the query can be answered, beyond the Grams; None on the models axis."""
    if query.axis == Axis.MODELS:
        return None
    stored = replace(query, k=_kept(query.k), draws=0, seed=0, collection="")
    seconds, bytes_read = _price(query, collection)
    return tasks.Task(
        key=tasks.key_of("angles", stored),
        title=f"Reading the directions of {len(query.members)} models in {_layers_text(query)}",
        seconds=seconds,
        bytes=bytes_read,
        work=lambda report: _prepare(query, collection, report),
    )


def sides(query: AnglesQuery, collection: Collection, report: Report | None = None) -> tuple[Gram, ...]:
    """The side Grams of the layers, of the groups in the one layer, or of its halves, one after the other."""
    if query.view == "layers":
        reads = [(name, query.members) for name in query.layers]
    else:
        reads = [(query.layers[0], rows) for rows in _subsets(query, collection)]
    part = tasks.in_parts(report or (lambda fraction, message: None), len(reads))
    return tuple(
        run.cached_side_gram(collection, name, axis=query.axis, about=query.about, members=rows, report=part(place))
        for place, (name, rows) in enumerate(reads)
    )


def _subsets(query: AnglesQuery, collection: Collection) -> list[tuple[int, ...]]:
    """The models of each group, or of the two halves of each split."""
    if query.view == "groups":
        return [tuple(rows) for rows in rows_by_group(query, collection).values()]
    column = collection.table[query.group] if query.group else collection.labels
    splits = random_halves([column[row] for row in query.members], repeats=SIDE_SPLITS, seed=query.seed)
    return [tuple(query.members[place] for place in half) for split in splits for half in split]


def factors(query: AnglesQuery, collection: Collection, report: Report | None = None) -> Factors:
    """Each model's own directions in the one layer, those of the base after them where it is compared with."""
    return run.cached_factors(
        collection,
        query.layers[0],
        kept=_kept(query.k),
        about=query.about,
        members=query.members,
        with_base=query.view == "base",
        report=report,
    )


def groups(query: AnglesQuery, collection: Collection) -> tuple[str, ...]:
    """The groups of the chosen models.

    Raises:
        NotEnoughModels: no attribute is chosen, or it has one value only.
    """
    names = tuple(str(label) for label in rows_by_group(query, collection))
    if len(names) < 2:
        raise NotEnoughModels(
            f"Groups need an attribute with at least two values among the chosen models; {query.group or 'none'} has "
            f"{len(names)}. Choose another one under Group by in the sidebar, or compare random halves"
        )
    return names


def rows_by_group(query: AnglesQuery, collection: Collection) -> dict[object, list[int]]:
    """The chosen models of each value of the attribute, in the order they come."""
    column = collection.table.get(query.group)
    parts: dict[object, list[int]] = {}
    for row in query.members if column is not None else ():
        parts.setdefault(column[row] if column is not None else None, []).append(row)
    return parts


def _prepare(query: AnglesQuery, collection: Collection, report: Report) -> None:
    """Everything that reads weights, into the store."""
    read = factors if query.view in OF_MODELS else sides
    read(query, collection, report)


def _price(query: AnglesQuery, collection: Collection) -> tuple[float, int]:
    """About how many seconds and bytes the task takes."""
    keys = [collection.by_name[name] for name in query.layers]
    n = len(query.members)
    share = n / max(len(collection), 1)
    times = 1.0 if query.axis == Axis.IN and query.about == "mean" and query.view not in OF_MODELS else 2.0
    steps = sum(n * key.entries * min(key.shape) * 2.0 for key in keys)
    if query.view in OF_MODELS:
        steps += sum(n * 30.0 * min(key.shape) ** 3 for key in keys)
    times, steps = (times * SIDE_SPLITS, steps * SIDE_SPLITS) if query.view == "halves" else (times, steps)
    seconds = tasks.read_seconds(collection, query.layers, times=times * share) + steps / tasks.STEPS_PER_SECOND
    return seconds, int(times * 4 * n * sum(key.entries for key in keys))


def _kept(k: int) -> int:
    """How many directions are computed and stored for a k: whole steps, so that near ks share one result."""
    return KEPT if k <= KEPT else 2 ** (k - 1).bit_length()


def _layers_text(query: AnglesQuery) -> str:
    return "one layer" if len(query.layers) == 1 else f"{len(query.layers)} layers"


def collection_of(query: AnglesQuery) -> Collection:
    """The collection that is asked about, as long as it is still the same.

    Raises:
        CollectionError: it changed meanwhile.
    """
    collection = catalogue().get(query.collection)
    if collection is None or collection.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    return collection
