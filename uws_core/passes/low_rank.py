"""The sums of the pass for adapters, whose updates `scale * up @ down` are never multiplied out.

`<dW_i, dW_j> = s_i s_j sum((U_i^T U_j) * (D_i D_j^T))`: two products of `(sum r)^2 (m + p)` multiply-adds for all
pairs at once, instead of `n m p` stored numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import LayerError
from uws_core.nouns.cost import check_factors
from uws_core.nouns.models import LayerKey, LowRank
from uws_core.passes.moments import Moments, to_numpy
from uws_core.passes.options import ComputeOptions, Report
from uws_core.sources.base import Source

# Rank rows of one block of products; two float32 blocks of 1024 x 8000 are 64 MB.
_BLOCK_ROWS = 1024


def sums(
    sources: Sequence[Source], layer: LayerKey, *, kind: torch.dtype, device: torch.device, options: ComputeOptions
) -> Moments:
    """The sums of the pass, with raw inner products in `gram` (about zero) and no moments beyond the second.

    Raises:
        LayerError: one model holds this layer as a dense matrix, the others as factors.
        BudgetError: the factors of all models do not fit four times the budget.
    """
    parts = _read(sources, layer, kind, options.budget)
    counts = [
        int((~torch.isfinite(part.up)).sum() + (~torch.isfinite(part.down)).sum())
        if math.isfinite(part.scale)
        # A scale that is NaN or infinite makes all entries so.
        else layer.entries
        for part in parts
    ]
    finite = np.array(counts) == 0
    moments = Moments(models=len(parts), finite=finite, kind=kind, device=torch.device("cpu"))
    ups, downs = [], []
    for part, alive in zip(parts, finite, strict=True):
        ups.append(part.up.to(kind) * part.scale if alive else torch.zeros(part.up.shape, dtype=kind))
        downs.append(part.down.to(kind) if alive else torch.zeros(part.down.shape, dtype=kind))
    up, down = torch.cat(ups, dim=1).to(device), torch.cat(downs).to(device)
    owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([part.down.shape[0] for part in parts]))
    moments.gram = to_numpy(_inner_products(up, down, owner.to(device), len(parts), layer, options.report))
    entries = to_numpy(up.double().sum(0) * down.double().sum(1))
    moments.power1 = np.bincount(owner.numpy(), weights=entries, minlength=len(parts))
    # A factor and its scale may be finite and their product not; no model's products depend on another's.
    moments.drop(moments.finite & ~np.isfinite(moments.gram.diagonal() + moments.power1))
    # Cubes and fourth powers would need the product itself.
    moments.power3, moments.power4, moments.largest2 = (np.full(len(parts), np.nan) for _ in range(3))
    moments.non_finite = np.array(counts, dtype=np.float64)
    moments.reasons |= {
        i: f"its scale is {part.scale}" for i, part in enumerate(parts) if not math.isfinite(part.scale)
    }
    return moments


def _inner_products(ups: Tensor, downs: Tensor, owner: Tensor, n: int, layer: LayerKey, report: Report) -> Tensor:
    """`(n, n)` float64 from up (m, R) and down (R, p), block of rank rows by block, each pair once."""
    ranks = downs.shape[0]
    gram = torch.zeros(n, n, dtype=torch.float64, device=ups.device)
    starts = _block_starts(owner)
    for start, stop in zip(starts, [*starts[1:], ranks], strict=True):
        product = ups[:, start:stop].T @ ups[:, start:]
        product *= downs[start:stop] @ downs[start:].T
        columns = torch.zeros(stop - start, n, dtype=torch.float64, device=ups.device)
        columns.index_add_(1, owner[start:], product.double())
        block = torch.zeros(n, n, dtype=torch.float64, device=ups.device).index_add_(0, owner[start:stop], columns)
        inside = torch.unique(owner[start:stop])
        gram += block
        later = torch.ones(n, dtype=torch.bool, device=ups.device)
        later[inside] = False
        later[: int(inside[0])] = False
        gram[later] += block[:, later].T
        report(stop / ranks, f"{layer.short}: {stop} of {ranks} adapter ranks")
    return gram


def _block_starts(owner: Tensor) -> list[int]:
    """Where blocks of about `_BLOCK_ROWS` rank rows begin, never inside a model."""
    first_rows = torch.cat(
        [torch.zeros(1, dtype=torch.long, device=owner.device), (owner.diff() != 0).nonzero()[:, 0] + 1]
    )
    starts = [0]
    for row in first_rows.tolist():
        if row - starts[-1] >= _BLOCK_ROWS:
            starts.append(row)
    return starts


def _read(sources: Sequence[Source], layer: LayerKey, kind: torch.dtype, budget: int) -> list[LowRank]:
    """Every model's factors; stops with an error as soon as they do not fit, since a small file may hold large ones."""
    parts, held = list[LowRank](), 0
    for source in sources:
        part = source.read(layer.name)
        if not isinstance(part, LowRank):
            raise LayerError(f"{source.ref}: {layer.name} is dense here and low-rank in other models")
        parts.append(part)
        held += (part.up.numel() + part.down.numel()) * kind.itemsize
        check_factors(len(parts), layer, held=held, budget=budget, of=len(sources))
    return parts
