"""Each model's own singular values about what its error is relative to: what sharing has to beat.

Held out with its group `F`, a model lies at `W_h - M_S` from the mean of the others `S`. With `M` the mean of all that
is `(W_h - M) + sum_F (W - M) / |S|`, so that one group at a time is enough. Leaving out one model alone that is
`n / (n - 1)` of its distance to the mean of all; a whole group is further away, and in another direction.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from uws_core.analysis.residuals import OTHERS
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.factors import EXACT_SIDE, Factors
from uws_core.nouns.gram import Members
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.center import center_matrix, chosen, dense
from uws_core.passes.open_models import BUDGET, Report, layer_of, number_type, opened, silent
from uws_core.passes.projection import check_layer
from uws_core.sources.base import Source

# So many singular values are worked out where the smaller side is too long for all of them.
KEPT = 32


def own_factors(
    collection: Collection,
    layer: LayerKey | str,
    *,
    groups: Sequence[Hashable],
    members: Members = None,
    budget: int = BUDGET,
    report: Report | None = None,
) -> Factors:
    """Each chosen model's singular values about the mean of the models outside its group; no directions are kept.

    `groups` holds one label for each model of the collection. Models with non-finite weights are not usable and in no
    mean. Price: two reads of the weights (a third where a group does not fit `budget` bytes), and for each model the
    eigenvalues of its smaller side, in float64.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups among the usable ones.
    """
    key, picked = layer_of(collection, layer), chosen(collection, layer_of(collection, layer), members, "mean")
    if len(groups) != len(collection):
        raise NotEnoughModels(
            f"One group label for each of {len(collection)} models was expected, {len(groups)} were given"
        )
    with opened([collection.refs[row] for row in picked.rows], key, report=report or silent) as sources:
        usable, mean = _middle(sources, key, budget, report or silent)
        folds = _folds([groups[row] for row in picked.rows], usable, key)
        found: dict[int, tuple[Floats, float]] = {}
        for fold in folds:
            apart = _apart([sources[place] for place in fold], key, mean, sum(usable) - len(fold), budget)
            for place, matrix in zip(fold, apart, strict=True):
                found[place] = _singular(matrix)
                (report or silent)(len(found) / sum(usable), f"{key.short}: own SVD of {len(found)} models")
    return _noun(key, [collection.labels[row] for row in picked.rows], OTHERS, found)


def own_newcomer(
    collection: Collection,
    layer: LayerKey | str,
    model: ModelRef,
    *,
    label: str,
    reference: str = "mean",
    members: Members = None,
    budget: int = BUDGET,
) -> Factors:
    """The same of one model outside the collection, about the chosen models' `mean`, `zero` or the `base`.

    Price: one read of the chosen models about their mean, and one decomposition.

    Raises:
        LayerError: the model lacks the layer or has NaN in it, or there is no such reference.
    """
    key = layer_of(collection, layer)
    picked = chosen(collection, key, members, reference)
    refs = [collection.refs[row] for row in picked.rows] if reference == "mean" else []
    with opened([model, *refs, *([picked.center] if picked.center else [])], key) as sources:
        check_layer(sources[0], key)
        if reference == "mean":
            _, middle = _middle(sources[1:], key, budget)
        else:
            kind = number_type("auto", sources, key)
            center = sources[1] if picked.center else None
            middle = center_matrix(sources[:1], center, key, about=reference, kind=kind, budget=budget)
        away = dense(sources[0], key, into=torch.empty_like(middle)).sub_(middle)
    if not torch.isfinite(away).all():
        raise LayerError(f"{model}: weights are NaN or infinite in {key.name}; it cannot be compared there")
    return _noun(key, [label], OTHERS if reference == "mean" else reference, {0: _singular(away)})


def _middle(
    sources: Sequence[Source], key: LayerKey, budget: int, report: Report = silent
) -> tuple[list[bool], Tensor]:
    """Which models are finite, and the mean (m, p) of those."""
    kind = number_type("auto", sources, key)
    mean = center_matrix(sources, None, key, about="mean", kind=kind, budget=budget, report=report)
    if torch.isfinite(mean).all():
        return [True] * len(sources), mean
    buffer = torch.empty_like(mean)
    usable = [bool(torch.isfinite(dense(source, key, into=buffer)).all()) for source in sources]
    finite = [source for source, good in zip(sources, usable, strict=True) if good]
    if not finite:
        raise NotEnoughModels(f"{key.name}: none of {len(sources)} models has finite weights here")
    return usable, center_matrix(finite, None, key, about="mean", kind=kind, budget=budget)


def _folds(labels: Sequence[Hashable], usable: Sequence[bool], key: LayerKey) -> list[list[int]]:
    """The usable models that are held out together."""
    folds: dict[Hashable, list[int]] = {}
    for place, label in enumerate(labels):
        if usable[place]:
            folds.setdefault(label, []).append(place)
    if len(folds) < 2:
        raise NotEnoughModels(f"{key.name}: At least two groups are needed to hold one out; found {len(folds)}")
    return list(folds.values())


def _apart(fold: Sequence[Source], key: LayerKey, mean: Tensor, others: int, budget: int) -> Iterator[Tensor]:
    """The models of one group (m, p), each about the mean of the others."""

    def away() -> Iterator[Tensor]:
        return (dense(source, key, into=torch.empty_like(mean)).sub_(mean) for source in fold)

    kept = list(away()) if len(fold) * mean.nbytes <= budget else None
    drift = torch.zeros_like(mean)
    for matrix in kept or away():
        drift += matrix
    for matrix in kept or away():
        yield matrix + drift / others


def _singular(matrix: Tensor) -> tuple[Floats, float]:
    """Singular values, descending, all or the leading ones, and the squared norm."""
    norm2 = float(torch.linalg.vector_norm(matrix, dtype=torch.float64).square())
    if min(matrix.shape) > EXACT_SIDE:
        start = np.ones(min(matrix.shape), dtype=np.float32)
        found = svds(matrix.float().numpy(), k=KEPT, v0=start, tol=1e-5, return_singular_vectors=False)
        return np.sort(np.asarray(found, dtype=np.float64))[::-1], norm2
    wide = matrix.double() if matrix.shape[0] >= matrix.shape[1] else matrix.double().T
    return torch.linalg.eigvalsh(wide.T @ wide).flip(0).clamp_min(0).sqrt().numpy(), norm2


def _noun(key: LayerKey, labels: Sequence[str], about: str, found: dict[int, tuple[Floats, float]]) -> Factors:
    n, (m, p), size = len(labels), key.shape, next(iter(found.values()))[0].size
    nothing = (np.zeros(size), 0.0)
    return Factors(
        layer=key,
        labels=tuple(labels),
        about=about,
        left=np.empty((n, m, 0), dtype=np.float32),
        right=np.empty((n, p, 0), dtype=np.float32),
        singular=np.stack([found.get(place, nothing)[0] for place in range(n)]),
        norm2=np.array([found.get(place, nothing)[1] for place in range(n)]),
        residual=np.zeros(n),
        complete=size == min(m, p),
        usable=np.array([place in found for place in range(n)]),
    )
