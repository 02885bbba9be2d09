"""What a merge would be, from Gram matrices alone: norm, distances and what survives of each member, at any scale.

Every method that combines models has coefficients that depend on the models' inner products only, so that no weight is
read. Methods that look at entries bring the products of their merge with the members from a pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.merge_preview import MergedUpdate, MergeGrams, Standing


def merge_grams(grams: Sequence[Gram], *, members: Members = None) -> MergeGrams:
    """The products of the chosen members' updates in each of these layers, about the base where one is known.

    A model that is not usable in one of the layers is no member.

    Raises:
        NotEnoughModels: fewer than two members are usable in every layer.
        LayerError: no layer, a side axis, or layers with and without a base.
    """
    if not grams:
        raise LayerError("A merge needs at least one layer; none is chosen")
    if any(gram.axis is not Axis.MODELS for gram in grams):
        raise LayerError("A merge combines models; a Gram on the models axis was expected")
    rows = grams[0].chosen(members)
    rows = rows[np.all([gram.usable[rows] for gram in grams], axis=0)]
    if rows.size < 2:
        raise NotEnoughModels(f"A merge needs at least two usable models; found {rows.size}. Choose more models")
    based = [gram.base is not None for gram in grams]
    if len(set(based)) > 1:
        without = [gram.layer.short for gram, there in zip(grams, based, strict=True) if not there]
        raise LayerError(f"The base lacks {', '.join(without[:3])}; leave these layers out, or merge without a base")
    to_base, norm2 = np.zeros((len(grams), rows.size)), np.zeros(len(grams))
    for index, gram in enumerate(grams):
        if gram.base is not None:
            base = gram.base
            to_base[index] = base.to_models[rows] + gram.to_center[rows] - base.norm2 - base.to_center
            norm2[index] = max(base.norm2 + 2 * base.to_center + gram.center_norm2, 0.0)
    center = "base" if based[0] else "zero"
    return MergeGrams(
        layers=tuple(gram.layer for gram in grams),
        labels=tuple(grams[0].labels[row] for row in rows),
        updates=np.stack([gram.about(center, members=rows) for gram in grams]),
        to_base=to_base,
        base_norm2=norm2,
        sharpest=np.array([gram.rounding(center, members=rows) for gram in grams]),
        has_base=based[0],
    )


def of_entries(grams: MergeGrams, method: str, inner: Floats, norm2: Floats, *, note: str = "") -> MergedUpdate:
    """The merge of a method that looks at entries, from its products `inner` (L, s) with the updates and `norm2` (L,).

    Raises:
        LayerError: products of other layers or members.
    """
    if inner.shape != (len(grams.layers), grams.s) or norm2.shape != (len(grams.layers),):
        raise LayerError(f"{method}: products of {grams.s} members in {len(grams.layers)} layers were expected")
    return MergedUpdate(method, inner, norm2, note=note)


def combined(
    grams: MergeGrams, method: str, coefficients: Floats, base_coefficient: Floats | None = None, *, note: str = ""
) -> MergedUpdate:
    """The merge `base + sum_i c_i tau_i + c_b base` from coefficients (L, s) of the updates and (L,) of the base.

    Price: `L s^2` multiply-adds.
    """
    inner = np.matmul(grams.updates, coefficients[:, :, None])[:, :, 0]
    norm2 = np.sum(inner * coefficients, axis=1)
    if base_coefficient is not None:
        toward = np.sum(grams.to_base * coefficients, axis=1)
        norm2 = norm2 + 2 * base_coefficient * toward + base_coefficient**2 * grams.base_norm2
        inner = inner + base_coefficient[:, None] * grams.to_base
    return MergedUpdate(method, inner, np.maximum(norm2, 0.0), coefficients, base_coefficient, note)


def standing(grams: MergeGrams, merged: MergedUpdate, scales: Sequence[float] | Floats = (1.0,)) -> Standing:
    """Where a merge stands at each of `q` scales lambda: `M = base + lambda (merge at 1 - base)`.

    No product is formed again for another scale. Price: `q L s`.
    """
    lam = np.asarray(scales, dtype=np.float64)[:, None]
    norm2, inner = _with_total(merged.norm2), _with_total(merged.inner)
    own2, mean2 = _with_total(grams.norm2), _with_total(grams.mean_norm2)
    own2 = np.where(own2 > _with_total(grams.sharpest)[:, None], own2, np.nan)
    mean2 = np.where(mean2 > _with_total(grams.sharpest) / grams.s, mean2, np.nan)
    toward = inner.mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        typical2 = np.nansum(own2, axis=1) / grams.s
        typical2 = np.where(typical2 > 0, typical2, np.nan)
        apart = np.maximum(lam**2 * norm2 - 2 * lam * toward + mean2, 0.0)
        from_members = lam[:, :, None] ** 2 * norm2[:, None] - 2 * lam[:, :, None] * inner + own2
        along = np.where(norm2 > 0, np.clip(toward**2 / (norm2 * mean2), 0.0, 1.0), np.nan)
        return Standing(
            method=merged.method,
            scales=lam[:, 0],
            norm_to_members=np.abs(lam) * np.sqrt(norm2 / typical2),
            norm_to_mean=np.abs(lam) * np.sqrt(norm2 / mean2),
            distance_to_mean=np.sqrt(apart / mean2),
            mean_scale=lam * toward / mean2,
            distance_to_members=np.sqrt(np.maximum(from_members, 0.0) / own2),
            kept=lam[:, :, None] * inner / own2,
            off_mean=np.sqrt(1 - along),
            note=merged.note,
        )


def _with_total(values: Floats) -> Floats:
    """The sum over layers first, then every layer (L + 1, ...)."""
    return np.concatenate([values.sum(axis=0, keepdims=True), values])
