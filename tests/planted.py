"""Collections whose truth is known, and their Grams computed the plain way: the answer first, then the question.

Everything is float64 numpy without slabs or streaming, so that it can serve as a second opinion on the real pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, BaseRow, EntryStats, Gram
from uws_core.nouns.models import LayerKey


def gram_of(
    array: Floats,
    *,
    shape: tuple[int, int] | None = None,
    base: Floats | None = None,
    labels: Sequence[str] | None = None,
    name: str = "blocks.0.attn.q.weight",
) -> Gram:
    """The models-axis Gram of `array` (n, d), one flattened model a row; non-finite models are not usable."""
    rows = np.asarray(array, dtype=np.float64).reshape(len(array), -1)
    usable = np.asarray(np.isfinite(rows).all(axis=1))
    center = rows[usable].mean(axis=0)
    away = np.where(usable[:, None], rows - center, 0.0)
    values = away @ away.T
    return Gram(
        layers=(LayerKey(name, shape or (1, rows.shape[1])),),
        labels=tuple(labels) if labels is not None else tuple(f"model-{i}" for i in range(len(rows))),
        values=values,
        to_center=away @ center,
        center_norm2=float(center @ center),
        d=rows.shape[1],
        floor=len(rows) * float(np.finfo(np.float64).eps) * float(np.trace(values)),
        entry_stats=entry_stats_of(rows),
        base=None if base is None else _base_row(np.asarray(base, dtype=np.float64).reshape(-1), away, center),
        usable=usable,
    )


def side_gram_of(array: Floats, *, axis: Axis, name: str = "blocks.0.attn.q.weight") -> Gram:
    """The side Gram of `array` (n, m, p) about the mean model: (p, p) on `IN`, (m, m) on `OUT`."""
    away = np.asarray(array, dtype=np.float64) - np.mean(array, axis=0)
    values = np.einsum("nmp,nmq->pq" if axis is Axis.IN else "nmp,nqp->mq", away, away)
    n, m, p = away.shape
    return Gram(
        layers=(LayerKey(name, (m, p)),),
        labels=tuple(f"model-{i}" for i in range(n)),
        values=values,
        to_center=np.empty(0),
        center_norm2=float(np.sum(np.mean(array, axis=0) ** 2)),
        d=m * p,
        floor=len(values) * float(np.finfo(np.float64).eps) * float(np.trace(values)),
        entry_stats=entry_stats_of(np.reshape(array, (n, -1))),
        axis=axis,
    )


def entry_stats_of(rows: Floats) -> EntryStats:
    """The moments of each row's entries."""
    with np.errstate(invalid="ignore"):
        powers = {f"power{i}": np.sum(rows**i, axis=1) for i in (1, 2, 3, 4)}
        largest = np.abs(rows).max(axis=1)
    return EntryStats(count=rows.shape[1], largest=largest, non_finite=(~np.isfinite(rows)).sum(axis=1), **powers)


def toy() -> Floats:
    """Four 2 x 2 matrices with the value 2 in one distinct entry each: (4, 2, 2).

    Variances about zero: 4, 4, 4, 4; about the mean: 4, 4, 4, 0; on the side axes: 8, 4.
    """
    return np.asarray(2.0 * np.eye(4).reshape(4, 2, 2))


def noise(n: int, d: int, *, seed: int, norms: Floats | None = None) -> Floats:
    """Independent standard normal models (n, d), or ones of exactly these `norms` in random directions."""
    rows = np.random.default_rng(seed).standard_normal((n, d))
    if norms is None:
        return rows
    return rows * (np.asarray(norms) / np.linalg.norm(rows, axis=1))[:, None]


def spiked(n: int, d: int, *, strengths: Sequence[float], seed: int) -> Floats:
    """Noise (n, d) plus one random shared direction a strength, of variance `1 + strength` where noise has 1."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((d, len(strengths))))[0].T
    weights = rng.standard_normal((n, len(strengths))) * np.sqrt(np.asarray(strengths))
    return rng.standard_normal((n, d)) + weights @ directions


def families(sizes: Sequence[int], d: int, *, likeness: float, seed: int) -> Floats:
    """Groups of models of these `sizes` (n, d): raw cosines are about `likeness` within, about 0 between groups."""
    rng = np.random.default_rng(seed)
    parents = np.repeat(rng.standard_normal((len(sizes), d)), sizes, axis=0)
    return np.sqrt(likeness) * parents + np.sqrt(1 - likeness) * rng.standard_normal((sum(sizes), d))


def _base_row(base: Floats, away: Floats, center: Floats) -> BaseRow:
    shift = base - center
    return BaseRow(to_models=away @ shift, to_center=float(shift @ center), norm2=float(shift @ shift))
