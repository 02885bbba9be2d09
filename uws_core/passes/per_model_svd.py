"""Per-model truncated SVD: the baseline that a shared subspace must beat.

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
from uws_core.nouns.angles import EXACT_SIDE, Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.gram import Members
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.center import center_matrix, chosen, dense
from uws_core.passes.open_models import open_models, product_dtype
from uws_core.passes.options import ComputeOptions
from uws_core.passes.projection import check_layer
from uws_core.sources.base import Source

# So many singular values are worked out where the smaller side is too long for all of them.
KEPT = 32


def per_model_svds(
    collection: Collection,
    layer: LayerKey | str,
    *,
    groups: Sequence[Hashable],
    members: Members = None,
    options: ComputeOptions | None = None,
) -> Factors:
    """Each chosen model's singular values about the mean of the models outside its group; no directions are kept.

    `groups` holds one label for each model of the collection. Models with non-finite weights are not usable and in no
    mean. Price: two reads of the weights (a third where a group does not fit the budget), and for each model the
    eigenvalues of its smaller side, in float64.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups among the usable ones.
    """
    key, options = collection.layer(layer), options or ComputeOptions(budget=BUDGET)
    picked = chosen(collection, key, members, "mean")
    if len(groups) != len(collection):
        raise NotEnoughModels(
            f"One group label for each of {len(collection)} models was expected, {len(groups)} were given"
        )
    with open_models([collection.refs[row] for row in picked.rows], key, report=options.report) as sources:
        usable, mean = _mean(sources, key, options)
        folds: dict[Hashable, list[int]] = {}
        for index, row in enumerate(picked.rows):
            if usable[index]:
                folds.setdefault(groups[row], []).append(index)
        if len(folds) < 2:
            raise NotEnoughModels(f"{key.name}: At least two groups are needed to hold one out; found {len(folds)}")
        svds: dict[int, tuple[Floats, float]] = {}
        for fold in folds.values():
            others = sum(usable) - len(fold)
            matrices = _about_others([sources[row] for row in fold], key, mean, others, options.budget)
            for row, matrix in zip(fold, matrices, strict=True):
                svds[row] = _singular(matrix)
                options.report(len(svds) / sum(usable), f"{key.short}: own SVD of {len(svds)} models")
    return _noun(key, [collection.labels[row] for row in picked.rows], OTHERS, svds)


def unseen_model_svd(
    collection: Collection,
    layer: LayerKey | str,
    model: ModelRef,
    *,
    label: str,
    reference: str = "mean",
    members: Members = None,
    options: ComputeOptions | None = None,
) -> Factors:
    """The singular values of one model outside the collection, about the chosen models' `mean`, `zero` or the `base`.

    Price: one read of the chosen models about their mean, and one decomposition.

    Raises:
        LayerError: the model lacks the layer or has NaN in it, or there is no such reference.
    """
    key, options = collection.layer(layer), options or ComputeOptions(budget=BUDGET)
    picked = chosen(collection, key, members, reference)
    refs = [collection.refs[row] for row in picked.rows] if reference == "mean" else []
    with open_models([model, *refs, *([picked.center] if picked.center else [])], key) as sources:
        check_layer(sources[0], key)
        if reference == "mean":
            _, middle = _mean(sources[1:], key, options)
        else:
            kind = product_dtype("auto", sources, key)
            center = sources[1] if picked.center else None
            middle = center_matrix(sources[:1], center, key, about=reference, kind=kind, options=options)
        away = dense(sources[0], key, into=torch.empty_like(middle)).sub_(middle)
    if not torch.isfinite(away).all():
        raise LayerError(f"{model}: weights are NaN or infinite in {key.name}; it cannot be compared there")
    return _noun(key, [label], OTHERS if reference == "mean" else reference, {0: _singular(away)})


def _mean(sources: Sequence[Source], key: LayerKey, options: ComputeOptions) -> tuple[list[bool], Tensor]:
    """Which models are finite, and the mean (m, p) of those."""
    kind = product_dtype("auto", sources, key)
    mean = center_matrix(sources, None, key, about="mean", kind=kind, options=options)
    if torch.isfinite(mean).all():
        return [True] * len(sources), mean
    buffer = torch.empty_like(mean)
    usable = [bool(torch.isfinite(dense(source, key, into=buffer)).all()) for source in sources]
    finite = [source for source, good in zip(sources, usable, strict=True) if good]
    if not finite:
        raise NotEnoughModels(f"{key.name}: none of {len(sources)} models has finite weights here")
    return usable, center_matrix(finite, None, key, about="mean", kind=kind, options=options)


def _about_others(fold: Sequence[Source], key: LayerKey, mean: Tensor, others: int, budget: int) -> Iterator[Tensor]:
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
        values = svds(matrix.float().numpy(), k=KEPT, v0=start, tol=1e-5, return_singular_vectors=False)
        return np.sort(np.asarray(values, dtype=np.float64))[::-1], norm2
    wide = matrix.double() if matrix.shape[0] >= matrix.shape[1] else matrix.double().T
    return torch.linalg.eigvalsh(wide.T @ wide).flip(0).clamp_min(0).sqrt().numpy(), norm2


def _noun(key: LayerKey, labels: Sequence[str], about: str, svds_by_index: dict[int, tuple[Floats, float]]) -> Factors:
    n, (m, p), size = len(labels), key.shape, next(iter(svds_by_index.values()))[0].size
    nothing = (np.zeros(size), 0.0)
    return Factors(
        layer=key,
        labels=tuple(labels),
        about=about,
        left=np.empty((n, m, 0), dtype=np.float32),
        right=np.empty((n, p, 0), dtype=np.float32),
        singular=np.stack([svds_by_index.get(index, nothing)[0] for index in range(n)]),
        norm2=np.array([svds_by_index.get(index, nothing)[1] for index in range(n)]),
        residual=np.zeros(n),
        complete=size == min(m, p),
        usable=np.array([index in svds_by_index for index in range(n)]),
    )
