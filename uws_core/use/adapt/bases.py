"""Bases to train in: of a compressed folder, of a collection without the target's group, random, of the base itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch

from uws_core import run
from uws_core.analysis import joint_basis
from uws_core.errors import CollectionError, LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import Method
from uws_core.passes.center import base_of, dense
from uws_core.passes.open_models import is_low_rank, open_models
from uws_core.passes.updates import thin_updates
from uws_core.sources.base import Source
from uws_core.use.compressed_folder import CompressedFolder

Report = Callable[[float, str], None]
# A column below this share of the longest holds no direction: the models span fewer than were planned.
_NO_DIRECTION = 1e-6


@dataclass(frozen=True)
class LayerBasis:
    """One layer's directions: `left` (m, k_out) and `right` (p, k_in) with columns of norm 1.

    `cores` (n, k_out, k_in) are the members' in these columns, empty where there are none. `member_shares` (n,) is
    what the basis holds of each member's squared update, NaN where that is not known.
    """

    layer: LayerKey
    left: Floats
    right: Floats
    cores: Floats
    member_shares: Floats

    @cached_property
    def orthonormal(self) -> tuple[Floats, Floats]:
        """The same two spans with orthonormal columns."""
        return _orthonormal(self.left), _orthonormal(self.right)

    @property
    def k(self) -> tuple[int, int]:
        """The directions of the outputs and of the inputs."""
        return self.left.shape[1], self.right.shape[1]


@dataclass(frozen=True)
class Basis:
    """The bases of several layers; `base` is the reference of the model that the members' updates add to, or None.

    `transposed` names layers that are stored as inputs x outputs.
    """

    layers: tuple[LayerBasis, ...]
    members: tuple[str, ...] = ()
    base: str | None = None
    transposed: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """A digest of every number of the basis."""
        digest = sha256()
        for each in self.layers:
            digest.update(each.layer.name.encode())
            for part in (each.left, each.right, each.cores):
                digest.update(np.ascontiguousarray(part, dtype=np.float32).tobytes())
        return digest.hexdigest()[:32]


def from_compressed(folder: CompressedFolder) -> Basis:
    """Returns the basis of a compressed collection.

    Raises:
        LayerError: a layer is shared on one side only.
    """
    one_sided = [plan.layer.name for plan in folder.plans if plan.method in (Method.IN, Method.OUT)]
    if one_sided:
        raise LayerError(
            f"{folder.path.name} shares {one_sided[0]} and {len(one_sided) - 1} other layers on one side, where a "
            "coefficient is a whole row or column; compress again with the method two-sided (or diagonal)"
        )
    errors = np.array([float(member["error"]) for member in folder.index["members"]])
    layers = []
    for plan in folder.plans:
        left, right, _ = folder.basis(plan)
        cores = folder.cores(plan.layer.name).double().numpy()
        if cores.ndim == 2:
            cores = np.stack([np.diag(core) for core in cores])
        # Scale the columns to norm 1; leave out those of zeros, which were padding.
        sizes = [np.linalg.norm(side, axis=0) for side in (left, right)]
        keep = [size > _NO_DIRECTION * max(float(size.max(initial=0.0)), 1e-300) for size in sizes]
        scaled = cores * sizes[0][None, :, None] * sizes[1][None, None, :]
        left, right = left[:, keep[0]] / sizes[0][keep[0]], right[:, keep[1]] / sizes[1][keep[1]]
        cores = scaled[:, keep[0]][:, :, keep[1]]
        layers.append(LayerBasis(plan.layer, left, right, cores, 1 - np.square(errors)))
    return Basis(tuple(layers), folder.members, folder.index["base"], frozenset(folder.index["transposed"]))


def from_collection(
    collection: Collection,
    *,
    kept: int,
    held_out: Sequence[str] = (),
    layers: Sequence[str] | None = None,
    report: Report | None = None,
) -> Basis:
    """Returns the two-sided basis of a collection's updates without the models in `held_out`.

    Whole weights are taken about the base. The columns of both sides are turned so that the members' mean core is
    diagonal, which is what the diagonal rows train.

    Raises:
        CollectionError: an unknown model in `held_out`.
        LayerError: whole weights without a base, or weights that are NaN.
        NotEnoughModels: fewer than two models are left.
    """
    unknown = sorted(set(held_out) - set(collection.labels))
    if unknown:
        raise CollectionError(f"{collection.name} has no model {', '.join(unknown[:5])} to hold out")
    members = [row for row, label in enumerate(collection.labels) if label not in set(held_out)]
    if len(members) < 2:
        raise NotEnoughModels(f"A shared basis needs two models; {len(members)} are left beside the held-out group")
    keys = run.chosen_layers(collection, layers)
    keys = tuple(key for key in keys if is_low_rank(collection, key)) or keys
    result = []
    for number, key in enumerate(keys):
        fitted = _fitted(collection, key, members, min(kept, *key.shape))
        u, _, vt = np.linalg.svd(fitted.cores.mean(axis=0), full_matrices=True)
        result.append(replace(fitted, left=fitted.left @ u, right=fitted.right @ vt.T, cores=u.T @ fitted.cores @ vt.T))
        if report is not None:
            report((number + 1) / len(keys), f"basis of {key.short}")
    base = str(collection.base) if collection.base else None
    return Basis(tuple(result), tuple(collection.labels[row] for row in members), base, collection.transposed)


def random_like(basis: Basis, seed: int) -> Basis:
    """Returns orthonormal random directions of the same sizes; another `seed`, other directions."""
    generator = np.random.default_rng([seed, 0x5EED])
    return Basis(
        tuple(
            _without_members(
                each,
                joint_basis.random_basis(each.layer.shape[0], each.k[0], generator=generator),
                joint_basis.random_basis(each.layer.shape[1], each.k[1], generator=generator),
            )
            for each in basis.layers
        ),
        base=basis.base,
        transposed=basis.transposed,
    )


def base_svd(basis: Basis, weights: Mapping[str, Floats]) -> Basis:
    """Returns the leading singular directions of the base's own weights (LoRA-XS, arXiv 2405.17604), same sizes.

    Price a layer: one SVD, `m p min(m, p)` multiply-adds.
    """
    layers = []
    for each in basis.layers:
        left, _, right = np.linalg.svd(weights[each.layer.name], full_matrices=False)
        (k_out, k_in), rank = each.k, left.shape[1]
        if max(k_out, k_in) > rank:
            left, _, right = np.linalg.svd(weights[each.layer.name], full_matrices=True)
        layers.append(_without_members(each, left[:, :k_out], right[:k_in].T))
    return replace(basis, layers=tuple(layers), members=())


def _fitted(collection: Collection, key: LayerKey, members: Sequence[int], k: int) -> LayerBasis:
    if not is_low_rank(collection, key):
        return _fitted_weights(collection, key, members, k)
    fitted = joint_basis.two_sided(thin_updates(collection, key, members), k)
    shares = 1 - fitted.errors2 / np.maximum(fitted.norms2, 1e-300)
    return LayerBasis(key, fitted.left, fitted.right, fitted.cores, shares)


def _fitted_weights(collection: Collection, key: LayerKey, members: Sequence[int], k: int) -> LayerBasis:
    """The two-sided basis of whole weights about their base: leading directions of each side (HOSVD), two reads.

    Every model counts alike, weighted by `1 / |W_i - base|^2`, as updates of adapters do.
    """
    base = base_of(collection, key)
    m, p = key.shape
    outputs, inputs, norms2 = np.zeros((m, m)), np.zeros((p, p)), []
    with open_models([base, *(collection.refs[member] for member in members)], key) as sources:
        center = dense(sources[0], key, into=torch.empty(key.shape)).double().numpy()

        def away(source: Source) -> Floats:
            update: Floats = dense(source, key, into=torch.empty(key.shape)).double().numpy() - center
            if not np.isfinite(update).all():
                raise LayerError(f"{key.name}: {source.ref.repo} has weights that are NaN or infinite; leave it out")
            return update

        for source in sources[1:]:
            update = away(source)
            norm2 = max(float(np.square(update).sum()), 1e-300)
            norms2.append(norm2)
            outputs += update @ update.T / norm2
            inputs += update.T @ update / norm2
        left, right = (np.linalg.eigh(gram)[1][:, ::-1][:, :k] for gram in (outputs, inputs))
        cores = np.stack([left.T @ away(source) @ right for source in sources[1:]])
    return LayerBasis(key, left, right, cores, np.square(cores).sum(axis=(1, 2)) / np.array(norms2))


def _without_members(basis: LayerBasis, left: Floats, right: Floats) -> LayerBasis:
    return LayerBasis(basis.layer, left, right, np.zeros((0, *basis.k)), np.zeros(0))


def _orthonormal(columns: Floats) -> Floats:
    gram = columns.T @ columns
    if np.allclose(gram, np.eye(gram.shape[0]), atol=1e-5):
        return columns
    return np.linalg.qr(columns)[0]
