"""Join and leave: one more model in a compressed folder, or one less, without the others' weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis import basis_extension
from uws_core.analysis.basis_extension import Extension
from uws_core.analysis.joint_basis import thin_core
from uws_core.errors import CollectionError, ExportError, LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import LowRank, ModelRef
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.base import Source
from uws_core.sources.files.blob import torch_dtypes
from uws_core.sources.formats.subspace_files import (
    BASIS,
    FILES,
    INDEX_OF_COMPRESSED,
    MEMBERS,
    UNTOUCHED,
    untouched_name,
)
from uws_core.sources.opening import resolved
from uws_core.use.beside import write_beside
from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class Joined:
    """What a new member kept: its relative error, that of a random basis of the same size, and of the worst member.

    `projected` is its error in the basis as it was. Where that was extended, `extended` names the layers with their new
    directions a side, and `basis` is the new version.
    """

    name: str
    error: float
    chance: float
    worst_member: float
    folder: Path
    projected: float
    basis: int
    extended: Mapping[str, int] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the basis holds the model as well as its worst member."""
        return self.error <= self.worst_member

    def __str__(self) -> str:
        said = (
            f"{self.name} loses {self.projected:.0%} in this basis and {self.chance:.0%} in a random one; the worst "
            f"member loses {self.worst_member:.0%}. "
        )
        if self.extended:
            most = max(self.extended.values())
            return said + (
                f"The basis was extended by up to {most} directions a side in {len(self.extended)} layers and is now "
                f"version {self.basis}: it loses {self.error:.0%}."
            )
        if self.fits:
            return said + "It fits."
        return said + "It does not fit: extend the basis for it, compress again with it, or store it by itself."


def join(folder: str | Path, model: str | Path, *, name: str | None = None, extend: bool = False) -> Joined:
    """Adds a model to a compressed folder by projection on its basis; the other members stay as they are.

    With `extend`, each layer in which the model loses more than the worst member gets the fewest new directions that
    end this. The others' cores get zeros there, so that they are rebuilt as before; the basis gets a new version, which
    the new member names. The folder gets a new revision. Price: one read of the new model, one copy of the cores.

    Raises:
        CollectionError: the name is taken, or the model lacks a layer or has it in another shape.
        LayerError: whole weights for a folder of updates or the reverse, or weights that are NaN.
        ExportError: the folder cannot be written.
    """
    opened = open_compressed(folder)
    ref, source = resolved(ModelRef(str(Path(model).expanduser().absolute()), ""))
    label = name or Path(model).stem
    if label in opened.members:
        raise CollectionError(f"{opened.path.name} has a member {label!r} already; give another name")
    worst = {layer["name"]: float(layer["worst_error"]) for layer in opened.index["layers"]}
    stacks, bases, wider, sums = dict[str, Tensor](), dict[str, Tensor](), dict[str, LayerPlan](), np.zeros(4)
    for plan in opened.plans:
        layer = plan.layer.name
        left, right, center = opened.basis(plan)
        matrix = _matrix(source, plan, center)
        found = _projected(matrix, plan, left, right)
        norm2, projected2 = matrix.norm2, found.error2
        if extend and projected2 > worst[layer] ** 2 * norm2:
            found = _extended(matrix, plan, left, right, found.core, allowed2=worst[layer] ** 2 * norm2)
        stack = opened.files.stored_cores(layer)
        stacks[layer], rank = _with_core(stack, found.core, plan, left.shape[1], matrix)
        if found.added or rank != plan.core_rank:
            # What one member takes: the new core, or the factors of one.
            each = stacks[layer][0].numel()
            wider[layer] = replace(plan, k=plan.k + found.added, member_numbers=each, core_rank=rank)
        if found.added:
            kinds = zip(("left", "right"), ((left, found.left), (right, found.right)), strict=True)
            wide = {f"{layer}/{side}": np.column_stack(parts) for side, parts in kinds}
            bases |= {key: torch.from_numpy(values).to(stack.dtype) for key, values in wide.items()}
            shared = plan.shared_numbers + found.left.size + found.right.size
            wider[layer] = replace(wider[layer], shared_numbers=shared)
        # A random basis keeps the share of the layer's entries that its own numbers are.
        sums += [norm2, projected2, found.error2, norm2 * (1 - _random_share(plan))]
    projected, error, chance = (float(np.sqrt(value / sums[0])) if sums[0] > 0 else 0.0 for value in sums[1:])
    version = int(opened.index["basis"]) + bool(bases)
    entry = {"name": label, "error": error, "basis": version}
    _rewrite(opened, stacks, list(range(len(opened.members))), (ref, entry), (bases, wider))
    extended = {plan.layer.name: wider[plan.layer.name].k - plan.k for plan in opened.plans if plan.layer.name in wider}
    extended = {layer: added for layer, added in extended.items() if added}
    worst_member = max(float(member["error"]) for member in opened.index["members"])
    return Joined(label, error, chance, worst_member, opened.path, projected, version, extended)


def leave(folder: str | Path, member: str) -> None:
    """Takes a member out of a compressed folder; the basis and the other members stay as they are.

    Raises:
        CollectionError: no such member, or it is the last one.
    """
    opened = open_compressed(folder)
    if member not in opened.members:
        raise CollectionError(f"{opened.path.name} has no member {member!r}; it has {len(opened.members)}")
    rows = [index for index, name in enumerate(opened.members) if name != member]
    if not rows:
        raise CollectionError(f"{member} is the last member of {opened.path.name}; delete the folder instead")
    stacks = {plan.layer.name: opened.files.stored_cores(plan.layer.name)[rows] for plan in opened.plans}
    _rewrite(opened, stacks, rows, None)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A new model's layer about the centre, as factors `up` (m, r) and `down` (r, p), or whole where `down` is None."""

    up: Floats
    down: Floats | None

    @property
    def norm2(self) -> float:
        """The squared Frobenius norm."""
        if self.down is None:
            return float(np.square(self.up).sum())
        return float(np.sum((self.up.T @ self.up) * (self.down @ self.down.T)))

    @property
    def factors(self) -> tuple[Floats, Floats]:
        """Its thin factors; those of a whole matrix by a singular value decomposition."""
        if self.down is not None:
            return self.up, self.down
        left, sizes, right = np.linalg.svd(self.up, full_matrices=False)
        return left * sizes, right


def _matrix(source: Source, plan: LayerPlan, center: Floats | None) -> _Matrix:
    key = source.find(plan.layer.name)
    if key is None or key.shape != plan.layer.shape:
        has = "does not have it" if key is None else f"has it as {key.shape[0]} x {key.shape[1]}"
        raise CollectionError(f"{plan.layer.name} is {plan.layer.shape[0]} x {plan.layer.shape[1]}; the model {has}")
    values = source.read(plan.layer.name)
    if isinstance(values, LowRank) != (center is None):
        raise LayerError(f"{plan.layer.name}: updates join compressed adapters, whole weights compressed weights")
    if isinstance(values, LowRank):
        matrix = _Matrix(values.up.double().numpy() * values.scale, values.down.double().numpy())
    else:
        matrix = _Matrix(values.double().numpy() - center, None)
    if not np.isfinite(matrix.norm2):
        raise LayerError(f"{plan.layer.name}: the model has weights that are NaN or infinite; it cannot join")
    return matrix


def _projected(matrix: _Matrix, plan: LayerPlan, left: Floats, right: Floats) -> Extension:
    """The core of a new model's layer in the basis as it is, and the squared error left."""
    if matrix.down is not None and plan.method is Method.DIAGONAL:
        inner = (left.T @ left) * (right.T @ right)
        core = np.linalg.lstsq(inner, np.sum((matrix.up.T @ left) * (matrix.down @ right), axis=0), rcond=None)[0]
        kept2 = float(core @ inner @ core)
    else:
        core = matrix.up if matrix.down is None else left.T @ matrix.up @ matrix.down
        core = core if plan.method is Method.OUT else core @ right
        core = core if plan.method is Method.IN or matrix.down is not None else left.T @ core
        kept2 = float(np.square(core).sum())
    return Extension(left[:, :0], right[:, :0], core, max(matrix.norm2 - kept2, 0.0))


def _extended(
    matrix: _Matrix, plan: LayerPlan, left: Floats, right: Floats, core: Floats, *, allowed2: float
) -> Extension:
    """The layer with as many new directions as bring the error down to what is allowed."""
    if plan.method is Method.TWO_SIDED:
        return basis_extension.two_sided(*matrix.factors, left, right, allowed2=allowed2)
    if plan.method is Method.DIAGONAL:
        return basis_extension.diagonal(*matrix.factors, left, right, core, allowed2=allowed2)
    if plan.method is Method.IN:
        return basis_extension.one_sided(matrix.up, right, allowed2=allowed2)
    turned = basis_extension.one_sided(matrix.up.T, left, allowed2=allowed2)
    return Extension(turned.right, right[:, :0], turned.core.T, turned.error2)


def _with_core(stack: Tensor, core: Floats, plan: LayerPlan, k: int, matrix: _Matrix) -> tuple[Tensor, int]:
    """The stored cores with one more, zeros where the others have no directions, and the rank of thin ones.

    `k` are the directions of the outputs so far.
    """
    if not plan.core_rank:
        new = torch.from_numpy(np.ascontiguousarray(core)).to(stack.dtype)
        shape = [max(sizes) for sizes in zip(stack.shape[1:], core.shape, strict=True)]
        return torch.cat([_widened(stack, [len(stack), *shape]), _widened(new, shape)[None]]), 0
    # A newcomer of higher rank widens the factors of all.
    rank = max(plan.core_rank, min(matrix.up.shape[1], *core.shape))
    parts = zip((stack[:, :k], stack[:, k:]), core.shape, strict=True)
    old = torch.cat([_widened(part, [len(stack), size, rank]) for part, size in parts], dim=1)
    return torch.cat([old, torch.from_numpy(thin_core(core, rank)).to(stack.dtype)[None]]), rank


def _widened(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Cores with zeros for the directions that came after them."""
    if list(values.shape) == list(shape):
        return values
    wide = torch.zeros(*shape, dtype=values.dtype)
    wide[tuple(slice(0, size) for size in values.shape)] = values
    return wide


def _random_share(plan: LayerPlan) -> float:
    m, p = plan.layer.shape
    return {
        Method.TWO_SIDED: min(plan.k / m, 1.0) * min(plan.k / p, 1.0),
        Method.DIAGONAL: min(plan.k / (m * p), 1.0),
        Method.IN: min(plan.k / p, 1.0),
        Method.OUT: min(plan.k / m, 1.0),
    }[plan.method]


def _rewrite(
    opened: CompressedFolder,
    stacks: dict[str, Tensor],
    rows: Sequence[int],
    added: tuple[ModelRef, dict[str, Any]] | None,
    wider: tuple[Mapping[str, Tensor], Mapping[str, LayerPlan]] = ({}, {}),
) -> None:
    """The folder with these rows of its members, and one more, written beside it and exchanged.

    `wider` are the bases that were extended, by stored name, and the plans of layers whose sizes changed.

    Readers see the old folder or the new one.
    """
    folder = opened.path
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    members = [opened.index["members"][row] for row in rows]
    bases, plans = wider
    version = opened.index["basis"] + bool(bases)
    metadata = {"basis": str(version)}
    written = (MEMBERS, INDEX_OF_COMPRESSED, UNTOUCHED, *([BASIS] if bases else []))
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part, copy_function=os.link, ignore=shutil.ignore_patterns(*written))
        (part / UNTOUCHED).mkdir()
        for number, row in enumerate(rows):
            os.link(folder / untouched_name(row), part / untouched_name(number))
        if added is not None:
            ref, entry = added
            names = [plan.layer.name for plan in opened.plans]
            members.append(entry | write_beside(ref, names, part, len(rows)))
        used = {digest for member in members for digest in member.get("files", {}).values()}
        for path in (part / FILES).glob("*"):
            if path.name not in used:
                path.unlink()
        layout = {name: (tuple(stack.shape), stack.dtype) for name, stack in stacks.items()}
        with TensorFile(part / MEMBERS, layout, metadata=metadata) as file:
            for name, stack in stacks.items():
                file.write(name, stack)
        if bases:
            _write_bases(opened, bases, part / BASIS, metadata)
        layers = [
            layer | _sizes(plans[layer["name"]]) if layer["name"] in plans else layer
            for layer in opened.index["layers"]
        ]
        changed = {"members": members, "layers": layers, "basis": version, "revision": opened.index["revision"] + 1}
        index = dict(opened.index) | changed
        (part / INDEX_OF_COMPRESSED).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        folder.rename(old)
        part.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise ExportError(f"{folder} cannot be written ({error}); it is as it was") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_bases(opened: CompressedFolder, bases: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """The file of bases with some of them exchanged; one layer is in memory at a time."""
    spans = opened.files.basis_spans()
    layout = {
        name: (tuple(bases[name].shape), bases[name].dtype)
        if name in bases
        else (span.shape, torch_dtypes()[span.dtype])
        for name, span in spans.items()
    }
    with TensorFile(path, layout, metadata=metadata) as file:
        for name in layout:
            layer, _, part = name.rpartition("/")
            stored = dict(zip(("left", "right", "center"), opened.files.basis(layer), strict=True))
            values = bases.get(name, stored[part])
            assert values is not None
            file.write(name, values)


def _sizes(plan: LayerPlan) -> dict[str, int]:
    sizes = {"k": plan.k, "shared_numbers": plan.shared_numbers, "member_numbers": plan.member_numbers}
    return sizes | ({"core_rank": plan.core_rank} if plan.core_rank else {})
