"""THE pass over the weights: one layer of every model, read once, kept as an n x n matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uws_core.errors import NotEnoughModels
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.gram import BaseRow, EntryStats, Gram
from uws_core.nouns.models import Collection, LayerKey, LeftOut, ModelRef
from uws_core.passes import low_rank, workers
from uws_core.passes.memory import carried, where_it_fits
from uws_core.passes.moments import Moments, host
from uws_core.passes.open_models import (
    BUDGET,
    Report,
    device_of,
    full_single_precision,
    is_thin,
    layer_of,
    number_type,
    opened,
    silent,
)
from uws_core.sources.base import Rows, Source
from uws_core.sources.slabs import slabs

# Relative size of an eigenvalue that is rounding: float32 products with float64 sums, or float64 throughout.
_FLOORS = {torch.float32: 1e-7, torch.float64: 1e-15}


def gram(
    collection: Collection,
    layer: LayerKey | str,
    *,
    device: str = "auto",
    precision: str = "auto",
    budget: int = BUDGET,
    rows: Rows = None,
    report: Report | None = None,
) -> Gram:
    """The inner products of all models' weights in `layer` about their mean, shape (n, n), in float64.

    One streamed pass in at most `budget` bytes of slabs: the slab's mean is subtracted before squaring, because at
    |dW|/|W| = 1e-3 float32 is 230 % wrong afterwards. Adapters go through their thin factors and are never multiplied
    out. The base, where the collection has one with this layer, is one more row of the same pass; that of adapters is
    the update zero. With `rows` only these rows of a dense layer are taken: the Grams of its blocks add up to its own.
    Price: `n^2 d` multiply-adds (less by symmetry), `n d` weights read.

    Raises:
        LayerError: the collection has no such layer.
        BudgetError: one row of every model does not fit the budget.
        SourceError: a model cannot be read, or changed since the collection was made.
        NotEnoughModels: fewer than two models have finite weights here.
    """
    key = layer_of(collection, layer)
    rows = None if is_thin(collection, key) else rows
    refs = rows_of(collection, [key])
    with opened(refs, key, rows=rows, report=report or silent) as sources, full_single_precision():
        return of_opened(
            collection, key, sources, device=device, precision=precision, budget=budget, rows=rows, report=report
        )


def rows_of(collection: Collection, layers: Sequence[LayerKey]) -> tuple[ModelRef, ...]:
    """The models of a pass over these layers, and after them the base if it has a row in any of them."""
    base = collection.base
    if base is None or not any(key.name in collection.base_layers and not is_thin(collection, key) for key in layers):
        return collection.refs
    return (*collection.refs, base)


def of_opened(
    collection: Collection,
    key: LayerKey,
    sources: Sequence[Source],
    *,
    device: str = "auto",
    precision: str = "auto",
    budget: int = BUDGET,
    rows: Rows = None,
    report: Report | None = None,
) -> Gram:
    """The same from the opened models of `rows_of`, of which the base may have no row in this layer."""
    n, tell = len(collection), report or silent
    thinly, with_base = key.name in sources[0].thin, collection.base is not None and key.name in collection.base_layers
    kind = number_type(precision, sources[:n], key)

    def work(place: torch.device, chunk: int) -> Moments:
        if thinly:
            return low_rank.sums(sources[:n], key, kind=kind, device=place, budget=budget, report=tell)
        return _finite_sums(sources[: n + with_base], n, key, kind, place, chunk, budget, rows, tell)

    sums, _ = where_it_fits(work, device_of(device), report=tell, what=key.short)
    if thinly:
        _check_enough(key, sums, sums.finite)
    part = key if rows is None else LayerKey(key.name, (rows[1] - rows[0], key.shape[1]))
    return _noun(collection, part, sums, with_base=with_base, floor=_FLOORS[kind])


def _finite_sums(
    sources: Sequence[Source],
    n: int,
    key: LayerKey,
    kind: torch.dtype,
    device: torch.device,
    chunk: int,
    budget: int,
    rows: Rows,
    report: Report,
) -> Moments:
    """The sums over the models whose weights are finite; a second pass only where the first met NaN or infinity.

    A third is needed where, without these, products of the rest still pass the largest number.
    """
    finite = np.ones(len(sources), dtype=np.bool_)
    while True:
        sums = _summed(sources, n, key, kind, device, chunk, budget, rows, report, finite)
        unfit = sums.unfit()
        if not unfit.any():
            return sums
        finite = finite & ~unfit
        _check_enough(key, sums, finite[:n])


def _summed(
    sources: Sequence[Source],
    n: int,
    key: LayerKey,
    kind: torch.dtype,
    device: torch.device,
    chunk: int,
    budget: int,
    rows: Rows,
    report: Report,
    finite: Bools,
) -> Moments:
    """One pass over the layer."""

    def begin() -> Moments:
        return Moments(models=n, finite=finite, kind=kind, device=device, chunk=chunk)

    first, last = rows or (0, key.shape[0])
    if device.type == "cpu" and len(sources) <= workers.MOST_MODELS:
        read_rows = 0

        def done(count: int) -> None:
            nonlocal read_rows
            read_rows += count
            report(read_rows / (last - first), f"{key.short}: {read_rows} of {last - first} rows of {n} models")

        return workers.summed(sources, key, (first, last), budget=budget, kind=kind, begin=begin, done=done)
    sums = begin()
    read = slabs(sources, key, dtype=kind, budget=budget, pin=device.type == "cuda", rows=rows)
    for slab, values in carried(read, device):
        sums.add(values)
        report((slab.stop - first) / (last - first), f"{key.short}: {slab.stop} of {key.shape[0]} rows of {n} models")
    return sums


def _check_enough(key: LayerKey, sums: Moments, finite: Bools) -> None:
    if finite.sum() < 2:
        raise NotEnoughModels(
            f"{key.name}: {int(finite.sum())} of {finite.size} models have finite weights here, two are needed; "
            f"weights whose squares pass {sums.most:.1e} count as infinite in {sums.precision} precision"
        )


@dataclass(frozen=True, slots=True)
class _Centred:
    """Inner products about the exact mean: of rows (n or n + 1 with the base), with the mean, and of the mean."""

    values: Floats
    to_center: Floats
    center_norm2: float


def _noun(collection: Collection, key: LayerKey, sums: Moments, *, with_base: bool, floor: float) -> Gram:
    n = len(collection)
    usable = sums.finite[:n]
    exact = _about_exact_mean(sums, usable)
    return Gram(
        layers=(key,),
        labels=collection.labels,
        values=exact.values[:n, :n],
        to_center=exact.to_center[:n],
        center_norm2=exact.center_norm2,
        d=key.entries,
        floor=floor * sums.largest_eigenvalue_bound(exact.values[:n, :n]),
        entry_stats=_entry_stats(sums, key, n),
        base=_base_row(exact, sums, n) if with_base else None,
        usable=usable,
        left_out=_left_out(collection, key, sums),
    )


def _base_row(exact: _Centred, sums: Moments, n: int) -> BaseRow | None:
    """Where the base lies: in the row after the models, or, of adapters, where every update is zero."""
    if sums.finite.size == n:
        return BaseRow(-exact.to_center[:n], -exact.center_norm2, exact.center_norm2)
    if not sums.finite[-1]:
        return None
    return BaseRow(exact.values[n, :n], float(exact.to_center[n]), float(exact.values[n, n]))


def _about_exact_mean(sums: Moments, usable: Bools) -> _Centred:
    """Moves the centre from the slab means, rounded to the products' type, to the exact mean of the usable models."""
    rows, toward = host(sums.gram), host(sums.to_center)
    rows = (rows + rows.T) / 2
    weights = np.zeros(rows.shape[0])
    weights[: usable.size][usable] = 1 / usable.sum()
    shift = rows @ weights
    inside, along = float(weights @ shift), float(weights @ toward)
    alive = sums.finite.astype(np.float64)
    values = (rows - shift[:, None] - shift[None, :] + inside) * np.outer(alive, alive)
    return _Centred(values, (toward + shift - along - inside) * alive, sums.center_norm2 + 2 * along + inside)


def _entry_stats(sums: Moments, key: LayerKey, n: int) -> EntryStats:
    known = np.where(sums.finite, 1.0, np.nan)[:n]

    def of_models(values: Floats) -> Floats:
        found = values[:n]
        # A fourth power passes the largest float32 long before a square does, and then tells nothing.
        return np.asarray(np.where(np.isfinite(found), found, np.nan) * known)

    return EntryStats(
        count=key.entries,
        power1=of_models(host(sums.power1)),
        power2=of_models(host(sums.power2)),
        power3=of_models(host(sums.power3)),
        power4=of_models(host(sums.power4)),
        largest=of_models(np.sqrt(host(sums.largest2))),
        non_finite=host(sums.non_finite)[:n],
    )


def _left_out(collection: Collection, key: LayerKey, sums: Moments) -> tuple[LeftOut, ...]:
    counts = host(sums.non_finite)

    def why(index: int) -> str:
        if index in sums.reasons:
            return sums.reasons[index]
        if counts[index]:
            return f"{int(counts[index])} of {key.entries} weights are NaN or infinite"
        return _too_large(sums)

    return tuple(
        LeftOut(f"{collection.labels[index]}, {key.short}", f"{why(index)}; this model is not used in this layer")
        for index in np.flatnonzero(~sums.finite[: len(collection)]).tolist()
    )


def _too_large(sums: Moments) -> str:
    """Said of finite weights whose squares are not."""
    way_out = ", which precision='double' may hold" if sums.precision == "single" else ""
    return f"its weights are too large for {sums.precision} precision: their squares pass {sums.most:.1e}{way_out}"
