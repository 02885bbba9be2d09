"""What is left of a model after the leading directions of others, or after its own: squared residuals for all k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uws_core.analysis.accounting import equal_rank
from uws_core.analysis.subspace import leading
from uws_core.errors import LayerError
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis

Indices = NDArray[np.intp]
# The centre of factors that are taken, model by model, about the mean of the models outside its own group.
OTHERS = "the others' mean"


@dataclass(frozen=True)
class Fit:
    """Squared residuals (t, q) at each k, squared distances (t,) at none, and how many directions there were."""

    residual2: Floats
    start2: Floats
    ceiling: int


def rebuilt(inner: Floats, others: Indices, targets: Indices, ks: Indices, *, about: str, floor: float) -> Fit:
    """What the others' leading directions leave of the targets; `inner` (n, n) is about one centre for all."""
    values, vectors, _ = leading(within(inner, others, about), kept=others.size, floor=floor)
    before = start2(inner, others, targets, about)
    captured = (vectors.T @ toward_others(inner, others, targets, about)) ** 2 / values[:, None]
    left = before - np.concatenate([np.zeros((1, targets.size)), np.cumsum(captured, axis=0)])
    return Fit(np.maximum(left[np.minimum(ks, values.size)].T, 0.0), before, values.size)


def within(inner: Floats, others: Indices, about: str) -> Floats:
    """Inner products (s, s) of the others about their centre."""
    part = inner[np.ix_(others, others)]
    if about != "mean":
        return part
    rows = part.mean(axis=0)
    return np.asarray(part - rows[:, None] - rows[None, :] + rows.mean())


def toward_others(inner: Floats, others: Indices, targets: Indices, about: str) -> Floats:
    """Inner products (s, t) of the others with the targets, both about the others' centre."""
    across = inner[np.ix_(others, targets)]
    if about != "mean":
        return across
    rows = inner[np.ix_(others, others)].mean(axis=1)
    return np.asarray(across - across.mean(axis=0) - (rows - rows.mean())[:, None])


def start2(inner: Floats, others: Indices, targets: Indices, about: str) -> Floats:
    """Squared distances (t,) of the targets to the others' centre."""
    own = np.diag(inner)[targets]
    if about != "mean":
        return np.asarray(np.maximum(own, 0.0))
    across = inner[np.ix_(others, targets)].mean(axis=0)
    return np.asarray(np.maximum(own - 2 * across + inner[np.ix_(others, others)].mean(), 0.0))


def own_svd2(own: Factors, model: str, ks: Indices, *, n: int, axis: Axis) -> Floats:
    """What a model's own truncated SVD leaves (q,) at the stored numbers of k shared directions; NaN if unknown."""
    if model not in own.labels:
        return np.full(ks.size, np.nan)
    row = own.labels.index(model)
    return svd_tail2(own, row, [equal_rank(own.layer, n=n, k=int(k), axis=axis) for k in ks])


def check_own(own: Factors | None, layer: str, reference: str) -> None:
    """Refuses factors of another layer, or about something else than the errors are relative to.

    Raises:
        LayerError: they are.
    """
    if own is None:
        return
    if own.layer.name != layer:
        raise LayerError(f"Factors of {own.layer.name} were given for the Gram of {layer}; give that layer's own")
    expected = OTHERS if reference == "mean" else reference
    if own.about != expected:
        raise LayerError(
            f"{layer}: errors relative to the {reference} stand beside factors about {expected}, these are about "
            f"{own.about}; passes.per_model_svd.per_model_svds gives those about the others' mean"
        )


def svd_tail2(own: Factors, row: int, ranks: Sequence[int]) -> Floats:
    """The squared norm (q,) left by a model's own leading singular directions; NaN beyond the singular values known."""
    tails = np.maximum(own.norm2[row] - np.concatenate([[0.0], np.cumsum(own.singular[row] ** 2)]), 0.0)
    if own.complete:
        tails[-1] = 0.0
    known = np.asarray(ranks) < tails.size
    return np.where(known, tails[np.minimum(ranks, tails.size - 1)], np.nan)


def notes_on(ks: Indices, ceiling: int, others: int, *, zero: bool) -> tuple[str, ...]:
    """What a reader must know of one model's errors: that k was clipped, or that there is no relative error."""
    said = []
    if ks.max(initial=0) > ceiling:
        said.append(f"{int(ks.max())} directions were asked for, the {others} other models give {ceiling}")
    if zero:
        where = "the model lies at the reference itself, as far as rounding can tell"
        said.append(f"{where}, so that it has no relative error")
    return tuple(said)
