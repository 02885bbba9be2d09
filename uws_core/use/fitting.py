"""Fits the shared basis of one layer, and hands out what is stored of it: whole weights one model at a time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from uws_core import run
from uws_core.analysis import joint_basis, size_budget
from uws_core.analysis.joint_basis import JointBasis, ThinUpdates
from uws_core.analysis.size_budget import Curve
from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.open_models import full_single_precision, is_low_rank, open_models
from uws_core.passes.options import ComputeOptions
from uws_core.passes.updates import thin_updates
from uws_core.sources.base import Source

_BITS = (1, 2, 4, 8)
_SIDES = {Method.IN: (Axis.IN,), Method.OUT: (Axis.OUT,), Method.TWO_SIDED: (Axis.OUT, Axis.IN)}


@dataclass(frozen=True)
class LayerFit:
    """A fitted layer: the errors of the basis, and what rivals need.

    `own_energy` (n, s) are each model's squared singular values, `mean_errors2` and `random_errors2` (n,) the squared
    errors of the mean alone and of a random basis of the same size, `bits_errors2` maps bits to squared errors (n,) of
    rounding every entry (of the factors, for adapters) to so many bits.
    """

    plan: LayerPlan
    basis: JointBasis
    own_energy: Floats
    mean_errors2: Floats
    random_errors2: Floats
    bits_errors2: dict[int, Floats]
    # Ranks (n,) of adapters, whose factors are what is rounded; empty for whole weights.
    ranks: tuple[int, ...] = ()
    # Whether the centre is stored with the basis.
    center_stored: bool = False

    def resized(self, k: int) -> LayerPlan:
        """The plan at another number of directions."""
        rank, mean = max(self.ranks, default=0), self.center_stored
        return size_budget.plan(self.plan.layer, self.plan.method, k, mean=mean, rank=rank)

    def rounded_bytes(self, bits: int, n: int) -> int:
        """The bytes of n models with every entry at `bits` bits and a float32 scale a row."""
        m, p = self.plan.layer.shape
        if self.ranks:
            return sum(rank * (bits * (m + p) // 8 + 8) for rank in self.ranks)
        center = m * p * 4 if self.center_stored else 0
        return n * m * (bits * p // 8 + 4) + center


def error_curve(
    collection: Collection, layer: LayerKey, members: Sequence[int], method: Method, *, low_rank: bool
) -> Curve:
    """Returns a layer's expected squared relative error at every k, before anything is fitted.

    Adapters: from the thin factors. Whole weights: from side Grams, which the store keeps.
    """
    if low_rank:
        updates = thin_updates(collection, layer, members)
        return Curve(layer, joint_basis.expected_errors2(updates), updates.norms2, max(updates.ranks))
    sizes = {Axis.OUT: layer.shape[0], Axis.IN: layer.shape[1]}
    captured = np.ones(max(sizes[axis] for axis in _SIDES[method]) + 1)
    norms2 = np.zeros(len(members))
    for axis in _SIDES[method]:
        gram = run.cached_side_gram(collection, layer, axis=axis, members=members)
        energy = np.clip(np.linalg.eigvalsh(gram.values)[::-1], 0.0, None)
        tail = 1 - np.concatenate([[0.0], np.cumsum(energy)]) / max(float(energy.sum()), 1e-300)
        captured[: tail.size] *= 1 - np.clip(tail, 0.0, 1.0)
        norms2 = np.nan_to_num(gram.entry_stats.power2)
    return Curve(layer, 1 - captured, norms2)


def fit_updates(collection: Collection, plan: LayerPlan, members: Sequence[int], *, seed: int) -> LayerFit:
    """Fits adapters in one layer; no update is multiplied out."""
    updates = thin_updates(collection, plan.layer, members)
    basis = _fitted(updates, plan, seed)
    generator = np.random.default_rng(seed)
    m, p = plan.layer.shape
    left, right = (joint_basis.random_basis(side, min(plan.k, side), generator=generator) for side in (m, p))
    ranks = list(range(max(updates.ranks) + 1))
    errors = joint_basis.own_svd_errors(updates, ranks) ** 2 * updates.norms2
    return LayerFit(
        plan,
        basis,
        np.ascontiguousarray(-np.diff(errors, axis=0).T),
        joint_basis.mean_errors2(updates),
        joint_basis.projected(updates, left, right).errors2,
        {bits: joint_basis.rounded_errors2(updates, bits) for bits in _BITS},
        ranks=updates.ranks,
    )


def _fitted(updates: ThinUpdates, plan: LayerPlan, seed: int) -> JointBasis:
    if plan.method is Method.TWO_SIDED:
        return joint_basis.two_sided(updates, plan.k)
    if plan.method is Method.DIAGONAL:
        return joint_basis.diagonal(updates, plan.k, seed=seed)
    raise LayerError(f"{plan.layer.name}: adapters are compressed two-sided or diagonal, not {plan.method}")


def fit_weights(collection: Collection, plan: LayerPlan, members: Sequence[int], *, about: str, seed: int) -> LayerFit:
    """Fits whole weights in one layer about the mean or the base: the side Grams, then one read for the coefficients.

    Each model's own singular values for the comparison take `m p min(m, p)` multiply-adds a model.
    """
    layer, generator = plan.layer, np.random.default_rng(seed)
    sides, random = dict[Axis, Tensor](), dict[Axis, Tensor]()
    for axis in _SIDES[plan.method]:
        basis = _directions(collection, layer, members, axis, plan.k, about)
        sides[axis] = torch.from_numpy(basis)
        random[axis] = torch.from_numpy(joint_basis.random_basis(*basis.shape, generator=generator))
    norms2, energy, errors, random_errors = [], [], [], []
    bits_errors: dict[int, list[float]] = {bits: [] for bits in _BITS}
    with _about_center(collection, layer, members, about) as (sources, center):
        for source in sources:
            away = _core(source, layer, center, {}).double()
            norm2 = float(away.square().sum())
            norms2.append(norm2)
            errors.append(max(norm2 - float(_in_bases(away, sides).square().sum()), 0.0))
            random_errors.append(max(norm2 - float(_in_bases(away, random).square().sum()), 0.0))
            energy.append(np.square(np.linalg.svd(away.numpy(), compute_uv=False)))
            for bits, values in bits_errors.items():
                values.append(joint_basis.rounding_error2(away.numpy(), bits))
    nothing = np.zeros((0, 0))
    return LayerFit(
        plan,
        JointBasis(nothing, nothing, nothing, np.array(errors), np.array(norms2), 0),
        np.stack(energy),
        np.array(norms2),
        np.array(random_errors),
        {bits: np.array(values) for bits, values in bits_errors.items()},
        center_stored=True,
    )


def errors2_at(
    collection: Collection, plan: LayerPlan, ks: Sequence[int], members: Sequence[int], *, about: str, seed: int
) -> tuple[Floats, Floats]:
    """Returns squared errors (len(ks), n) at several numbers of directions: of the shared basis and of a random one.

    Adapters are read once and fitted at every k. Whole weights are read once, since the directions of a smaller basis
    are the first of a larger one.
    """
    layer, generator = plan.layer, np.random.default_rng(seed)
    m, p = layer.shape
    if is_low_rank(collection, layer):
        updates = thin_updates(collection, layer, members)
        widest = min(max(ks), max(m, p))
        left, right = (joint_basis.random_basis(side, min(widest, side), generator=generator) for side in (m, p))
        shared = [_fitted(updates, replace(plan, k=k), seed).errors2 for k in ks]
        random = [joint_basis.projected(updates, left[:, :k], right[:, :k]).errors2 for k in ks]
        return np.stack(shared), np.stack(random)
    sides, random_sides = dict[Axis, Tensor](), dict[Axis, Tensor]()
    for axis in _SIDES[plan.method]:
        basis = _directions(collection, layer, members, axis, max(ks), about)
        sides[axis] = torch.from_numpy(basis)
        random_sides[axis] = torch.from_numpy(joint_basis.random_basis(*basis.shape, generator=generator))
    errors = np.zeros((2, len(ks), len(members)))
    with _about_center(collection, layer, members, about) as (sources, center):
        for number, source in enumerate(sources):
            away = _core(source, layer, center, {}).double()
            norm2 = float(away.square().sum())
            for way, bases in enumerate((sides, random_sides)):
                kept = _in_bases(away, bases).square().cumsum(0).cumsum(1)
                rows, columns = kept.shape
                for place, k in enumerate(ks):
                    row = min(k, rows) if Axis.OUT in bases else rows
                    column = min(k, columns) if Axis.IN in bases else columns
                    errors[way, place, number] = max(norm2 - float(kept[row - 1, column - 1]), 0.0)
    return errors[0], errors[1]


def held_out_errors2(
    collection: Collection,
    plan: LayerPlan,
    members: Sequence[int],
    groups: Sequence[Hashable],
    *,
    about: str,
    seed: int,
) -> tuple[Floats, Floats]:
    """Returns squared errors and norms (n,) of each model in the basis that is made without its group.

    Adapters are read once. Whole weights are read three times for each group, and are about the others' mean.
    """
    layer = plan.layer
    errors2, norms2 = np.zeros(len(members)), np.zeros(len(members))
    low_rank = is_low_rank(collection, layer)
    updates = thin_updates(collection, layer, members) if low_rank else None
    for group in dict.fromkeys(groups):
        inside = [row for row, label in enumerate(groups) if label == group]
        others = [row for row, label in enumerate(groups) if label != group]
        if updates is not None:
            basis, own = _fitted(updates.chosen(others), plan, seed), updates.chosen(inside)
            fit = joint_basis.in_basis(own, basis, diagonal=plan.method is Method.DIAGONAL)
            errors2[inside], norms2[inside] = fit.errors2, fit.norms2
            continue
        rest = [members[row] for row in others]
        sides = {
            axis: torch.from_numpy(_directions(collection, layer, rest, axis, plan.k, about))
            for axis in _SIDES[plan.method]
        }
        with (
            _about_center(collection, layer, rest, about) as (_, center),
            open_models([collection.refs[members[row]] for row in inside], layer) as sources,
        ):
            for row, source in zip(inside, sources, strict=True):
                away = _core(source, layer, center, {}).double()
                norms2[row] = float(away.square().sum())
                errors2[row] = max(norms2[row] - float(_in_bases(away, sides).square().sum()), 0.0)
    return errors2, norms2


@dataclass(frozen=True)
class LayerParts:
    """What is stored of a layer: directions `left` (m, k) and `right` (p, k), the centre, each model's core in turn."""

    left: Tensor
    right: Tensor
    center: Tensor | None
    cores: Iterator[Tensor]


@contextmanager
def layer_parts(
    collection: Collection, plan: LayerPlan, members: Sequence[int], *, about: str, seed: int
) -> Iterator[LayerParts]:
    """What is stored of a layer, the models read one by one while their cores are taken.

    Whole weights are read once for their mean and once for the cores, in float32; adapters once.
    """
    layer = plan.layer
    if is_low_rank(collection, layer):
        basis = _fitted(thin_updates(collection, layer, members), plan, seed)
        left, right = (torch.from_numpy(side.copy()) for side in (basis.left, basis.right))
        yield LayerParts(left, right, None, (torch.from_numpy(core) for core in basis.cores))
        return
    sides = {
        axis: torch.from_numpy(_directions(collection, layer, members, axis, plan.k, about)).float()
        for axis in _SIDES[plan.method]
    }
    left, right = (
        sides.get(axis, torch.zeros(size, 0)) for axis, size in zip((Axis.OUT, Axis.IN), layer.shape, strict=True)
    )
    with _about_center(collection, layer, members, about) as (sources, center), full_single_precision():
        yield LayerParts(left, right, center, (_core(source, layer, center, sides) for source in sources))


@contextmanager
def _about_center(
    collection: Collection, layer: LayerKey, members: Sequence[int], about: str
) -> Iterator[tuple[list[Source], Tensor]]:
    """The opened models and their centre (m, p) in float32."""
    refs = [collection.refs[member] for member in members]
    base = [collection.base] if about == "base" and collection.base is not None else []
    with open_models([*refs, *base], layer) as sources:
        models, options = sources[: len(refs)], ComputeOptions()
        center = center_matrix(
            models, sources[-1] if base else None, layer, about=about, kind=torch.float32, options=options
        )
        yield models, center


def _core(source: Source, layer: LayerKey, center: Tensor, sides: Mapping[Axis, Tensor]) -> Tensor:
    """One model's coordinates about the centre."""
    weights = dense(source, layer, into=torch.empty(layer.shape))
    if not bool(torch.isfinite(weights).all()):
        raise LayerError(
            f"{layer.name}: {source.ref.repo} has weights that are NaN or infinite; leave out the model or the layer"
        )
    return _in_bases(weights.sub_(center), sides)


def _in_bases(away: Tensor, sides: Mapping[Axis, Tensor]) -> Tensor:
    """A centred matrix in the coordinates of the bases: `U^T W V`, `W V` or `U^T W`."""
    turned = away @ sides[Axis.IN] if Axis.IN in sides else away
    return sides[Axis.OUT].T @ turned if Axis.OUT in sides else turned


def _directions(
    collection: Collection, layer: LayerKey, members: Sequence[int], axis: Axis, k: int, about: str
) -> Floats:
    """The k leading directions (side, k) of one side, from the stored side Gram."""
    gram = run.cached_side_gram(collection, layer, axis=axis, members=members, about=about)
    # A copy: a single flipped column counts as contiguous to numpy and keeps a stride that torch does not take.
    return np.linalg.eigh(gram.values)[1][:, ::-1][:, :k].copy()
