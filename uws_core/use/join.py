"""Join and leave: one more model in a compressed folder, or one less, without the others' weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import CollectionError, ExportError, LayerError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import LowRank, ModelRef
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.base import Source
from uws_core.sources.formats.subspace_files import FILES, INDEX, MEMBERS, UNTOUCHED, untouched_name
from uws_core.sources.opening import resolved
from uws_core.use.beside import write_beside
from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class Joined:
    """What a new member kept: its relative error, that of a random basis of the same size, and of the worst member.

    `fits` says that the basis holds it: its error is at most that of the worst member the basis was made from.
    """

    name: str
    error: float
    chance: float
    worst_member: float
    folder: Path

    @property
    def fits(self) -> bool:
        """Whether the basis holds the model as well as its worst member."""
        return self.error <= self.worst_member

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit: compress again with it, or store it by itself"
        return (
            f"{self.name} loses {self.error:.0%} in this basis and {self.chance:.0%} in a random one; the worst member "
            f"loses {self.worst_member:.0%}. It {verdict}."
        )


def join(folder: str | Path, model: str | Path, *, name: str | None = None) -> Joined:
    """Adds a model to a compressed folder by projection on its basis; the basis and the other members stay as they are.

    The folder gets a new revision. Price: one read of the new model, one copy of the members' cores.

    Raises:
        CollectionError: the name is taken, or the model lacks a layer or has it in another shape.
        ExportError: the folder cannot be written.
    """
    opened = open_compressed(folder)
    ref, source = resolved(ModelRef(str(Path(model).expanduser().absolute()), ""))
    label = name or Path(model).stem
    if label in opened.members:
        raise CollectionError(f"{opened.path.name} has a member {label!r} already; give another name")
    cores, errors2, norms2, random2 = {}, 0.0, 0.0, 0.0
    for plan in opened.plans:
        left, right, center = opened.basis(plan)
        core, norm2, captured = _projected(source, plan, left, right, center)
        cores[plan.layer.name] = core
        norms2 += norm2
        errors2 += max(norm2 - captured, 0.0)
        # A random basis keeps the share of the layer's entries that its own numbers are.
        random2 += norm2 * (1 - _random_share(plan))
    error, chance = (float(np.sqrt(value / norms2)) if norms2 > 0 else 0.0 for value in (errors2, random2))
    stacks = {}
    for layer, core in cores.items():
        stack = opened.cores(layer)
        stacks[layer] = torch.cat([stack, torch.from_numpy(np.ascontiguousarray(core))[None].to(stack.dtype)])
    worst = max(float(member["error"]) for member in opened.index["members"])
    entry = {"name": label, "error": error, "basis": opened.index["basis"]}
    _rewrite(opened, stacks, list(range(len(opened.members))), (ref, entry))
    return Joined(label, error, chance, worst, opened.path)


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
    stacks = {plan.layer.name: opened.cores(plan.layer.name)[rows] for plan in opened.plans}
    _rewrite(opened, stacks, rows, None)


def _projected(
    source: Source, plan: LayerPlan, left: Floats, right: Floats, center: Floats | None
) -> tuple[Floats, float, float]:
    """The core of a new model's layer, its squared norm about the centre, and how much of that the basis captures."""
    key = source.find(plan.layer.name)
    if key is None or key.shape != plan.layer.shape:
        has = "does not have it" if key is None else f"has it as {key.shape[0]} x {key.shape[1]}"
        raise CollectionError(f"{plan.layer.name} is {plan.layer.shape[0]} x {plan.layer.shape[1]}; the model {has}")
    values = source.read(plan.layer.name)
    if isinstance(values, LowRank) != (center is None):
        raise LayerError(f"{plan.layer.name}: updates join compressed adapters, whole weights compressed weights")
    if isinstance(values, LowRank):
        up, down = values.up.double().numpy() * values.scale, values.down.double().numpy()
        norm2 = float(np.sum((up.T @ up) * (down @ down.T)))
        if plan.method is Method.DIAGONAL:
            inner = (left.T @ left) * (right.T @ right)
            core = np.linalg.lstsq(inner, np.sum((up.T @ left) * (down @ right), axis=0), rcond=None)[0]
            return core, norm2, float(core @ inner @ core)
        core = (left.T @ up) @ (down @ right)
    else:
        away = values.double().numpy() - center
        norm2 = float(np.square(away).sum())
        away = away if plan.method is Method.OUT else away @ right
        core = away if plan.method is Method.IN else left.T @ away
    return core, norm2, float(np.square(core).sum())


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
) -> None:
    """The folder with these rows of its members, and one more, written beside it and exchanged.

    Readers see the old folder or the new one.
    """
    folder = opened.path
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    members = [opened.index["members"][row] for row in rows]
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part, copy_function=os.link, ignore=shutil.ignore_patterns(MEMBERS, INDEX, UNTOUCHED))
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
        with TensorFile(part / MEMBERS, layout, metadata={"basis": str(opened.index["basis"])}) as file:
            for name, stack in stacks.items():
                file.write(name, stack)
        index = dict(opened.index) | {"members": members, "revision": opened.index["revision"] + 1}
        (part / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        folder.rename(old)
        part.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise ExportError(f"{folder} cannot be written ({error}); it is as it was") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
