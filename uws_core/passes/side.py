"""The pass for the side axes: the mode Grams of the HOSVD, over the inputs or the outputs of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import NotEnoughModels, UwsError
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.gram import Axis, EntryStats, Gram, Members
from uws_core.nouns.models import Collection, LayerKey, LeftOut
from uws_core.passes.center import center_matrix, chosen, dense
from uws_core.passes.memory import or_here
from uws_core.passes.open_models import (
    BUDGET,
    Report,
    device_of,
    full_single_precision,
    layer_of,
    number_type,
    opened,
    silent,
)
from uws_core.sources.base import Source
from uws_core.sources.slabs import at_once, slabs

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
    device: str = "auto",
    precision: str = "auto",
    budget: int = BUDGET,
    report: Report | None = None,
) -> Gram:
    """The Gram of one side: `sum_i (W_i - c)^T (W_i - c)` (p, p) on `in`, `sum_i (W_i - c)(W_i - c)^T` (m, m) on `out`.

    A principal component analysis of the rows (or columns) of all chosen models stacked, about the centre's rows; the
    mode-n Gram of the zero-centred HOSVD. `unit` scales each centred model to norm 1 first. Dense layers about the mean
    on `in` are read once; every other case reads twice, the first time for the centre and the norms.
    Price: `n d p` (or `n d m`) multiply-adds. Models with non-finite weights are left out and listed.

    Source: De Lathauwer, De Moor, Vandewalle 2000; arXiv 2512.05117, Algorithm 1.
    """
    key, side = layer_of(collection, layer), Axis(axis)
    if side is Axis.MODELS:
        raise UwsError("side_gram is for the axes 'in' and 'out'; on 'models' use gram")
    picked = chosen(collection, key, members, about)
    refs = [collection.refs[row] for row in picked.rows]
    everything = [*refs, *([picked.center] if picked.center else [])]
    with opened(everything, key, report=report or silent) as sources, full_single_precision():
        models, center = sources[: len(refs)], sources[len(refs)] if picked.center else None
        kind = number_type(precision, models, key)
        work = _Work(models, center, key, side, about, unit, kind, device_of(device), budget, report or silent)
        finite, values, norms2 = _where_it_fits(work)
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
class _Work:
    """What one side pass reads, about which centre, and how."""

    models: Sequence[Source]
    center: Source | None
    key: LayerKey
    side: Axis
    about: str
    unit: bool
    kind: torch.dtype
    device: torch.device
    budget: int
    report: Report


def _where_it_fits(work: _Work) -> tuple[Bools, Floats, Floats]:
    return or_here(
        lambda place: _finite_sum(replace(work, device=place)), work.device, report=work.report, what=work.key.short
    )


def _finite_sum(work: _Work) -> tuple[Bools, Floats, Floats]:
    """Which models (n,) are finite, the sum (side, side) over them, and each one's squared norm (n,), NaN where not."""
    values, norms2 = _sum(work)
    finite = np.ones(len(work.models), dtype=np.bool_)
    if np.isfinite(values).all():
        return finite, values, norms2
    buffer = torch.empty(work.key.shape, dtype=work.kind)
    finite[:] = [bool(torch.isfinite(dense(source, work.key, into=buffer)).all()) for source in work.models]
    if not finite.any():
        raise NotEnoughModels(f"{work.key.name}: none of {finite.size} models has finite weights here")
    values, kept = _sum(
        replace(work, models=[source for source, good in zip(work.models, finite, strict=True) if good])
    )
    norms2[~finite], norms2[finite] = np.nan, kept
    return finite, values, norms2


def _sum(work: _Work) -> tuple[Floats, Floats]:
    one_read = work.side is Axis.IN and work.about == "mean" and not work.unit
    total, norms2 = _by_slabs(work) if one_read and work.key.name not in work.models[0].thin else _by_models(work)
    return total.cpu().numpy(), norms2.numpy()


def _by_slabs(work: _Work) -> tuple[Tensor, Tensor]:
    """On `in` rows of all models are enough: subtract the slab's mean, stack, multiply."""
    m, p = work.key.shape
    total, norms2 = _zeros(work), torch.zeros(len(work.models), dtype=torch.float64)
    for slab in slabs(work.models, work.key, dtype=work.kind, budget=work.budget, pin=work.device.type == "cuda"):
        centred = slab.values.sub_(slab.values.mean(dim=0))
        norms2 += torch.linalg.vector_norm(centred, dim=(1, 2), dtype=torch.float64).square()
        # Products of many rows at once, so that the float64 sum of their results is a small part of the work.
        for rows in torch.split(centred.flatten(0, 1), max(8192, 2 * p)):
            _add(total, rows)
        work.report(slab.stop / m, f"{work.key.short}: {slab.stop} of {m} rows")
    return total, norms2


def _by_models(work: _Work) -> tuple[Tensor, Tensor]:
    """Model by model about a centre that is known."""
    key, n = work.key, len(work.models)
    total, norms2 = _zeros(work), torch.zeros(n, dtype=torch.float64)
    for index, centred in enumerate(_centred(work)):
        norms2[index] = torch.linalg.vector_norm(centred, dtype=torch.float64).square()
        if work.unit and norms2[index] > 0:
            centred /= norms2[index].sqrt().to(centred.dtype)
        _add(total, centred if work.side is Axis.IN else centred.T)
        work.report((index + 1) / n, f"{key.short}: {index + 1} of {n} models")
    return total, norms2


def _centred(work: _Work) -> Iterator[Tensor]:
    """Each model's matrix minus the centre: from one read where all fit the budget, else the centre takes one more."""
    key, kind = work.key, work.kind
    thin = key.name in work.models[0].thin
    block = None if thin else at_once(work.models, key, dtype=kind, budget=work.budget)
    if block is not None and work.about == "mean":
        yield from block.sub_(block.mean(dim=0))
        return
    center = center_matrix(
        work.models, work.center, key, about=work.about, kind=kind, budget=work.budget, report=work.report
    )
    if block is not None:
        yield from block.sub_(center)
        return
    buffer = torch.empty(key.shape, dtype=kind)
    for source in work.models:
        yield dense(source, key, into=buffer).sub_(center)


def _zeros(work: _Work) -> Tensor:
    width = work.key.shape[1] if work.side is Axis.IN else work.key.shape[0]
    return torch.zeros(width, width, dtype=torch.float64, device=work.device)


def _add(total: Tensor, rows: Tensor) -> None:
    """Adds `rows^T rows` of (N, side) rows: formed in their type, summed in float64."""
    moved = rows.to(total.device)
    total += (moved.T @ moved).double()
