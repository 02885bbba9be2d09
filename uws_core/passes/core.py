"""The pass for the HOSVD's core: from which the exact error of every truncation follows."""

from __future__ import annotations

import numpy as np
import torch

from uws_core.analysis.subspace import subspace
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.hosvd import Core, Kept
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.centre import center_matrix, dense
from uws_core.passes.opened import BUDGET, Report, full_single_precision, layer_of, number_type, opened, silent


def core(
    collection: Collection,
    layer: LayerKey | str,
    *,
    kept: Kept,
    models: Gram,
    out: Gram,
    into: Gram,
    members: Members = None,
    budget: int = BUDGET,
    report: Report | None = None,
) -> Core:
    """The squared core of the chosen models about their mean, up to `kept` directions an axis.

    `models` is the layer's Gram over all models, `out` and `into` the side Grams of exactly the chosen ones. Two
    reads of the weights and `n d min(k_out, k_in)` multiply-adds. Directions beyond an axis' rank are not in the
    core.

    Raises:
        LayerError: a Gram of another layer, axis or set of models.
        NotEnoughModels: fewer than two usable models.
    """
    key = layer_of(collection, layer)
    rows = models.chosen(members)
    _check(key, rows.size, models, out, into, tuple(models.labels[row] for row in rows))
    chosen = subspace(models, kept=kept.models, members=rows)
    # Coefficients over the singular value are the orthonormal vectors of the models mode.
    turn = torch.from_numpy(chosen.coefficients[rows] * np.sqrt(chosen.variances))
    with opened([collection.refs[row] for row in rows], key) as sources, full_single_precision():
        kind = number_type("auto", sources, key)
        mean = center_matrix(sources, None, key, about="mean", kind=kind, budget=budget)
        left, right = (
            torch.tensor(subspace(side, kept=k).basis, dtype=kind) for side, k in ((out, kept.out), (into, kept.into))
        )
        parts = torch.empty(rows.size, left.shape[1], right.shape[1], dtype=torch.float64)
        total2, buffer = 0.0, torch.empty(key.shape, dtype=kind)
        for index, source in enumerate(sources):
            away = dense(source, key, into=buffer).sub_(mean)
            total2 += float(torch.linalg.vector_norm(away, dtype=torch.float64).square())
            parts[index] = (left.T @ away @ right).double()
            (report or silent)((index + 1) / rows.size, f"{key.short}: core of {index + 1} of {rows.size} models")
    return Core(torch.einsum("nk,nab->kab", turn, parts).square().numpy(), total2)


def _check(key: LayerKey, n: int, models: Gram, out: Gram, into: Gram, labels: tuple[str, ...]) -> None:
    if n < 2:
        raise NotEnoughModels(f"{key.name}: a core needs at least 2 usable models, {n} are chosen")
    for found, axis in ((models, Axis.MODELS), (out, Axis.OUT), (into, Axis.IN)):
        if found.layers != (key,) or found.axis is not axis:
            raise LayerError(
                f"A Gram of {key.name} on {axis} was expected, it is of {found.layer.name} on {found.axis}"
            )
        usable = tuple(label for label, good in zip(found.labels, found.usable, strict=True) if good)
        if axis is not Axis.MODELS and usable != labels:
            raise LayerError(f"{key.name}: the Gram on {axis} is of {len(usable)} models, not of the {n} chosen ones")
