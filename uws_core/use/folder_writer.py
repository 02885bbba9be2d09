"""Writes a compressed folder layer by layer; a killed or stopped writer goes on where it was.

Everything is written into `.NAME.part` beside the folder, which takes its name when it is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from uws_core.analysis.joint_basis import thin_core
from uws_core.errors import ExportError
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.formats.subspace_files import BASIS, INDEX_OF_COMPRESSED, MEMBERS, VERSION
from uws_core.use.beside import write_beside
from uws_core.use.fitting import layer_parts
from uws_core.use.tensor_file import Layout, TensorFile, holds
from uws_core.use.unfinished import alone, empty, replace_text

if TYPE_CHECKING:
    from uws_core.use.compress import CompressionDraft

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Report = Callable[[float, str], None]
# In the unfinished folder: what is being written, how many layers are, and who writes.
_PLAN, _DONE, _LOCK = "plan.json", "layers.done", "writer.lock"


def write_folder(draft: CompressionDraft, folder: Path, *, report: Report) -> Path:
    """Writes the folder, which appears under its name only when complete, and returns it.

    What a killed or stopped writer of the same draft finished is taken over.

    Raises:
        ExportError: the folder exists, is being written by another process, or the disk is full or read-only.
    """
    if folder.exists():
        raise ExportError(f"{folder} exists; name a new folder, or delete it first")
    part = unfinished(folder)
    plan = json.dumps(_index(draft, []), sort_keys=True)
    try:
        part.mkdir(parents=True, exist_ok=True)
        with alone(part / _LOCK, folder):
            if not (part / _PLAN).is_file() or (part / _PLAN).read_text(encoding="utf-8") != plan:
                empty(part, keep=_LOCK)
                replace_text(part / _PLAN, plan)
            _write_layers(draft, part, report)
            names = [planned.layer.name for planned in draft.layers]
            members = []
            for number, row in enumerate(draft.members):
                beside = write_beside(draft.collection.refs[row], names, part, number)
                members.append(
                    {"name": draft.labels[number], "error": float(draft.errors[number]), "basis": 1} | beside
                )
            text = json.dumps(_index(draft, members), indent=1, sort_keys=True) + "\n"
            replace_text(part / INDEX_OF_COMPRESSED, text)
            for name in (_PLAN, _DONE, _LOCK):
                (part / name).unlink(missing_ok=True)
            part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise ExportError(f"{folder} cannot be written ({error}); nothing was left there") from error
    return folder


def unfinished(folder: Path) -> Path:
    """The hidden folder beside the target that is filled while it is written."""
    return folder.with_name(f".{folder.name}.part")


def layouts(plans: tuple[LayerPlan, ...], n: int, dtype: torch.dtype, *, center: bool) -> tuple[Layout, Layout]:
    """Returns the tensors of the file of bases and of the file of members."""
    bases: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    members: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for plan in plans:
        (m, p), name = plan.layer.shape, plan.layer.name
        left, right = directions(plan)
        bases |= {f"{name}/left": ((m, left), dtype), f"{name}/right": ((p, right), dtype)}
        if center:
            bases[f"{name}/center"] = ((m, p), dtype)
        shape = {
            # The two factors of a thin core, one below the other.
            Method.TWO_SIDED: (n, left + right, plan.core_rank) if plan.core_rank else (n, left, right),
            Method.DIAGONAL: (n, plan.k),
            Method.IN: (n, m, right),
            Method.OUT: (n, left, p),
        }[plan.method]
        members[name] = (shape, dtype)
    return bases, members


def directions(plan: LayerPlan) -> tuple[int, int]:
    """Returns the stored directions of the outputs and of the inputs; a side has no more than entries."""
    m, p = plan.layer.shape
    if plan.method is Method.DIAGONAL:
        return plan.k, plan.k
    return (
        0 if plan.method is Method.IN else min(plan.k, m),
        0 if plan.method is Method.OUT else min(plan.k, p),
    )


def _write_layers(draft: CompressionDraft, part: Path, report: Report) -> None:
    """Both big files grow layer by layer: one basis and one model's core are in memory at a time."""
    dtype, count = DTYPES[draft.dtype], len(draft.layers)
    bases, cores = layouts(draft.layers, len(draft.members), dtype, center=not draft.low_rank)
    of_layer, metadata = 2 if draft.low_rank else 3, {"basis": "1"}
    done = int((part / _DONE).read_text(encoding="utf-8")) if (part / _DONE).is_file() else 0
    if not (
        holds(part / BASIS, bases, metadata=metadata, done=of_layer * done)
        and holds(part / MEMBERS, cores, metadata=metadata, done=done)
    ):
        # The machine stopped before the disk had what was written.
        done = 0
    with (
        TensorFile(part / BASIS, bases, metadata=metadata, done=of_layer * done) as basis_file,
        TensorFile(part / MEMBERS, cores, metadata=metadata, done=done) as member_file,
    ):
        for number, plan in enumerate(draft.layers[done:], start=done):
            name, shapes = plan.layer.name, {name: shape for name, (shape, _) in (*bases.items(), *cores.items())}
            with layer_parts(draft.collection, plan, draft.members, about=draft.about, seed=draft.seed) as parts:
                basis_file.write(f"{name}/left", _padded(parts.left, shapes[f"{name}/left"]))
                basis_file.write(f"{name}/right", _padded(parts.right, shapes[f"{name}/right"]))
                if parts.center is not None:
                    basis_file.write(f"{name}/center", parts.center)
                for core in parts.cores:
                    if plan.core_rank:
                        whole = _padded(core, directions(plan))
                        member_file.write_part(name, torch.from_numpy(thin_core(whole.numpy(), plan.core_rank)))
                    else:
                        member_file.write_part(name, _padded(core, shapes[name][1:]))
            basis_file.flush()
            member_file.flush()
            replace_text(part / _DONE, str(number + 1))
            report((number + 1) / (count + 1), f"{plan.layer.short} written")


def _padded(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Zeros where the models span fewer directions than planned."""
    if tuple(values.shape) == tuple(shape):
        return values
    wide = torch.zeros(shape, dtype=values.dtype)
    wide[tuple(slice(0, size) for size in values.shape)] = values
    return wide


def _index(draft: CompressionDraft, members: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {
        "version": VERSION,
        # Grows by one when a member joins or leaves.
        "revision": 1,
        # Grows by one when the basis is extended; each member names the one it came in with.
        "basis": 1,
        "collection": draft.collection.name,
        "fingerprint": draft.collection.fingerprint,
        "kind": "adapters" if draft.low_rank else "weights",
        "about": "zero" if draft.low_rank else draft.about,
        "base": str(draft.collection.base) if draft.collection.base else None,
        "dtype": draft.dtype,
        "seed": draft.seed,
        "transposed": sorted(draft.collection.transposed),
        "members": members,
        "layers": [
            {
                "name": plan.layer.name,
                "shape": list(plan.layer.shape),
                "method": str(plan.method),
                "k": plan.k,
                "shared_numbers": plan.shared_numbers,
                "member_numbers": plan.member_numbers,
                "worst_error": float(errors.max()),
            }
            | ({"core_rank": plan.core_rank} if plan.core_rank else {})
            for plan, errors in zip(draft.layers, draft.layer_errors, strict=True)
        ],
    }
