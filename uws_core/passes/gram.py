"""The pass over the weights: reads one layer of every model once and keeps an n x n matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch

from uws_core.errors import NotEnoughModels
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.block_grams import BlockGrams
from uws_core.nouns.gram import BaseRow, EntryStats, Gram
from uws_core.nouns.models import Collection, LayerKey, LeftOut, ModelRef
from uws_core.passes import low_rank, workers
from uws_core.passes.block_layout import BlockLayout
from uws_core.passes.growing import KnownProducts
from uws_core.passes.memory import on_device, where_it_fits
from uws_core.passes.moments import Moments, to_numpy
from uws_core.passes.open_models import (
    full_single_precision,
    is_low_rank,
    open_models,
    product_dtype,
    torch_device,
)
from uws_core.passes.options import ComputeKeywords, ComputeOptions
from uws_core.sources.base import Rows, Source
from uws_core.sources.files.row_slabs import slabs

# Relative size of an eigenvalue that is rounding: float32 products with float64 sums, or float64 throughout.
_FLOORS = {torch.float32: 1e-7, torch.float64: 1e-15}


def gram(
    collection: Collection, layer: LayerKey | str, *, rows: Rows = None, **compute: Unpack[ComputeKeywords]
) -> Gram:
    """The inner products of all models' weights in `layer` about their mean, shape (n, n), in float64.

    One streamed pass in at most `budget` bytes of slabs: the slab's mean is subtracted before squaring, because at
    |dW|/|W| = 1e-3 float32 is 230 % wrong afterwards. Adapters go through their low-rank factors and are never
    multiplied out. The base, where the collection has one with this layer, is one more row of the same pass; that of
    adapters is the update zero. With `rows` only these rows of a dense layer are taken: the Grams of its blocks add up
    to its own. Keywords: `device`, `precision`, `budget`, `report`; see `ComputeOptions`.
    Price: `n^2 d` multiply-adds (less by symmetry), `n d` weights read.

    Raises:
        LayerError: the collection has no such layer.
        BudgetError: one row of every model does not fit the budget.
        SourceError: a model cannot be read, or changed since the collection was made.
        NotEnoughModels: fewer than two models have finite weights here.
    """
    key, options = collection.layer(layer), ComputeOptions.of(compute)
    rows = None if is_low_rank(collection, key) else rows
    refs = models_read(collection, [key])
    with open_models(refs, key, rows=rows, report=options.report) as sources, full_single_precision():
        return gram_of_sources(collection, key, sources, options, rows=rows)


def models_read(collection: Collection, layers: Sequence[LayerKey]) -> tuple[ModelRef, ...]:
    """The models of a pass over these layers, and after them the base if it has a row in any of them."""
    base = collection.base
    if base is None or not any(
        key.name in collection.base_layers and not is_low_rank(collection, key) for key in layers
    ):
        return collection.refs
    return (*collection.refs, base)


def gram_of_sources(
    collection: Collection,
    key: LayerKey,
    sources: Sequence[Source],
    options: ComputeOptions,
    *,
    rows: Rows = None,
    known: KnownProducts | None = None,
) -> Gram:
    """The Gram from the opened models of `models_read`, of which the base may have no row in this layer.

    Of adapters some models' products may be `known`.
    """
    n = len(collection)
    factored = key.name in sources[0].low_rank
    with_base = collection.base is not None and key.name in collection.base_layers
    kind = product_dtype(options.precision, sources[:n], key)
    if known is not None and product_dtype(options.precision, [sources[model] for model in known.models], key) != kind:
        # A new model is stored in double precision: products of the others in single would spoil its floor.
        known = None

    def compute(device: torch.device, chunk: int) -> Moments:
        if factored:
            return low_rank.sums(sources[:n], key, kind=kind, device=device, options=options, known=known)
        layer_pass = _LayerPass(
            sources[: n + with_base], n, key, kind, device, chunk, options, rows or (0, key.shape[0])
        )
        return layer_pass.finite_sums()

    sums, _ = where_it_fits(compute, torch_device(options.device), report=options.report, what=key.short)
    if factored:
        _check_enough(key, sums, sums.finite)
    part = key if rows is None else LayerKey(key.name, (rows[1] - rows[0], key.shape[1]))
    return _noun(collection, part, sums, with_base=with_base, floor=_FLOORS[kind])


@dataclass(frozen=True, slots=True)
class _LayerPass:
    """One dense layer to sum: the first `n` sources are the models, one more is the base; `rows` (start, stop)."""

    sources: Sequence[Source]
    n: int
    key: LayerKey
    kind: torch.dtype
    device: torch.device
    chunk: int
    options: ComputeOptions
    rows: tuple[int, int]

    def finite_sums(self) -> Moments:
        """The sums over the models whose weights are finite; a second pass only where the first met NaN or infinity.

        A third is needed where, without these, products of the rest still exceed the largest number.
        """
        finite = np.ones(len(self.sources), dtype=np.bool_)
        while True:
            sums = self._sums(finite)
            unfit = sums.unfit()
            if not unfit.any():
                return sums
            finite = finite & ~unfit
            _check_enough(self.key, sums, finite[: self.n])

    def _sums(self, finite: Bools) -> Moments:
        """One pass over the layer."""
        read_rows, count = 0, self.rows[1] - self.rows[0]
        layout = BlockLayout.of(self.key.shape, len(self.sources))

        def report_rows(more: int) -> None:
            nonlocal read_rows
            read_rows += more
            message = f"{self.key.short}: {read_rows} of {count} rows of {self.n} models"
            self.options.report(read_rows / count, message)

        def empty_sums() -> Moments:
            return Moments(layout, models=self.n, finite=finite, kind=self.kind, device=self.device, chunk=self.chunk)

        if self.device.type == "cpu" and len(self.sources) <= workers.MOST_MODELS:
            layer_slabs = workers.LayerSlabs(self.sources, self.key, self.rows, self.kind, self.options.budget)
            return workers.parallel_sums(layer_slabs, empty_sums, report_rows)
        sums = empty_sums()
        pin, budget = self.device.type == "cuda", self.options.budget
        if pin:
            # Two slabs are on the device as well: they shrink with the chunk where its memory is short, to one row.
            one_row = 2 * len(self.sources) * self.key.shape[1] * self.kind.itemsize
            budget = min(budget, max(4 * self.chunk, one_row))
        read = slabs(self.sources, self.key, dtype=self.kind, budget=budget, pin=pin, rows=self.rows)
        for slab, values in on_device(read, self.device):
            sums.add(values, slab.start)
            report_rows(slab.stop - slab.start)
        return sums


def _check_enough(key: LayerKey, sums: Moments, finite: Bools) -> None:
    if finite.sum() < 2:
        raise NotEnoughModels(
            f"{key.name}: {int(finite.sum())} of {finite.size} models have finite weights here, two are needed; "
            f"weights whose squares exceed {sums.most:.1e} count as infinite in {sums.precision} precision"
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
        blocks=_block_grams(sums, usable),
    )


def _block_grams(sums: Moments, usable: Bools) -> BlockGrams | None:
    """The products of blocks about the exact mean of the usable models, the mean last; None where none are kept."""
    n = usable.size
    if sums.row_blocks is None:
        return None
    with_base = sums.finite.size > n and bool(sums.finite[n])
    kept = [*range(n + with_base), sums.finite.size]
    # The exact mean is the chunks' mean and `shift`: it moves away from the models, and from itself towards it.
    signs = np.append(np.where(sums.finite, -1.0, 0.0), 1.0)
    weights = np.zeros(signs.size)
    weights[:n][usable] = 1 / usable.sum()
    stored = np.float32 if sums.kind == torch.float32 else np.float64
    sides: list[Any] = []
    for blocks in (to_numpy(sums.row_blocks), to_numpy(sums.column_blocks)):
        toward, ways = weights.astype(blocks.dtype), signs.astype(blocks.dtype)
        shift = blocks @ toward
        # No BLAS for so few numbers: its small kernels now and then raise "invalid" about what lies beside them.
        shift += (shift * toward).sum(axis=1)[:, None] / 2 * ways
        # Both sums before they are added, so that rounding keeps it symmetric.
        change = shift[:, :, None] * ways
        change += ways[:, None] * shift[:, None, :]
        moved = blocks + blocks.mT
        moved *= 0.5
        moved += change
        sides.append((moved if len(kept) == signs.size else moved[:, kept][:, :, kept]).astype(stored, copy=False))
    rows, columns = sides
    # A vector's entries are the blocks of both sides.
    if len(rows) == 1 and len(columns) > 1:
        rows = columns
    elif len(columns) == 1 and len(rows) > 1:
        columns = rows
    return BlockGrams(rows, columns, n, with_base=with_base)


def _base_row(exact: _Centred, sums: Moments, n: int) -> BaseRow | None:
    """Where the base lies: in the row after the models, or, of adapters, where every update is zero."""
    if sums.finite.size == n:
        return BaseRow(-exact.to_center[:n], -exact.center_norm2, exact.center_norm2)
    if not sums.finite[-1]:
        return None
    return BaseRow(exact.values[n, :n], float(exact.to_center[n]), float(exact.values[n, n]))


def _about_exact_mean(sums: Moments, usable: Bools) -> _Centred:
    """Moves the centre from the slab means, rounded to the products' type, to the exact mean of the usable models."""
    rows, toward = to_numpy(sums.gram), to_numpy(sums.to_center)
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
        part = values[:n]
        # A fourth power exceeds the largest float32 long before a square does; then it is unknown.
        return np.asarray(np.where(np.isfinite(part), part, np.nan) * known)

    return EntryStats(
        count=key.entries,
        power1=of_models(to_numpy(sums.power1)),
        power2=of_models(to_numpy(sums.power2)),
        power3=of_models(to_numpy(sums.power3)),
        power4=of_models(to_numpy(sums.power4)),
        largest=of_models(np.sqrt(to_numpy(sums.largest2))),
        non_finite=to_numpy(sums.non_finite)[:n],
    )


def _left_out(collection: Collection, key: LayerKey, sums: Moments) -> tuple[LeftOut, ...]:
    counts = to_numpy(sums.non_finite)

    def why(index: int) -> str:
        if index in sums.reasons:
            return sums.reasons[index]
        if counts[index]:
            return f"{int(counts[index])} of {key.entries} weights are NaN or infinite"
        # The weights are finite and their squares are not.
        way_out = ", which precision='double' may hold" if sums.precision == "single" else ""
        return (
            f"its weights are too large for {sums.precision} precision: their squares exceed {sums.most:.1e}{way_out}"
        )

    return tuple(
        LeftOut(f"{collection.labels[index]}, {key.short}", f"{why(index)}; this model is not used in this layer")
        for index in np.flatnonzero(~sums.finite[: len(collection)]).tolist()
    )
