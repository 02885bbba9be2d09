"""Held-out errors on the side axes: how much of a model the others' input or output directions leave.

With `U` the leading directions of the others' stacked rows about their mean `M_S`, direction `j` captures
`|(W_h - M_S) u_j|^2` on `in` and `|u_j^T (W_h - M_S)|^2` on `out`; a running sum gives all k from one product.
The others' Gram is the whole one less the held-out part, so nothing is summed twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from uws_core.analysis.accounting import ceiling
from uws_core.analysis.group_angles import grouped
from uws_core.analysis.residuals import check_own, notes_on, own_svd2
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.heldout import UNSEEN_MODEL, HeldOut
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.open_models import full_single_precision, open_models, product_dtype
from uws_core.passes.options import ComputeOptions, Report, no_report
from uws_core.passes.projection import check_layer
from uws_core.passes.side import side_gram
from uws_core.sources.base import Source

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class SideQuestion:
    """A question to a side axis: at which `kept` directions, relative to which `reference`, beside whose own SVDs.

    `reference` is `mean` (of the others), `zero` or `base`, and `own` is about it (see `held_out`). `total` is the side
    Gram of exactly the chosen models about their mean where it is known; without it one more read makes it.
    """

    axis: Axis
    kept: tuple[int, ...]
    reference: str = "mean"
    own: Factors | None = None
    total: Gram | None = None
    budget: int = BUDGET


def side_held_out(
    collection: Collection,
    layer: LayerKey | str,
    question: SideQuestion,
    *,
    groups: Sequence[Hashable],
    members: Members = None,
    report: Report = no_report,
) -> tuple[HeldOut, ...]:
    """The error of each chosen model on a side axis when its whole group is held out; see `held_out` for the words.

    `groups` holds one label for each model of the collection. Price: three reads of the weights, `n d side`
    multiply-adds, and for each group one eigen-decomposition of the side.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups among the usable ones.
        LayerError: the models axis, an unknown layer or reference, or a `total` of something else.
    """
    if len(groups) != len(collection):
        raise NotEnoughModels(
            f"One group label for each of {len(collection)} models was expected, {len(groups)} were given"
        )
    with _opened_bench(collection, layer, question, members, ()) as bench:
        label_of = dict(zip(collection.labels, groups, strict=True))
        folds = grouped(bench.total, [label_of[label] for label in bench.total.labels], bench.total.chosen())
        everyone = bench.basis(bench.total.values)
        errors: dict[int, HeldOut] = {}
        for label, fold in folds.items():
            errors.update(_fold(bench, str(label), fold, everyone))
            report(len(errors) / bench.n, f"{bench.key.short}: {len(errors)} of {bench.n} models held out")
        return tuple(errors[row] for row in sorted(errors))


def side_project(
    collection: Collection,
    layer: LayerKey | str,
    question: SideQuestion,
    model: ModelRef,
    *,
    label: str = "",
    members: Members = None,
) -> HeldOut:
    """The error of a model that is not in the collection, from the chosen models' directions on a side axis.

    Raises:
        LayerError: the models axis, a layer or reference that is not there, or NaN in the model.
    """
    with _opened_bench(collection, layer, question, members, (model,)) as bench:
        away = bench.away(-1)
        if not torch.isfinite(away).all():
            raise LayerError(f"{model}: weights are NaN or infinite in {bench.key.name}; it cannot be compared there")
        # Joining moves the mean by 1 / (n + 1) of the way.
        nearer = bench.n / (bench.n + 1)
        together = bench.total.values + nearer * bench.square(away)
        in_sample2 = bench.left2(away * nearer, bench.basis(together))
        basis = bench.basis(bench.total.values)
        return bench.noun((label or str(model), UNSEEN_MODEL), away, away, basis, in_sample2, others=bench.n)


def _fold(bench: _Bench, label: str, fold: Indices, everyone: Tensor) -> Iterator[tuple[int, HeldOut]]:
    """The errors of one held-out group, by row."""
    others = bench.n - fold.size
    values, drift = bench.total.values, torch.zeros_like(bench.mean)
    for row in fold:
        away = bench.away(int(row))
        values, drift = values - bench.square(away), drift + away
    # All models about their mean sum to zero: the others' mean lies opposite to what is held out.
    basis = bench.basis(values - bench.square(drift) / others)
    for row in fold:
        away = bench.away(int(row))
        in_sample2 = bench.left2(away, everyone)
        name = (bench.total.labels[row], label)
        yield int(row), bench.noun(name, away, away + drift / others, basis, in_sample2, others=others)


@dataclass(frozen=True)
class _Bench:
    """The opened models of one layer about their mean (m, p), the shift to the reference, and the question."""

    sources: Sequence[Source]
    key: LayerKey
    question: SideQuestion
    total: Gram
    mean: Tensor
    shift: Tensor | None

    @property
    def n(self) -> int:
        return int(self.total.usable.sum())

    @property
    def ks(self) -> Indices:
        return np.asarray(self.question.kept, dtype=np.intp)

    @property
    def width(self) -> int:
        return len(self.total.values)

    def away(self, row: int) -> Tensor:
        """One model's layer (m, p) about the mean of all; -1 is the unseen model."""
        return dense(self.sources[row], self.key, into=torch.empty_like(self.mean)).sub_(self.mean)

    def square(self, away: Tensor) -> Floats:
        """`W^T W` on `in` or `W W^T` on `out` (side, side), in float64."""
        rows = away if self.question.axis is Axis.IN else away.T
        return np.asarray((rows.T @ rows).double().numpy())

    def basis(self, values: Floats) -> Tensor:
        """The leading directions (side, k) of a side Gram, as many as are asked for and stand above its floor."""
        first = max(self.width - int(self.ks.max(initial=0)), 0)
        if first == self.width:
            return self.mean.new_zeros(self.width, 0)
        values, vectors = eigh((values + values.T) / 2, subset_by_index=(first, self.width - 1), check_finite=False)
        alive = values[::-1] > self.total.floor
        return torch.from_numpy(np.ascontiguousarray(vectors[:, ::-1][:, alive])).to(self.mean.dtype)

    def left2(self, away: Tensor, basis: Tensor) -> Floats:
        """The squared error of a model about their own centre at each number of directions (q,)."""
        inside = away @ basis if self.question.axis is Axis.IN else away.T @ basis
        captured = torch.cat([torch.zeros(1, dtype=torch.float64), inside.double().square().sum(0).cumsum(0)]).numpy()
        return np.maximum(_norm2(away) - captured[np.minimum(self.ks, basis.shape[1])], 0.0)

    def noun(
        self, name: tuple[str, str], away: Tensor, apart: Tensor, basis: Tensor, in_sample2: Floats, *, others: int
    ) -> HeldOut:
        """The errors of one model, called `name` (model, group): `away` from the mean of all, `apart` of the others."""
        model, group = name
        mean2, own, ks = _norm2(apart), self.question.own, self.ks
        reference2 = mean2 if self.shift is None else _norm2(away + self.shift)
        most = ceiling(self.key, n=others, axis=self.question.axis)
        return HeldOut(
            model=model,
            group=group,
            layers=(self.key.name,),
            axis=self.question.axis,
            about="mean",
            reference=self.question.reference,
            kept=ks,
            reference2=reference2,
            mean2=mean2,
            subspace2=self.left2(apart, basis),
            random2=mean2 * np.maximum(1 - ks / self.width, 0.0),
            in_sample2=in_sample2,
            own_svd2=own_svd2(own, model, ks, n=self.n, axis=self.question.axis) if own else np.full(ks.size, np.nan),
            trained_on=others,
            ceiling=most,
            floor2=self.total.floor,
            notes=notes_on(ks, most, others, zero=reference2 <= self.total.floor),
        )


@contextmanager
def _opened_bench(
    collection: Collection,
    layer: LayerKey | str,
    question: SideQuestion,
    members: Members,
    extra: tuple[ModelRef, ...],
) -> Iterator[_Bench]:
    """Opens the models, checks what is asked, and reads the mean."""
    key = collection.layer(layer)
    if question.reference not in ("mean", "zero", "base"):
        raise LayerError(f"{key.name}: errors are relative to mean, zero or base; found {question.reference!r}")
    if question.axis is Axis.MODELS:
        raise LayerError(
            f"{key.name}: held-out errors on the models axis follow from the Gram; use held_out or project"
        )
    check_own(question.own, key.name, question.reference)
    total = question.total or side_gram(collection, key, axis=question.axis, members=members, budget=question.budget)
    if total.layers != (key,) or total.axis is not question.axis:
        raise LayerError(
            f"A side Gram of {key.name} on {question.axis} was expected, it is of {total.layer.name} on {total.axis}"
        )
    refs = [collection.refs[collection.labels.index(label)] for label in total.labels]
    base = collection.base if question.reference == "base" else None
    if question.reference == "base" and (base is None or key.name not in collection.base_layers):
        raise LayerError(f"{key.name}: no base model is known for this layer; choose the mean as the reference")
    with open_models([*refs, *([base] if base else []), *extra], key) as sources, full_single_precision():
        for source in sources[len(sources) - len(extra) :]:
            check_layer(source, key)
        models = [source for source, good in zip(sources, total.usable, strict=False) if good]
        kind = product_dtype("auto", models, key)
        mean = center_matrix(models, None, key, about="mean", kind=kind, options=ComputeOptions(budget=question.budget))
        shift = None if question.reference == "mean" else mean
        if base:
            shift = mean - dense(sources[len(refs)], key, into=torch.empty_like(mean))
        yield _Bench(sources, key, question, total, mean, shift)


def _norm2(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix, dtype=torch.float64).square())
