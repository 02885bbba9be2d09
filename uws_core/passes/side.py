"""The pass for the side axes: the mode Grams of the HOSVD, over the inputs or the outputs of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import NotEnoughModels, UwsError
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.gram import Axis, EntryStats, Gram, Members
from uws_core.nouns.models import Collection, LayerKey, LeftOut
from uws_core.passes.center import center_matrix, chosen, dense
from uws_core.passes.memory import on_device, on_device_or_cpu
from uws_core.passes.open_models import (
    full_single_precision,
    open_models,
    product_dtype,
    torch_device,
)
from uws_core.passes.options import ComputeKeywords, ComputeOptions
from uws_core.sources.base import Source
from uws_core.sources.files.row_slabs import at_once, slabs

_NOT_FINITE = "weights are NaN or infinite here; not used in this layer"
_FLOORS = {torch.float32: 1e-7, torch.float64: 1e-15}


def side_gram(
    collection: Collection,
    layer: LayerKey | str,
    *,
    axis: Axis | str,
    members: Members = None,
    about: str = "mean",
    unit: bool = False,
    **compute: Unpack[ComputeKeywords],
) -> Gram:
    """The Gram of one side: `sum_i (W_i - c)^T (W_i - c)` (p, p) on `in`, `sum_i (W_i - c)(W_i - c)^T` (m, m) on `out`.

    A principal component analysis of the rows (or columns) of all chosen models stacked, about the centre's rows; the
    mode-n Gram of the zero-centred HOSVD. `unit` scales each centred model to norm 1 first. Dense layers about the mean
    on `in` are read once; every other case reads twice, the first time for the centre and the norms. Further keywords:
    `device`, `precision`, `budget`, `report`; see `ComputeOptions`.
    Price: `n d p` (or `n d m`) multiply-adds. Models with non-finite weights are left out and listed.

    Source: De Lathauwer, De Moor, Vandewalle 2000; arXiv 2512.05117, Algorithm 1.
    """
    key, side, options = collection.layer(layer), Axis(axis), ComputeOptions.of(compute)
    if side is Axis.MODELS:
        raise UwsError("side_gram is for the axes 'in' and 'out'; on 'models' use gram")
    picked = chosen(collection, key, members, about)
    refs = [collection.refs[row] for row in picked.rows]
    read = [*refs, *([picked.center] if picked.center else [])]
    with open_models(read, key, report=options.report) as sources, full_single_precision():
        models, center = sources[: len(refs)], sources[len(refs)] if picked.center else None
        kind = product_dtype(options.precision, models, key)
        side_pass = _SidePass(models, center, key, side, about, unit, kind, torch.device("cpu"), options)
        finite, values, norms2 = on_device_or_cpu(
            lambda device: _finite_sum(replace(side_pass, device=device)),
            torch_device(options.device),
            report=options.report,
            what=key.short,
        )
    return Gram(
        layers=(key,),
        labels=tuple(collection.labels[row] for row in picked.rows),
        values=(values + values.T) / 2,
        to_center=np.zeros(0),
        center_norm2=float("nan"),
        d=key.entries,
        floor=_FLOORS[kind] * float(np.abs(values).sum(axis=1).max(initial=0.0)),
        entry_stats=EntryStats.of_norms(norms2, key.entries),
        axis=side,
        usable=finite,
        left_out=tuple(
            LeftOut(f"{collection.labels[row]}, {key.short}", _NOT_FINITE)
            for row, good in zip(picked.rows, finite, strict=True)
            if not good
        ),
    )


@dataclass(frozen=True, slots=True)
class _SidePass:
    """One side pass: the models it reads, the centre, and how it computes."""

    models: Sequence[Source]
    center: Source | None
    key: LayerKey
    axis: Axis
    about: str
    unit: bool
    kind: torch.dtype
    device: torch.device
    options: ComputeOptions


def _finite_sum(side: _SidePass) -> tuple[Bools, Floats, Floats]:
    """Which models (n,) are finite, the sum (width, width) over these, and each squared norm (n,), NaN where not."""
    values, norms2 = _sum(side)
    finite = np.ones(len(side.models), dtype=np.bool_)
    if np.isfinite(values).all():
        return finite, values, norms2
    buffer = torch.empty(side.key.shape, dtype=side.kind)
    finite[:] = [bool(torch.isfinite(dense(source, side.key, into=buffer)).all()) for source in side.models]
    if not finite.any():
        raise NotEnoughModels(f"{side.key.name}: none of {finite.size} models has finite weights here")
    values, kept = _sum(
        replace(side, models=[source for source, good in zip(side.models, finite, strict=True) if good])
    )
    norms2[~finite], norms2[finite] = np.nan, kept
    return finite, values, norms2


def _sum(side: _SidePass) -> tuple[Floats, Floats]:
    one_read = side.axis is Axis.IN and side.about == "mean" and not side.unit
    total, norms2 = _by_slabs(side) if one_read and side.key.name not in side.models[0].low_rank else _by_models(side)
    return total.cpu().numpy(), norms2.cpu().numpy()


def _by_slabs(side: _SidePass) -> tuple[Tensor, Tensor]:
    """On `in` rows of all models are enough: subtract the slab's mean, stack, multiply."""
    m, p = side.key.shape
    total, norms2 = _zeros(side), torch.zeros(len(side.models), dtype=torch.float64, device=side.device)
    read = slabs(side.models, side.key, dtype=side.kind, budget=side.options.budget, pin=side.device.type == "cuda")
    for slab, values in on_device(read, side.device):
        centred = values.sub_(values.mean(dim=0))
        norms2 += torch.linalg.vector_norm(centred, dim=(1, 2), dtype=torch.float64).square()
        # Products of many rows at once, so that the float64 sum of their results is a small part of the work.
        for rows in torch.split(centred.flatten(0, 1), max(8192, 2 * p)):
            _add(total, rows)
        side.options.report(slab.stop / m, f"{side.key.short}: {slab.stop} of {m} rows")
    return total, norms2


def _by_models(side: _SidePass) -> tuple[Tensor, Tensor]:
    """Model by model about a centre that is known."""
    key, n = side.key, len(side.models)
    total, norms2 = _zeros(side), torch.zeros(n, dtype=torch.float64)
    for index, centred in enumerate(_centred(side)):
        norms2[index] = torch.linalg.vector_norm(centred, dtype=torch.float64).square()
        if side.unit and norms2[index] > 0:
            centred /= norms2[index].sqrt().to(centred)
        _add(total, centred if side.axis is Axis.IN else centred.T)
        side.options.report((index + 1) / n, f"{key.short}: {index + 1} of {n} models")
    return total, norms2


def _centred(side: _SidePass) -> Iterator[Tensor]:
    """Each model's matrix minus the centre, on the device: from one read where all fit the budget, else from two."""
    key, kind = side.key, side.kind
    low_rank = key.name in side.models[0].low_rank
    block = None if low_rank else at_once(side.models, key, dtype=kind, budget=side.options.budget)
    block = None if block is None else block.to(side.device)
    if block is not None and side.about == "mean":
        yield from block.sub_(block.mean(dim=0))
        return
    center = center_matrix(side.models, side.center, key, about=side.about, kind=kind, options=side.options)
    center = center.to(side.device)
    if block is not None:
        yield from block.sub_(center)
        return
    buffer = torch.empty(key.shape, dtype=kind)
    for source in side.models:
        yield dense(source, key, into=buffer).to(side.device).sub_(center)


def _zeros(side: _SidePass) -> Tensor:
    width = side.key.shape[1] if side.axis is Axis.IN else side.key.shape[0]
    return torch.zeros(width, width, dtype=torch.float64, device=side.device)


def _add(total: Tensor, rows: Tensor) -> None:
    """Adds `rows^T rows` of (N, width) rows: formed in their type, summed in float64."""
    total += (rows.T @ rows).double()
