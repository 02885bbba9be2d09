"""The shared subspace of any subset of models, from the stored Gram alone."""

from __future__ import annotations

import numpy as np

from uws_core.errors import NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.spectrum import Subspace

EPS = float(np.finfo(np.float64).eps)


def subspace(gram: Gram, *, kept: int, members: Members = None, about: str = "mean") -> Subspace:
    """The `kept` leading directions of the chosen models about their mean (or `zero`, `base`, a model's label).

    With `K = V diag(lambda) V^T` the Gram of the `s` chosen about the centre, direction `j` is `V_j /
    sqrt(lambda_j)` in terms of the models: `s^3` multiply-adds, no weight is read. `kept` above the number of
    directions is clipped, and the noun says so. A side Gram is of its models and its centre already.

    Raises:
        NotEnoughModels: nothing usable is chosen, or members are chosen from a side Gram.
    """
    if gram.axis is not Axis.MODELS:
        return _of_side(gram, kept, members)
    rows = gram.chosen(members)
    if not rows.size:
        raise NotEnoughModels(f"{gram.layer.name}: a subspace needs at least one usable model, none is chosen")
    inner, floor = gram.about(about, members=rows), gram.rounding(about, members=rows)
    variances, vectors, gap = leading(inner, kept=kept, floor=floor)
    coefficients = np.zeros((gram.n, variances.size))
    coefficients[rows] = vectors / np.sqrt(variances)
    if about == "mean":
        coefficients[rows] -= coefficients[rows].mean(axis=0)
    return Subspace(
        axis=gram.axis,
        about=about,
        members=tuple(int(row) for row in rows),
        coefficients=coefficients,
        basis=np.empty((0, 0)),
        variances=variances,
        asked=kept,
        ceiling=min(rows.size - (about == "mean"), gram.d),
        dimension=max(round(gram.effective_d), 1),
        floor=floor,
        gap=gap,
    )


def leading(inner: Floats, *, kept: int, floor: float) -> tuple[Floats, Floats, float]:
    """The at most `kept` leading eigenvalues above `floor` (k,), their vectors (s, k), and the gap after the last.

    The gap is relative to the last one kept. Descending; the largest-magnitude entry of each vector is positive.
    """
    values, vectors = np.linalg.eigh(inner)
    values, vectors = values[::-1], vectors[:, ::-1]
    rounding = max(floor, len(values) * EPS * max(float(values[0]), 0.0)) if len(values) else floor
    k = min(max(kept, 0), int(np.count_nonzero(values > rounding)))
    gap = float(1 - max(values[k], 0.0) / values[k - 1]) if 0 < k < len(values) else 1.0
    return values[:k], _signed(vectors[:, :k]), gap


def inner_products(gram: Gram, about: str = "mean") -> Floats:
    """Inner products (n, n) of all models about one centre for all; rows of models that are not usable are zero.

    `mean` is the mean of all usable models: differences of models are the same about any centre.
    """
    if about == "mean":
        return gram.values
    inner = np.zeros((gram.n, gram.n))
    rows = gram.chosen()
    inner[np.ix_(rows, rows)] = gram.about(about)
    return inner


def _of_side(gram: Gram, kept: int, members: Members) -> Subspace:
    if members is not None:
        raise NotEnoughModels(
            f"{gram.layer.name}: a Gram on the {gram.axis} axis is already summed over its {gram.n} models, so no "
            "members can be chosen from it; compute it again for the models you want"
        )
    variances, vectors, gap = leading(gram.values, kept=kept, floor=gram.floor)
    m, p = gram.layer.shape
    points = (int(gram.usable.sum()) - 1) * (m if gram.axis is Axis.IN else p)
    return Subspace(
        axis=gram.axis,
        about="mean",
        members=tuple(int(row) for row in gram.chosen()),
        coefficients=np.empty((0, 0)),
        basis=vectors,
        variances=variances,
        asked=kept,
        ceiling=min(points, len(gram.values)),
        dimension=len(gram.values),
        floor=gram.floor,
        gap=gap,
    )


def _signed(vectors: Floats) -> Floats:
    """Each column with its largest-magnitude entry positive."""
    if not vectors.size:
        return vectors
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return np.asarray(vectors * np.where(largest < 0, -1.0, 1.0))
