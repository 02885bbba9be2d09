"""The pass that keeps each model's own leading singular vectors of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import UwsError
from uws_core.nouns.angles import BASE, EXACT_SIDE, Factors
from uws_core.nouns.gram import Members
from uws_core.nouns.models import Collection, LayerKey, LeftOut, LowRank
from uws_core.passes.center import base_of, center_matrix, chosen, dense
from uws_core.passes.memory import on_device_or_cpu
from uws_core.passes.open_models import open_models, product_dtype, torch_device
from uws_core.passes.options import ComputeOptions, DeviceKeywords
from uws_core.sources.base import Source

# The iteration carries this many directions more than it keeps and stops at this residual, relative to the largest.
_SPARE = 16
_RESIDUAL = 1e-5
_MOST_STEPS = 60


@dataclass(frozen=True, slots=True)
class _Svd:
    """One model's truncated decomposition: `left` (m, k), `right` (p, k), `singular` values, the worst residual."""

    left: Tensor
    right: Tensor
    singular: Tensor
    norm2: float
    residual: float


def factors(
    collection: Collection,
    layer: LayerKey | str,
    *,
    kept: int = 32,
    about: str = "mean",
    members: Members = None,
    with_base: bool = False,
    **compute: Unpack[DeviceKeywords],
) -> Factors:
    """Each chosen model's `kept` leading singular vectors on both sides, about `about`, in float32.

    `with_base` adds the base's own weights, about zero, as a last row called `nouns.factors.BASE`. Further keywords:
    `device`, `budget`, `report`; see `ComputeOptions`.

    Exact where the smaller side has at most 2048 entries (an eigen-decomposition of the smaller Gram in float64, so a
    singular value below 1e-8 of the largest reads as rounding, and a direction of relative strength `s` is known to
    about `1e-15 / s^2` radians, never better than the 1e-7 of float32) and for adapters about zero (QR of the factors);
    block power iteration with a reported residual beyond. The centre is subtracted in float64.
    Price: `n (d side + side^3)` multiply-adds.

    Raises:
        UwsError: `kept` is not positive.
        LayerError: a base was asked for, and none is known for this layer.
    """
    if kept < 1:
        raise UwsError(f"factors keeps at least one direction; found kept={kept}")
    key, options = collection.layer(layer), ComputeOptions.of(compute)
    members_read = chosen(collection, key, members, about)
    refs = [collection.refs[row] for row in members_read.rows]
    center = members_read.center
    others = [*([center] if center else []), *([base_of(collection, key)] if with_base else [])]
    with open_models([*refs, *others], key, report=options.report) as sources:
        models, center_source = sources[: len(refs)], sources[len(refs)] if center else None
        rank = min(kept, *key.shape)

        def decompose(device: torch.device) -> list[_Svd | None]:
            parts = _decomposed(models, center_source, key, rank, about, device, options)
            if with_base:
                own = dense(sources[-1], key, into=torch.empty(key.shape, dtype=torch.float64))
                parts.append(_of_matrix(own.to(device), rank) if torch.isfinite(own).all() else None)
            return parts

        parts = on_device_or_cpu(decompose, torch_device(options.device), report=options.report, what=key.short)
    labels = tuple(collection.labels[row] for row in members_read.rows)
    return _noun(key, (*labels, *([BASE] if with_base else [])), about, parts)


def _decomposed(
    models: Sequence[Source],
    center: Source | None,
    key: LayerKey,
    rank: int,
    about: str,
    device: torch.device,
    options: ComputeOptions,
) -> list[_Svd | None]:
    """One decomposition a model, None where its weights are not finite."""
    factored = key.name in models[0].low_rank and about in ("zero", "base")
    kind = torch.float32 if factored else product_dtype("auto", models, key)
    middle = None if factored else _finite_center(models, center, key, about, kind, options)
    middle = None if middle is None else middle.to(device)
    buffer = torch.empty((0,) if factored else key.shape, dtype=kind)
    away = torch.empty(buffer.shape, dtype=torch.float64, device=device)
    parts: list[_Svd | None] = []
    for index, source in enumerate(models):
        if middle is None:
            parts.append(_of_factors(source, key, rank))
        else:
            torch.sub(dense(source, key, into=buffer).to(device), middle, out=away)
            parts.append(_of_matrix(away, rank) if torch.isfinite(away).all() else None)
        options.report((index + 1) / len(models), f"{key.short}: directions of {index + 1} of {len(models)} models")
    return parts


def _finite_center(
    models: Sequence[Source],
    center: Source | None,
    key: LayerKey,
    about: str,
    kind: torch.dtype,
    options: ComputeOptions,
) -> Tensor:
    """The centre (m, p) in float64; where a model's NaN spoils the mean, the mean of the finite ones."""

    def of(sources: Sequence[Source]) -> Tensor:
        return center_matrix(sources, center, key, about=about, kind=torch.float64, options=options)

    middle = of(models)
    if about != "mean" or torch.isfinite(middle).all():
        return middle
    buffer = torch.empty(key.shape, dtype=kind)
    finite = [source for source in models if torch.isfinite(dense(source, key, into=buffer)).all()]
    # About a mean that is not finite no model has a decomposition, which the caller says.
    return of(finite) if finite else middle


def _of_matrix(matrix: Tensor, rank: int) -> _Svd:
    """The decomposition of a dense (m, p) float64 matrix through the Gram of its smaller side."""
    if matrix.shape[0] < matrix.shape[1]:
        flipped = _of_matrix(matrix.T, rank)
        return _Svd(flipped.right, flipped.left, flipped.singular, flipped.norm2, flipped.residual)
    norm2 = float(torch.linalg.vector_norm(matrix).square())
    if matrix.shape[1] > EXACT_SIDE:
        right, singular, residual = _iterated(matrix.float(), rank)
    else:
        values, vectors = torch.linalg.eigh(matrix.T @ matrix)
        singular, right, residual = values.flip(0).clamp_min(0).sqrt(), vectors.flip(1)[:, :rank], 0.0
    # Divided by a small singular value the images would keep what rounding mixed into them of the strong ones: at
    # s / s_1 = 1e-5 that is 1e-3 in float32. From the strongest on, QR takes it out.
    left, inner = torch.linalg.qr(matrix @ right.double())
    turned = torch.where(inner.diagonal() < 0, -1.0, 1.0)
    return _Svd((left * turned).float(), right.float(), singular, norm2, residual)


def _iterated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Block power iteration with Rayleigh-Ritz: right directions (p, rank), singular values, worst relative residual.

    Source: Halko, Martinsson, Tropp 2011, algorithm 4.4.
    """
    start = torch.Generator(device="cpu").manual_seed(0)
    width = min(rank + _SPARE, matrix.shape[1])
    block = torch.linalg.qr(torch.randn(matrix.shape[1], width, generator=start).to(matrix)).Q
    singular, residual = torch.zeros(rank, dtype=torch.float64), float("inf")
    for _ in range(_MOST_STEPS):
        image = matrix @ block
        turn, values, vectors = torch.linalg.svd(image, full_matrices=False)
        block = block @ vectors.T
        back = matrix.T @ turn
        singular = values[:rank].double()
        largest = float(values[0]) or 1.0
        residual = (
            float(torch.linalg.vector_norm(back[:, :rank] - block[:, :rank] * values[:rank], dim=0).max()) / largest
        )
        if residual < _RESIDUAL:
            break
        block = torch.linalg.qr(back).Q
    return block[:, :rank], singular, residual


def _of_factors(source: Source, key: LayerKey, rank: int) -> _Svd | None:
    """The exact decomposition of `scale * up @ down` from the QR of both factors, zeros beyond its rank."""
    part = source.read(key.name)
    if not isinstance(part, LowRank):
        raise UwsError(f"{source.ref}: {key.name} is dense here and low-rank in other models")
    if not (torch.isfinite(part.up).all() and torch.isfinite(part.down).all()):
        return None
    out_basis, out_part = torch.linalg.qr(part.up.double())
    in_basis, in_part = torch.linalg.qr(part.down.double().T)
    left, values, right = torch.linalg.svd(out_part @ in_part.T * part.scale, full_matrices=False)
    some = min(rank, values.numel())
    singular = torch.zeros(min(key.shape), dtype=torch.float64)
    singular[: values.numel()] = values
    return _Svd(
        torch.nn.functional.pad((out_basis @ left)[:, :some], (0, rank - some)),
        torch.nn.functional.pad((in_basis @ right.T)[:, :some], (0, rank - some)),
        singular,
        float(values.square().sum()),
        0.0,
    )


def _noun(key: LayerKey, labels: tuple[str, ...], about: str, svds: Sequence[_Svd | None]) -> Factors:
    first = next((part for part in svds if part is not None), None)
    if first is None:
        raise UwsError(f"{key.name}: none of {len(svds)} models has finite weights here")
    empty = _Svd(first.left * 0, first.right * 0, first.singular * 0, 0.0, 0.0)
    parts = [part or empty for part in svds]
    # An iterated base knows fewer values than adapters about it, whose zeros are known: all are cut to what all have.
    values = min(part.singular.numel() for part in parts)
    return Factors(
        layer=key,
        labels=labels,
        about=about,
        left=torch.stack([part.left.float().cpu() for part in parts]).numpy(),
        right=torch.stack([part.right.float().cpu() for part in parts]).numpy(),
        singular=torch.stack([part.singular[:values].cpu() for part in parts]).numpy(),
        norm2=np.array([part.norm2 for part in parts]),
        residual=np.array([part.residual for part in parts]),
        complete=values == min(key.shape),
        usable=np.array([part is not None for part in svds]),
        left_out=tuple(
            LeftOut(f"{label}, {key.short}", "weights are NaN or infinite here; not used in this layer")
            for label, part in zip(labels, svds, strict=True)
            if part is None
        ),
    )
