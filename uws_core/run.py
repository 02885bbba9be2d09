"""Results of the passes, from the store where they are and computed where they are not.

Only this process writes the store, so any `concurrent.futures.Executor` can compute: threads here, or a cluster. A
work item carries names and numbers; a worker opens its own files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from operator import add
from typing import TypeVar, Unpack

from uws_core.errors import LayerError, StoreError, UwsError
from uws_core.nouns.angles import EXACT_SIDE, Factors
from uws_core.nouns.chance import NullBand
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.merge_preview import SignConflict
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.layer_scan import LayerScan, stored_gram
from uws_core.passes.options import (
    ComputeOptions,
    DeviceKeywords,
    FactorsKeywords,
    Report,
    SideKeywords,
    budget_error_if_out_of_memory,
)
from uws_core.passes.progress import Progress
from uws_core.store.codec import from_bytes, gram_key, to_bytes
from uws_core.store.results import Store, default_store

_Result = TypeVar("_Result", Gram, Factors, SignConflict)
# A draw of a side axis costs a decomposition of every model, so there are few.
SIDE_DRAWS = 20
Failed = Callable[[LayerKey, UwsError], None]


def stored_grams(
    collection: Collection,
    layers: Iterable[LayerKey | str] | None = None,
    *,
    store: Store | None = None,
    precision: str = "auto",
) -> dict[str, Gram]:
    """The Grams that the store has, by layer name, all in memory; reads no weights."""
    store = store if store is not None else default_store()
    grams = ((key.name, stored_gram(store, collection, key, precision)) for key in chosen_layers(collection, layers))
    return {name: gram for name, gram in grams if gram is not None}


def stored_layers(
    collection: Collection,
    layers: Iterable[LayerKey | str] | None = None,
    *,
    store: Store | None = None,
    precision: str = "auto",
) -> tuple[str, ...]:
    """The names of the layers whose Gram the store has, in the collection's order; opens none of them."""
    store = store if store is not None else default_store()
    keys = chosen_layers(collection, layers)
    return tuple(key.name for key in keys if gram_key(collection, key, precision) in store)


def scan(
    collection: Collection,
    layers: Iterable[LayerKey | str] | None = None,
    *,
    store: Store | None = None,
    executor: Executor | None = None,
    report: Report | None = None,
    options: ComputeOptions | None = None,
    failed: Failed | None = None,
) -> Iterator[Gram]:
    """The Gram of every chosen layer (None is all), finished ones first; each is stored as soon as it is done.

    `store` defaults to the user's own, so a second call reads no weights. With an `executor` layers are computed
    side by side, large ones in blocks of rows, and yielded as they finish. A layer that cannot be read ends the scan,
    unless `failed` takes its error: then the others go on, and a full disk costs only what is stored.

    Raises:
        LayerError: a layer the collection does not have.
        UwsError: without `failed`, whatever `gram` raises.
        Cancelled: `report` raised it; everything yielded so far is in the store.
    """
    store, options = store if store is not None else default_store(), _reporting(options, report)
    rest = list(chosen_layers(collection, layers))
    for name in stored_layers(collection, rest, store=store, precision=options.precision):
        layer = collection.by_name[name]
        # One at a time: all results of a large collection are more than memory holds.
        gram = stored_gram(store, collection, layer, options.precision)
        if gram is not None:
            rest.remove(layer)
            options.report(0.0, layer.short)
            yield gram
    progress = Progress(rest, options.report)
    layer_scan = LayerScan(collection, store, options, progress)
    outcomes = layer_scan.here(rest) if executor is None else layer_scan.distributed(rest, executor)
    for layer, result, problem in outcomes:
        if problem is not None:
            if failed is None:
                raise problem
            failed(layer, problem)
        progress.finished(layer)
        if result is not None:
            yield result
    if not rest:
        options.report(1.0, "")


def cached_side_gram(
    collection: Collection,
    layer: LayerKey | str,
    *,
    store: Store | None = None,
    options: ComputeOptions | None = None,
    report: Report | None = None,
    **question: Unpack[SideKeywords],
) -> Gram:
    """The side Gram of a layer, from the store or by a pass; the key of the result holds the chosen models' contents.

    Raises:
        UwsError: whatever `side_gram` raises.
    """
    options = _reporting(options, report)

    def compute(key: LayerKey) -> Gram:
        from uws_core.passes.side import side_gram

        return side_gram(collection, key, **question, **options.keywords)

    name = _side_name(question["axis"], question.get("about", "mean"), unit=question.get("unit", False))
    lookup = _lookup(collection, layer, name, question.get("members"), store, options)
    return lookup.stored_or(compute, Gram)


def stored_side_layers(
    collection: Collection,
    layers: Iterable[LayerKey | str],
    *,
    axis: Axis | str,
    store: Store | None = None,
    precision: str = "auto",
) -> tuple[str, ...]:
    """The names of the layers whose side Gram of all models about their mean the store has; opens none of them."""
    store = store if store is not None else default_store()
    name, everyone = _side_name(axis, "mean", unit=False), tuple(range(len(collection)))
    keys = chosen_layers(collection, layers)
    return tuple(key.name for key in keys if _result_key(collection, key, name, everyone, precision) in store)


def cached_factors(
    collection: Collection,
    layer: LayerKey | str,
    *,
    store: Store | None = None,
    options: ComputeOptions | None = None,
    report: Report | None = None,
    **question: Unpack[FactorsKeywords],
) -> Factors:
    """Each chosen model's own leading directions, from the store or by a pass; the key holds the models' contents.

    Raises:
        UwsError: whatever `factors` raises.
    """
    options = _reporting(options, report)

    def compute(key: LayerKey) -> Factors:
        from uws_core.passes.factors import factors

        how: DeviceKeywords = {"device": options.device, "budget": options.budget, "report": options.report}
        return factors(collection, key, **question, **how)

    name = f"factors/{question.get('kept', 32)}/{question.get('about', 'mean')}"
    name += "/base" if question.get("with_base", False) else ""
    lookup = _lookup(collection, layer, name, question.get("members"), store, options)
    return lookup.stored_or(compute, Factors)


def cached_sign_conflict(
    collection: Collection,
    layer: LayerKey | str,
    *,
    members: Members = None,
    store: Store | None = None,
    options: ComputeOptions | None = None,
    report: Report | None = None,
) -> SignConflict:
    """The shares of opposed signs of the chosen members' updates, from the store or by a pass.

    Raises:
        UwsError: whatever `sign_conflict` raises.
    """
    options = _reporting(options, report)

    def compute(key: LayerKey) -> SignConflict:
        from uws_core.passes.signs import sign_conflict

        return sign_conflict(collection, key, members=members, options=options)

    return _lookup(collection, layer, "signs", members, store, options).stored_or(compute, SignConflict)


def side_band(
    collection: Collection,
    gram: Gram,
    *,
    members: Members = None,
    about: str = "mean",
    unit: bool = False,
    draws: int = SIDE_DRAWS,
    seed: int = 0,
) -> NullBand:
    """The band of a side Gram of these models when they share no direction; every model keeps its singular values.

    These come from the store or by a pass. Raises:
        LayerError: sides too large for all singular values of every model.
        UwsError: whatever `factors` raises.
    """
    shape = gram.layer.shape
    if min(shape) > EXACT_SIDE and about != "zero":
        raise LayerError(_too_large(shape))
    # One direction is kept: the null needs all singular values and no vector.
    own = cached_factors(collection, gram.layer.name, kept=1, about=about, members=members)
    if not own.complete:
        raise LayerError(_too_large(shape))
    from uws_core.analysis.side_nulls import haar_band

    return haar_band(gram, own, draws=draws, seed=seed, unit=unit)


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


def _lookup(
    collection: Collection,
    layer: LayerKey | str,
    name: str,
    members: Members,
    store: Store | None,
    options: ComputeOptions,
) -> _Lookup:
    """The lookup of the result called `name`, in the default store unless another is named."""
    (key,) = chosen_layers(collection, [layer])
    rows = tuple(range(len(collection))) if members is None else tuple(int(row) for row in members)
    return _Lookup(
        key=key,
        labels=tuple(collection.labels[row] for row in rows),
        result_key=_result_key(collection, key, name, rows, options.precision),
        store=store if store is not None else default_store(),
        options=options,
    )


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One result of a layer and a subset of the models: where it is stored, and how it is computed if it is not."""

    key: LayerKey
    labels: tuple[str, ...]
    result_key: str
    store: Store
    options: ComputeOptions

    def stored_or(self, compute: Callable[[LayerKey], _Result], kind: type[_Result]) -> _Result:
        """The stored result, or the one that `compute` returns, which is then stored."""
        raw = self.store.get(self.result_key)
        if raw is not None:
            with suppress(StoreError):
                result = from_bytes(kind, raw)
                # The same contents may lie in another folder under other names; a row after the models is the base.
                return replace(result, labels=self.labels + result.labels[len(self.labels) :])
        with budget_error_if_out_of_memory(self.key):
            result = compute(self.key)
        # A result that the store has no room for is still returned; the next call computes it again.
        with suppress(StoreError):
            self.store.put(self.result_key, to_bytes(result))
        return result


def _reporting(options: ComputeOptions | None, report: Report | None) -> ComputeOptions:
    """The options with this report, where there is one."""
    options = options or ComputeOptions()
    return options if report is None else replace(options, report=report)


def _too_large(shape: tuple[int, int]) -> str:
    return (
        f"noise of a side axis needs all singular values of every model, and those of {shape[0]} x {shape[1]} are too "
        "many to work out; the models axis has noise for layers of any size"
    )


def _side_name(axis: Axis | str, about: str, *, unit: bool) -> str:
    return f"side/{Axis(axis)}/{about}/{unit}"


def _result_key(collection: Collection, key: LayerKey, name: str, rows: Sequence[int], precision: str) -> str:
    """The store's key of a result of one layer and some models."""
    members = sha256(",".join(map(str, rows)).encode()).hexdigest()[:16]
    return f"{gram_key(collection, key, precision)}/{name}/{members}"
