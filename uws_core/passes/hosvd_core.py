"""The pass for the core of the HOSVD, from which the exact error of every truncation follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uws_core.analysis.subspace import subspace
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.nouns.spectrum import Core, Kept
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.open_models import full_single_precision, open_models, product_dtype
from uws_core.passes.options import ComputeOptions

# A block of the core, what it is made from, and running sums of it.
ENTRY_BYTES = 4 * 8


@dataclass(frozen=True, slots=True)
class ModeGrams:
    """The Grams of one layer's three modes: over all `models`, and the sides `out` and `into` of exactly the chosen."""

    models: Gram
    out: Gram
    into: Gram


def hosvd_core(
    collection: Collection,
    layer: LayerKey | str,
    *,
    kept: Kept,
    grams: ModeGrams,
    members: Members = None,
    options: ComputeOptions | None = None,
) -> Core:
    """The squared core of the chosen models about their mean, up to `kept` directions an axis.

    Two reads of the weights (one more for each further budget that the core takes) and `n d min(k_out, k_in)`
    multiply-adds. Directions beyond an axis' rank are not in the core.

    Raises:
        LayerError: a Gram of another layer, axis or set of models.
        NotEnoughModels: fewer than two usable models.
    """
    blocks = list(_blocks(_core_pass(collection, layer, kept, grams, members, options)))
    return Core(np.concatenate([block.squares for block in blocks], axis=1), blocks[0].total2)


def hosvd_core_errors(
    collection: Collection,
    layer: LayerKey | str,
    *,
    corners: Sequence[Kept],
    grams: ModeGrams,
    members: Members = None,
    options: ComputeOptions | None = None,
) -> tuple[float, ...]:
    """The relative squared error at each of these truncations, from one core of which at most a budget is held.

    Price and errors are those of `hosvd_core` at the most directions of all corners.
    """
    sizes = zip(*((corner.models, corner.out, corner.into) for corner in corners), strict=True)
    most = Kept(*(max(size) for size in sizes))
    inside, total2, start = np.zeros(len(corners)), 0.0, 0
    for block in _blocks(_core_pass(collection, layer, most, grams, members, options)):
        sums = np.pad(block.squares, ((1, 0), (1, 0), (1, 0)))
        for axis in range(3):
            sums = np.cumsum(sums, axis=axis)
        ends = [size - 1 for size in sums.shape]
        inside += [
            sums[min(corner.models, ends[0]), min(max(corner.out - start, 0), ends[1]), min(corner.into, ends[2])]
            for corner in corners
        ]
        start, total2 = start + ends[1], block.total2
    return tuple(max(1 - float(part) / total2, 0.0) if total2 > 0 else float("nan") for part in inside)


@dataclass(frozen=True, slots=True)
class _CorePass:
    """The models to read, and the modes' directions: `turn` (n, k_models), `left` (m, k_out), `right` (p, k_in)."""

    refs: list[ModelRef]
    key: LayerKey
    turn: Floats
    left: Floats
    right: Floats
    options: ComputeOptions


def _core_pass(
    collection: Collection,
    layer: LayerKey | str,
    kept: Kept,
    grams: ModeGrams,
    members: Members,
    options: ComputeOptions | None,
) -> _CorePass:
    key, rows = collection.layer(layer), grams.models.chosen(members)
    labels = tuple(grams.models.labels[row] for row in rows)
    if rows.size < 2:
        raise NotEnoughModels(f"{key.name}: a core needs at least 2 usable models, {rows.size} are chosen")
    for gram, axis in ((grams.models, Axis.MODELS), (grams.out, Axis.OUT), (grams.into, Axis.IN)):
        if gram.layers != (key,) or gram.axis is not axis:
            raise LayerError(f"A Gram of {key.name} on {axis} was expected, it is of {gram.layer.name} on {gram.axis}")
        usable = tuple(label for label, good in zip(gram.labels, gram.usable, strict=True) if good)
        if axis is not Axis.MODELS and usable != labels:
            raise LayerError(
                f"{key.name}: the Gram on {axis} is of {len(usable)} models, not of the {rows.size} chosen ones"
            )
    chosen = subspace(grams.models, kept=kept.models, members=rows)
    return _CorePass(
        refs=[collection.refs[row] for row in rows],
        key=key,
        # Coefficients over the singular value are the orthonormal vectors of the models mode.
        turn=chosen.coefficients[rows] * np.sqrt(chosen.variances),
        left=subspace(grams.out, kept=kept.out).basis,
        right=subspace(grams.into, kept=kept.into).basis,
        options=options or ComputeOptions(budget=BUDGET),
    )


def _blocks(core: _CorePass) -> Iterator[Core]:
    """The core some output directions at a time, as many as fit the budget."""
    n, key, options = len(core.refs), core.key, core.options
    step = max(options.budget // max(ENTRY_BYTES * n * core.right.shape[1], 1), 1)
    starts = list(range(0, core.left.shape[1], step)) or [0]
    with open_models(core.refs, key) as sources, full_single_precision():
        kind = product_dtype("auto", sources, key)
        mean = center_matrix(sources, None, key, about="mean", kind=kind, options=options)
        right, turn = torch.tensor(core.right, dtype=kind), torch.from_numpy(core.turn)
        buffer = torch.empty(key.shape, dtype=kind)
        for number, start in enumerate(starts):
            left = torch.tensor(core.left[:, start : start + step], dtype=kind)
            parts, total2 = torch.empty(n, left.shape[1], right.shape[1], dtype=torch.float64), 0.0
            for index, source in enumerate(sources):
                away = dense(source, key, into=buffer).sub_(mean)
                total2 += float(torch.linalg.vector_norm(away, dtype=torch.float64).square())
                parts[index] = (left.T @ away @ right).double()
                done = (number + (index + 1) / n) / len(starts)
                options.report(done, f"{key.short}: core of {index + 1} of {n} models")
            yield Core(torch.einsum("nk,nab->kab", turn, parts).square().numpy(), total2)
