"""The pass for the HOSVD's core: from which the exact error of every truncation follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uws_core.analysis.subspace import subspace
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.hosvd import Core, Kept
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.open_models import BUDGET, Report, full_single_precision, layer_of, number_type, opened, silent

# A block of the core, what it is made from, and running sums of it.
ENTRY_BYTES = 4 * 8


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
    reads of the weights (one more for each further `budget` bytes that the core takes) and `n d min(k_out, k_in)`
    multiply-adds. Directions beyond an axis' rank are not in the core.

    Raises:
        LayerError: a Gram of another layer, axis or set of models.
        NotEnoughModels: fewer than two usable models.
    """
    work = _work(collection, layer, kept, models, out, into, members, budget, report or silent)
    blocks = list(_blocks(work))
    return Core(np.concatenate([block.squares for block in blocks], axis=1), blocks[0].total2)


def core_errors(
    collection: Collection,
    layer: LayerKey | str,
    *,
    corners: Sequence[Kept],
    models: Gram,
    out: Gram,
    into: Gram,
    members: Members = None,
    budget: int = BUDGET,
    report: Report | None = None,
) -> tuple[float, ...]:
    """The relative squared error at each of these truncations, from one core of which no more than `budget` is held.

    Price and errors are those of `core` at the most directions of all corners.
    """
    most = Kept(*(max(each) for each in zip(*((one.models, one.out, one.into) for one in corners), strict=True)))
    work = _work(collection, layer, most, models, out, into, members, budget, report or silent)
    inside, total2, start = np.zeros(len(corners)), 0.0, 0
    for block in _blocks(work):
        sums = np.pad(block.squares, ((1, 0), (1, 0), (1, 0)))
        for axis in range(3):
            sums = np.cumsum(sums, axis=axis)
        ends = [size - 1 for size in sums.shape]
        inside += [
            sums[min(one.models, ends[0]), min(max(one.out - start, 0), ends[1]), min(one.into, ends[2])]
            for one in corners
        ]
        start, total2 = start + ends[1], block.total2
    return tuple(max(1 - float(part) / total2, 0.0) if total2 > 0 else float("nan") for part in inside)


@dataclass(frozen=True, slots=True)
class _Work:
    """What to read, and the directions of the modes: `turn` (n, k_models), `left` (m, k_out), `right` (p, k_in)."""

    refs: list[ModelRef]
    key: LayerKey
    turn: Floats
    left: Floats
    right: Floats
    budget: int
    report: Report


def _work(
    collection: Collection,
    layer: LayerKey | str,
    kept: Kept,
    models: Gram,
    out: Gram,
    into: Gram,
    members: Members,
    budget: int,
    report: Report,
) -> _Work:
    key, rows = layer_of(collection, layer), models.chosen(members)
    _check(key, rows.size, models, out, into, tuple(models.labels[row] for row in rows))
    chosen = subspace(models, kept=kept.models, members=rows)
    return _Work(
        refs=[collection.refs[row] for row in rows],
        key=key,
        # Coefficients over the singular value are the orthonormal vectors of the models mode.
        turn=chosen.coefficients[rows] * np.sqrt(chosen.variances),
        left=subspace(out, kept=kept.out).basis,
        right=subspace(into, kept=kept.into).basis,
        budget=budget,
        report=report,
    )


def _blocks(work: _Work) -> Iterator[Core]:
    """The core some output directions at a time, as many as fit the budget."""
    n, key = len(work.refs), work.key
    step = max(work.budget // max(ENTRY_BYTES * n * work.right.shape[1], 1), 1)
    starts = list(range(0, work.left.shape[1], step)) or [0]
    with opened(work.refs, key) as sources, full_single_precision():
        kind = number_type("auto", sources, key)
        mean = center_matrix(sources, None, key, about="mean", kind=kind, budget=work.budget, report=work.report)
        right, turn = torch.tensor(work.right, dtype=kind), torch.from_numpy(work.turn)
        buffer = torch.empty(key.shape, dtype=kind)
        for place, start in enumerate(starts):
            left = torch.tensor(work.left[:, start : start + step], dtype=kind)
            parts, total2 = torch.empty(n, left.shape[1], right.shape[1], dtype=torch.float64), 0.0
            for index, source in enumerate(sources):
                away = dense(source, key, into=buffer).sub_(mean)
                total2 += float(torch.linalg.vector_norm(away, dtype=torch.float64).square())
                parts[index] = (left.T @ away @ right).double()
                done = (place + (index + 1) / n) / len(starts)
                work.report(done, f"{key.short}: core of {index + 1} of {n} models")
            yield Core(torch.einsum("nk,nab->kab", turn, parts).square().numpy(), total2)


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
