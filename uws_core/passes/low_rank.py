"""The sums of the pass for adapters, whose updates `scale * up @ down` are never multiplied out.

`<dW_i, dW_j> = s_i s_j sum((U_i^T U_j) * (D_i D_j^T))`: two products of `(sum r)^2 (m + p)` multiply-adds for all
pairs at once, instead of `n m p` stored numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import check_factors
from uws_core.nouns.models import LayerKey, LowRank
from uws_core.passes.block_layout import BlockLayout
from uws_core.passes.growing import KnownProducts
from uws_core.passes.moments import Moments, to_numpy
from uws_core.passes.options import ComputeOptions, Report
from uws_core.sources.base import Source

# Products of ranks that are formed at once: in float32 three times 4 MB, which the cache holds over all blocks.
_BLOCK_PRODUCTS = 2**20


def sums(
    sources: Sequence[Source],
    layer: LayerKey,
    *,
    kind: torch.dtype,
    device: torch.device,
    options: ComputeOptions,
    known: KnownProducts | None = None,
) -> Moments:
    """The sums of the pass, with raw inner products in `gram` (about zero) and no moments beyond the second.

    With products that are `known` of some models, only those of the others with all are formed.

    Raises:
        LayerError: one model holds this layer as a dense matrix, the others as factors.
        BudgetError: the factors of all models do not fit four times the budget.
    """
    # Stop as soon as the factors do not fit: a small file may hold large ones.
    parts, held = list[LowRank](), 0
    for source in sources:
        part = source.read(layer.name)
        if not isinstance(part, LowRank):
            raise LayerError(f"{source.ref}: {layer.name} is dense here and low-rank in other models")
        parts.append(part)
        held += (part.up.numel() + part.down.numel()) * kind.itemsize
        check_factors(len(parts), layer, held=held, budget=options.budget, of=len(sources))
    counts = [
        int((~torch.isfinite(part.up)).sum() + (~torch.isfinite(part.down)).sum())
        if math.isfinite(part.scale)
        # A scale that is NaN or infinite makes all entries so.
        else layer.entries
        for part in parts
    ]
    finite = np.array(counts) == 0
    layout = BlockLayout.of(layer.shape, len(parts), cells=False)
    moments = Moments(layout, models=len(parts), finite=finite, kind=kind, device=torch.device("cpu"))
    ups, downs = [], []
    for part, alive in zip(parts, finite, strict=True):
        ups.append(part.up.to(kind) * part.scale if alive else torch.zeros(part.up.shape, dtype=kind))
        downs.append(part.down.to(kind) if alive else torch.zeros(part.down.shape, dtype=kind))
    up, down = torch.cat(ups, dim=1).to(device), torch.cat(downs).to(device)
    ranks = [part.down.shape[0] for part in parts]
    factors = _Factors(up, down, ranks)
    if known is None:
        moments.gram, rows, columns = map(to_numpy, _inner_products(factors, layout, layer, options.report))
    else:
        moments.gram, rows, columns = _border(factors, layout, layer, known, options.report)
    moments.set_blocks(rows, columns)
    entries = to_numpy(up.double().sum(0) * down.double().sum(1))
    moments.power1 = np.array([part.sum() for part in np.split(entries, np.cumsum(ranks)[:-1])])
    # A factor and its scale may be finite and their product not; no model's products depend on another's.
    moments.drop(moments.finite & ~np.isfinite(moments.gram.diagonal() + moments.power1))
    # Cubes and fourth powers would need the product itself.
    moments.power3, moments.power4, moments.largest2 = (np.full(len(parts), np.nan) for _ in range(3))
    moments.non_finite = np.array(counts, dtype=np.float64)
    moments.reasons |= {
        i: f"its scale is {part.scale}" for i, part in enumerate(parts) if not math.isfinite(part.scale)
    }
    return moments


def _border(
    factors: _Factors, layout: BlockLayout, layer: LayerKey, known: KnownProducts, report: Report
) -> tuple[Floats, Floats, Floats]:
    """The same products as of a whole pass, of which those of some models are known.

    The other models come first, whose products with all from them on are those of whole rows.
    """
    new = [model for model in range(len(factors.ranks)) if model not in set(known.models)]
    order = [*new, *known.models]
    fresh = _inner_products(factors.chosen(order), layout, layer, report, models=len(new)) if new else None
    found = []
    for place, before in enumerate((known.gram, known.rows, known.columns)):
        total = np.zeros((*before.shape[:-2], len(order), len(order)))
        if fresh is not None:
            total[...] = to_numpy(fresh[place])
        total[..., len(new) :, len(new) :] = before
        back = np.argsort(order)
        found.append(total[..., back, :][..., back])
    return found[0], found[1], found[2]


def _inner_products(
    factors: _Factors, layout: BlockLayout, layer: LayerKey, report: Report, *, models: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The Gram (n, n) about zero, and those of row and column blocks (blocks, n, n), all float64.

    With `models`, only the products of so many first ones with all; the others stay 0.

    Formed in blocks of rank rows, each pair of models once. A block of rows takes its part of `up` only, as
    `G_b,ij = s_i s_j sum((U_ib^T U_jb) * (D_i D_j^T))`, and the Gram is their sum; a block of columns takes its part of
    `down`. The blocks cost half as many multiply-adds again as the Gram, and a sweep over `(sum r)^2` for each.
    """
    up, down, n = factors.up, factors.down, len(factors.ranks)
    counts = (layout.rows, layout.columns) if layout.kept else (1, 0)
    rows, columns = (torch.zeros(count, n, n, dtype=torch.float64, device=up.device) for count in counts)
    for first, last in _model_ranges(factors.ranks[:models], sum(factors.ranks)):
        start, stop = sum(factors.ranks[:first]), sum(factors.ranks[:last])
        of_down = down[start:stop] @ down[start:].T
        of_up = torch.zeros_like(of_down)
        for block, part in enumerate(torch.split(up, layout.height)):
            product = part[:, start:stop].T @ part[:, start:]
            of_up += product
            _add_symmetric(rows[block], factors.per_model(product.mul_(of_down), first, last), first, last)
        for block, part in enumerate(torch.split(down, layout.width, dim=1) if layout.kept else ()):
            product = part[start:stop] @ part[start:].T
            _add_symmetric(columns[block], factors.per_model(product.mul_(of_up), first, last), first, last)
        total = sum(factors.ranks[:models])
        report(stop / total, f"{layer.short}: {stop} of {total} adapter ranks")
    return rows.sum(0), rows, columns


@dataclass(frozen=True, slots=True)
class _Factors:
    """All models' factors side by side: `up` (m, R) with the scales, `down` (R, p), and each model's rank."""

    up: Tensor
    down: Tensor
    ranks: list[int]

    def chosen(self, models: Sequence[int]) -> _Factors:
        """The factors of these models in this order."""
        starts = np.concatenate([[0], np.cumsum(self.ranks)])
        rows = np.concatenate([np.arange(starts[model], starts[model + 1]) for model in models])
        index = torch.from_numpy(rows).to(self.up.device)
        return _Factors(self.up[:, index], self.down[index], [self.ranks[model] for model in models])

    def per_model(self, products: Tensor, first: int, last: int) -> Tensor:
        """Sums (last - first, n - first) in float64 of products of ranks of these models with those from `first` on."""
        ranks, count = self.ranks[first:], last - first
        # First over the ranks of these models, whole rows at a time; the rest is a small part of the work.
        if len(set(ranks)) == 1:
            of_rows = products.view(count, ranks[0], -1).sum(1)
            return of_rows.view(count, len(ranks), ranks[0]).sum(2, dtype=torch.float64)
        owner = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks)).to(products.device)
        of_rows = torch.zeros(count, products.shape[1], dtype=products.dtype, device=products.device)
        of_rows.index_add_(0, owner[: products.shape[0]], products)
        sums = torch.zeros(count, len(ranks), dtype=torch.float64, device=products.device)
        return sums.index_add_(1, owner, of_rows.double())


def _add_symmetric(gram: Tensor, part: Tensor, first: int, last: int) -> None:
    """Adds the products of models `first` to `last` with all from `first` on, and their mirror image."""
    gram[first:last, first:] += part
    gram[last:, first:last] += part[:, last - first :].T


def _model_ranges(ranks: Sequence[int], every: int) -> Iterator[tuple[int, int]]:
    """Ranges of models whose products with all of `every` rank are about `_BLOCK_PRODUCTS` numbers."""
    most, first, held = _BLOCK_PRODUCTS // max(every, 1), 0, 0
    for index, rank in enumerate(ranks):
        held += rank
        if held >= most or index + 1 == len(ranks):
            yield first, index + 1
            first, held = index + 1, 0
