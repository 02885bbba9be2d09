"""From what was asked to a stream of results: what the store has first, then what has to be computed.

Only this process writes the store, so any `concurrent.futures.Executor` can do the work: threads here, a cluster's
elsewhere. A work item carries names and numbers; a worker opens its own files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from hashlib import sha256
from operator import add
from typing import TYPE_CHECKING, TypeVar

from uws_core.errors import LayerError, StoreError, UwsError
from uws_core.nouns.factors import Factors
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.layer_scan import Scanning, looked_up
from uws_core.passes.options import Effort as Effort
from uws_core.passes.options import memory_of
from uws_core.passes.progress import Progress
from uws_core.store.codec import factors_bytes, factors_from, gram_bytes, gram_from
from uws_core.store.codec import gram_key as gram_key
from uws_core.store.results import Store, default_store

if TYPE_CHECKING:
    from uws_core.passes.open_models import Report

_Noun = TypeVar("_Noun", Gram, Factors)
Failed = Callable[[LayerKey, UwsError], None]


def known(
    collection: Collection,
    layers: Iterable[LayerKey | str] | None = None,
    *,
    store: Store | None = None,
    precision: str = "auto",
) -> dict[str, Gram]:
    """The Grams that the store already has, by layer name, all in memory; reads no weights."""
    place = store if store is not None else default_store()
    found = ((key.name, looked_up(place, collection, key, precision)) for key in chosen_layers(collection, layers))
    return {name: gram for name, gram in found if gram is not None}


def stored(
    collection: Collection,
    layers: Iterable[LayerKey | str] | None = None,
    *,
    store: Store | None = None,
    precision: str = "auto",
) -> tuple[str, ...]:
    """The names of the layers whose Gram the store has, in the collection's order; opens none of them."""
    place = store if store is not None else default_store()
    chosen = chosen_layers(collection, layers)
    return tuple(key.name for key in chosen if gram_key(collection, key, precision) in place)


def scan(
    collection: Collection,
    layers: Iterable[LayerKey | str] | None = None,
    *,
    store: Store | None = None,
    executor: Executor | None = None,
    report: Report | None = None,
    effort: Effort | None = None,
    failed: Failed | None = None,
) -> Iterator[Gram]:
    """The Gram of every chosen layer (None is all), finished ones first; each is stored as soon as it is done.

    `store` defaults to the user's own, so a second call reads no weights. With an `executor` layers are computed
    side by side, large ones in blocks of rows, and yielded as they finish. A layer that cannot be read ends the scan,
    unless `failed` takes its error: then the others go on, and a full disk costs only what is stored.

    Raises:
        LayerError: a layer the collection does not have.
        UwsError: without `failed`, whatever `gram` raises.
        Cancelled: `report` was told to stop; everything yielded so far is in the store.
    """
    place, effort = store if store is not None else default_store(), effort or Effort()
    wanted, tell = chosen_layers(collection, layers), report or (lambda fraction, message: None)
    rest = list(wanted)
    for name in stored(collection, wanted, store=place, precision=effort.precision):
        layer = collection.by_name[name]
        # One at a time: all results of a large collection are more than memory holds.
        gram = looked_up(place, collection, layer, effort.precision)
        if gram is not None:
            rest.remove(layer)
            tell(0.0, layer.short)
            yield gram
    scanning = Scanning(collection, place, effort, progress := Progress(rest, tell))
    made = scanning.here(rest) if executor is None else scanning.spread(rest, executor)
    for layer, found, problem in made:
        if problem is not None:
            if failed is None:
                raise problem
            failed(layer, problem)
        progress.finished(layer)
        if found is not None:
            yield found
    if not rest:
        tell(1.0, "")


def side(
    collection: Collection,
    layer: LayerKey | str,
    *,
    axis: Axis | str,
    members: Sequence[int] | None = None,
    about: str = "mean",
    unit: bool = False,
    store: Store | None = None,
    report: Report | None = None,
    effort: Effort | None = None,
) -> Gram:
    """The side Gram of a layer over `members`, from the store or by a pass; kept under the chosen models' contents.

    Raises:
        UwsError: whatever `side_gram` raises.
    """

    def compute(key: LayerKey, effort: Effort) -> Gram:
        from uws_core.passes.side import side_gram

        return side_gram(
            collection, key, axis=axis, members=members, about=about, unit=unit, report=report, **effort.options
        )

    said = _side(axis, about, unit=unit)
    return _kept(collection, layer, said, members, store, effort, compute, (gram_bytes, gram_from))


def sides_stored(
    collection: Collection,
    layers: Iterable[LayerKey | str],
    *,
    axis: Axis | str,
    store: Store | None = None,
    precision: str = "auto",
) -> tuple[str, ...]:
    """The names of the layers whose side Gram of all models about their mean the store has; opens none of them."""
    place = store if store is not None else default_store()
    said, everyone = _side(axis, "mean", unit=False), tuple(range(len(collection)))
    chosen = chosen_layers(collection, layers)
    return tuple(key.name for key in chosen if _where(collection, key, said, everyone, precision) in place)


def directions(
    collection: Collection,
    layer: LayerKey | str,
    *,
    kept: int = 32,
    about: str = "mean",
    members: Sequence[int] | None = None,
    with_base: bool = False,
    store: Store | None = None,
    report: Report | None = None,
    effort: Effort | None = None,
) -> Factors:
    """Each chosen model's own leading directions, from the store or by a pass; kept under the models' contents.

    `with_base` adds those of the base as a last row.

    Raises:
        UwsError: whatever `factors` raises.
    """

    def compute(key: LayerKey, effort: Effort) -> Factors:
        from uws_core.passes.factors import factors

        return factors(
            collection,
            key,
            kept=kept,
            about=about,
            members=members,
            with_base=with_base,
            report=report,
            device=effort.device,
            budget=effort.budget,
        )

    said = f"factors/{kept}/{about}" + ("/base" if with_base else "")
    return _kept(collection, layer, said, members, store, effort, compute, (factors_bytes, factors_from))


def chosen_layers(collection: Collection, layers: Iterable[LayerKey | str] | None) -> tuple[LayerKey, ...]:
    """The collection's layers named in `layers`, in the collection's order; None is all but factor views.

    Raises:
        LayerError: names that the collection does not have, all of them.
    """
    if layers is None:
        return tuple(layer for layer in collection.layers if not layer.factor)
    names = {layer if isinstance(layer, str) else layer.name for layer in layers}
    unknown = sorted(names - set(collection.by_name))
    if unknown:
        raise LayerError(
            f"{collection.name} has {len(collection.layers)} layers, but none called {', '.join(unknown[:5])}"
        )
    return tuple(layer for layer in collection.layers if layer.name in names)


def whole_network(grams: Iterable[Gram]) -> Gram:
    """The layers' Grams added, one at a time: the Gram of the network as one long vector; there must be one."""
    return reduce(add, grams)


def _kept(
    collection: Collection,
    layer: LayerKey | str,
    said: str,
    members: Sequence[int] | None,
    store: Store | None,
    effort: Effort | None,
    compute: Callable[[LayerKey, Effort], _Noun],
    codec: tuple[Callable[[_Noun], bytes], Callable[[bytes], _Noun]],
) -> _Noun:
    """A result of one layer and a subset of the models, from the store or computed and stored."""
    place, effort, (pack, unpack) = store if store is not None else default_store(), effort or Effort(), codec
    (key,) = chosen_layers(collection, [layer])
    chosen = tuple(range(len(collection))) if members is None else tuple(int(row) for row in members)
    where = _where(collection, key, said, chosen, effort.precision)
    raw = place.get(where)
    if raw is not None:
        with suppress(StoreError):
            found = unpack(raw)
            labels = tuple(collection.labels[row] for row in chosen)
            # The same contents may stand in another folder under other names; what stands after them is the base.
            return replace(found, labels=labels + found.labels[len(labels) :])
    with memory_of(key):
        found = compute(key, effort)
    # A result without a place in the store is still one; whoever asks again has it computed again.
    with suppress(StoreError):
        place.put(where, pack(found))
    return found


def _side(axis: Axis | str, about: str, *, unit: bool) -> str:
    return f"side/{Axis(axis)}/{about}/{unit}"


def _where(collection: Collection, key: LayerKey, said: str, members: Sequence[int], precision: str) -> str:
    """The store's key of a result of one layer and some models."""
    return f"{gram_key(collection, key, precision)}/{said}/{_digest(members)}"


def _digest(members: Sequence[int]) -> str:
    return sha256(",".join(map(str, members)).encode()).hexdigest()[:16]
