"""Fits the shared basis of one layer: two passes over whole weights, one read of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uws_core import run
from uws_core.analysis import joint_basis
from uws_core.analysis.joint_basis import JointBasis
from uws_core.analysis.size_budget import Curve
from uws_core.errors import LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.open_models import open_models
from uws_core.passes.options import ComputeOptions
from uws_core.passes.updates import thin_updates

_SIDES = {Method.IN: (Axis.IN,), Method.OUT: (Axis.OUT,), Method.TWO_SIDED: (Axis.OUT, Axis.IN)}


@dataclass(frozen=True)
class LayerFit:
    """A fitted layer: the basis with its cores, the centre (m, p) of whole weights, and what rivals need.

    `own_energy` (n, s) are each model's squared singular values, `mean_errors2` and `random_errors2` (n,) the squared
    errors of the mean alone and of a random basis of the same size, `bits_errors2` maps bits to squared errors (n,) of
    rounding every entry (of the factors, for adapters) to so many bits.
    """

    plan: LayerPlan
    basis: JointBasis
    center: Floats | None
    own_energy: Floats
    mean_errors2: Floats
    random_errors2: Floats
    bits_errors2: dict[int, Floats]
    # Ranks (n,) of adapters, whose factors are what is rounded; empty for whole weights.
    ranks: tuple[int, ...] = ()
    # Whether the centre is stored with the basis.
    center_stored: bool = False

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
        return Curve(layer, joint_basis.expected_errors2(updates), updates.norms2)
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
    if plan.method is Method.TWO_SIDED:
        basis = joint_basis.two_sided(updates, plan.k)
    elif plan.method is Method.DIAGONAL:
        basis = joint_basis.diagonal(updates, plan.k, seed=seed)
    else:
        raise LayerError(f"{plan.layer.name}: adapters are compressed two-sided or diagonal, not {plan.method}")
    generator = np.random.default_rng(seed)
    m, p = plan.layer.shape
    left, right = (joint_basis.random_basis(side, min(plan.k, side), generator=generator) for side in (m, p))
    ranks = list(range(max(updates.ranks) + 1))
    errors = joint_basis.own_svd_errors(updates, ranks) ** 2 * updates.norms2
    return LayerFit(
        plan,
        basis,
        None,
        np.ascontiguousarray(-np.diff(errors, axis=0).T),
        joint_basis.mean_errors2(updates),
        joint_basis.projected(updates, left, right).errors2,
        {bits: joint_basis.rounded_errors2(updates, bits) for bits in (1, 2, 4, 8)},
        ranks=updates.ranks,
    )


def fit_weights(collection: Collection, plan: LayerPlan, members: Sequence[int], *, about: str, seed: int) -> LayerFit:
    """Fits whole weights in one layer about the mean or the base: the side Grams, then one read for the coefficients.

    Each model's own singular values for the comparison take `m p min(m, p)` multiply-adds a model.
    """
    layer = plan.layer
    sides = {axis: _directions(collection, layer, members, axis, plan.k, about) for axis in _SIDES[plan.method]}
    generator = np.random.default_rng(seed)
    random = {
        axis: joint_basis.random_basis(basis.shape[0], basis.shape[1], generator=generator)
        for axis, basis in sides.items()
    }
    refs = [collection.refs[member] for member in members]
    center_ref = [collection.base] if about == "base" and collection.base is not None else []
    cores, norms2, energy, errors, random_errors = [], [], [], [], []
    bits_errors: dict[int, list[float]] = {bits: [] for bits in (1, 2, 4, 8)}
    with open_models([*refs, *center_ref], layer) as sources:
        center = center_matrix(
            sources[: len(refs)],
            sources[-1] if center_ref else None,
            layer,
            about=about,
            kind=torch.float32,
            options=ComputeOptions(),
        )
        buffer = torch.empty(layer.shape)
        for source in sources[: len(refs)]:
            weights = dense(source, layer, into=buffer)
            if not bool(torch.isfinite(weights).all()):
                raise LayerError(
                    f"{layer.name}: {source.ref.repo} has weights that are NaN or infinite; leave out the model or the "
                    "layer"
                )
            away = (weights - center).double().numpy()
            norm2 = float(np.square(away).sum())
            core, random_core = _seen(away, sides), _seen(away, random)
            cores.append(core)
            norms2.append(norm2)
            errors.append(max(norm2 - float(np.square(core).sum()), 0.0))
            random_errors.append(max(norm2 - float(np.square(random_core).sum()), 0.0))
            energy.append(np.square(np.linalg.svd(away, compute_uv=False)))
            for bits, values in bits_errors.items():
                values.append(float(np.square(away - joint_basis.rounded(away, bits)).sum()))
    left = sides.get(Axis.OUT, np.zeros((layer.shape[0], 0)))
    right = sides.get(Axis.IN, np.zeros((layer.shape[1], 0)))
    basis = JointBasis(left, right, np.stack(cores), np.array(errors), np.array(norms2), 0)
    return LayerFit(
        plan,
        basis,
        center.double().numpy(),
        np.stack(energy),
        np.array(norms2),
        np.array(random_errors),
        {bits: np.array(values) for bits, values in bits_errors.items()},
        center_stored=about == "mean",
    )


def rebuilt(plan: LayerPlan, left: Floats, core: Floats, right: Floats) -> Floats:
    """Returns one model's matrix (m, p) about the centre from its core."""
    if plan.method is Method.IN:
        return np.asarray(core @ right.T)
    if plan.method is Method.OUT:
        return np.asarray(left @ core)
    matrix = np.diag(core) if core.ndim == 1 else core
    return np.asarray(left @ matrix @ right.T)


def _directions(
    collection: Collection, layer: LayerKey, members: Sequence[int], axis: Axis, k: int, about: str
) -> Floats:
    """The k leading directions (side, k) of one side, from the stored side Gram."""
    gram = run.cached_side_gram(collection, layer, axis=axis, members=members, about=about)
    return np.ascontiguousarray(np.linalg.eigh(gram.values)[1][:, ::-1][:, :k])


def _seen(away: Floats, sides: dict[Axis, Floats]) -> Floats:
    """A centred matrix in the coordinates of the bases: `U^T W V`, `W V` or `U^T W`."""
    seen = away @ sides[Axis.IN] if Axis.IN in sides else away
    return np.asarray(sides[Axis.OUT].T @ seen if Axis.OUT in sides else seen)
