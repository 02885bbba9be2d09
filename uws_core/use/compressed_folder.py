"""The folder of a compressed collection: written once, opened by its header, members rebuilt one by one.

subspace.json          layers, methods, directions, members with commits and errors, versions
basis.safetensors      per layer `name/left` (m, k), `name/right` (p, k), `name/center` (m, p)
members.safetensors    per layer one tensor (n, ...), so that one member is one slice a layer
untouched/NAME.safetensors   what of a model is not compressed, with its configuration in the header
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uws_core.errors import CollectionError, ExportError, UnreadableFile
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import LayerKey, ModelRef
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.base import Portable
from uws_core.sources.opening import open_source
from uws_core.use.fitting import LayerFit, rebuilt
from uws_core.use.tensor_file import TensorFile

if TYPE_CHECKING:
    from uws_core.use.compress import CompressionDraft

VERSION = 1
INDEX, BASIS, MEMBERS, UNTOUCHED = "subspace.json", "basis.safetensors", "members.safetensors", "untouched"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Report = Callable[[float, str], None]


def write_folder(draft: CompressionDraft, fits: Iterable[LayerFit], folder: Path, *, report: Report) -> Path:
    """Writes the folder, which appears under its name only when complete, and returns it.

    Raises:
        ExportError: the folder exists, or the disk is full or read-only.
    """
    if folder.exists():
        raise ExportError(f"{folder} exists; name a new folder, or delete it first")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / UNTOUCHED).mkdir(parents=True)
        _write_layers(draft, fits, part, report)
        members = [_write_untouched(draft, index, part / UNTOUCHED) for index in range(len(draft.members))]
        index = json.dumps(_index(draft, members), indent=1, sort_keys=True) + "\n"
        (part / INDEX).write_text(index, encoding="utf-8")
        part.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error}); nothing was left there") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def open_compressed(folder: str | Path) -> CompressedFolder:
    """Returns a compressed collection; reads its index and the headers of its files, no weights.

    Raises:
        UnreadableFile: no such folder, files that do not fit the index, or a version this program does not know.
    """
    path = Path(folder).expanduser()
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        opened = CompressedFolder(path, index)
        opened.check()
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UnreadableFile(
            f"{path} is no compressed collection, or is damaged ({type(error).__name__}: {error}); expected a folder "
            f"that `uws compress` wrote, with {INDEX}, {BASIS} and {MEMBERS}"
        ) from error
    return opened


@dataclass(frozen=True)
class CompressedFolder:
    """A compressed collection on disk; members by name, each rebuilt from its own slices."""

    path: Path
    index: Mapping[str, Any]

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members, in order."""
        return tuple(member["name"] for member in self.index["members"])

    @cached_property
    def plans(self) -> tuple[LayerPlan, ...]:
        """The layers with their methods and directions."""
        return tuple(
            LayerPlan(
                LayerKey(layer["name"], (layer["shape"][0], layer["shape"][1])),
                Method(layer["method"]),
                layer["k"],
                layer["shared_numbers"],
                layer["member_numbers"],
            )
            for layer in self.index["layers"]
        )

    def check(self) -> None:
        """Compares the headers of the files with the index.

        Raises:
            ValueError: another version, or tensors that are missing or of another shape.
        """
        if self.index["version"] != VERSION:
            raise ValueError(f"version {self.index['version']}, this program reads version {VERSION}")
        with safe_open(self.path / MEMBERS, "pt") as members, safe_open(self.path / BASIS, "pt") as basis:
            for plan in self.plans:
                shape = members.get_slice(plan.layer.name).get_shape()
                if shape[0] != len(self.members):
                    raise ValueError(f"{plan.layer.name} holds {shape[0]} members, the index {len(self.members)}")
                basis.get_slice(f"{plan.layer.name}/left")
        missing = [name for name in self.members if not self._untouched_path(name).is_file()]
        if missing:
            raise ValueError(f"untouched weights of {', '.join(missing[:3])} are missing")

    def layer(self, member: str, layer: str) -> Tensor:
        """Returns one member's layer (m, p) in float32, with the centre of whole weights added.

        Raises:
            CollectionError: no such member or layer.
        """
        plan = self._plan(layer)
        left, right, center = self.basis(plan)
        matrix = rebuilt(plan, left, self.core(member, layer), right)
        return torch.from_numpy(matrix if center is None else matrix + center).float()

    def factors(self, member: str, layer: str, *, rank: int | None = None) -> tuple[Floats, Floats]:
        """Returns an adapter's update as factors up (m, r) and down (r, p), scale included.

        `rank` defaults to the rank the member came with.
        """
        from uws_core.analysis.joint_basis import thin

        plan, number = self._plan(layer), self._number(member)
        left, right, _ = self.basis(plan)
        return thin(
            left, self.core(member, layer), right, rank or self.index["members"][number]["ranks"].get(layer, plan.k)
        )

    def untouched(self, member: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the tensors of a member that were not compressed, by stored name, and its configuration."""
        self._number(member)
        with safe_open(self._untouched_path(member), "pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, config  # noqa: SIM118 - not a mapping

    def basis(self, plan: LayerPlan) -> tuple[Floats, Floats, Floats | None]:
        """Returns a layer's left (m, k) and right (p, k) directions, and its centre (m, p) or None, in float64."""
        name = plan.layer.name
        with safe_open(self.path / BASIS, "pt") as file:
            left, right = (file.get_tensor(f"{name}/{side}").double().numpy() for side in ("left", "right"))
            stored = f"{name}/center" in file.keys()  # noqa: SIM118 - not a mapping
            center = file.get_tensor(f"{name}/center").double().numpy() if stored else None
        return left, right, center

    def cores(self, layer: str) -> Tensor:
        """Returns every member's core of a layer (n, ...), as stored."""
        with safe_open(self.path / MEMBERS, "pt") as file:
            stack: Tensor = file.get_tensor(layer)
            return stack

    def core(self, member: str, layer: str) -> Floats:
        """Returns one member's core of a layer in float64; reads that slice only."""
        number = self._number(member)
        with safe_open(self.path / MEMBERS, "pt") as file:
            return np.asarray(file.get_slice(layer)[number : number + 1][0].double().numpy())

    def _plan(self, layer: str) -> LayerPlan:
        for plan in self.plans:
            if plan.layer.name == layer:
                return plan
        raise CollectionError(f"{self.path.name} has no layer {layer!r}; it has {len(self.plans)}")

    def _number(self, member: str) -> int:
        if member not in self.members:
            raise CollectionError(
                f"{self.path.name} has no member {member!r}; it has {', '.join(self.members[:5])} and "
                f"{max(len(self.members) - 5, 0)} more"
            )
        return self.members.index(member)

    def _untouched_path(self, member: str) -> Path:
        return self.path / UNTOUCHED / f"{self.members.index(member):05d}.safetensors"


def portable(ref: ModelRef) -> Portable:
    """Returns a model as a source that can be stored in two parts.

    Raises:
        CollectionError: its format cannot, such as packed weights.
    """
    source = open_source(ref)
    if not isinstance(source, Portable):
        raise CollectionError(f"{ref}: models in this format cannot be compressed; convert them to safetensors first")
    return source


def _write_layers(draft: CompressionDraft, fits: Iterable[LayerFit], part: Path, report: Report) -> None:
    """Both big files grow layer by layer: bases and cores of one layer are in memory at a time."""
    n, dtype = len(draft.members), _DTYPES[draft.dtype]
    with_center = not draft.low_rank
    basis_shapes: dict[str, tuple[int, ...]] = {}
    member_shapes: dict[str, tuple[int, ...]] = {}
    for plan in draft.layers:
        (m, p), k, name = plan.layer.shape, plan.k, plan.layer.name
        k_left, k_right = min(k, m), min(k, p)
        if plan.method is Method.DIAGONAL:
            k_left = k_right = k
        elif plan.method is Method.IN:
            k_left = 0
        elif plan.method is Method.OUT:
            k_right = 0
        basis_shapes |= {f"{name}/left": (m, k_left), f"{name}/right": (p, k_right)}
        if with_center:
            basis_shapes[f"{name}/center"] = (m, p)
        member_shapes[name] = {
            Method.TWO_SIDED: (n, k_left, k_right),
            Method.DIAGONAL: (n, k),
            Method.IN: (n, m, k_right),
            Method.OUT: (n, k_left, p),
        }[plan.method]
    basis_file, member_file = (
        TensorFile(part / BASIS, basis_shapes, dtype),
        TensorFile(part / MEMBERS, member_shapes, dtype),
    )
    with basis_file as basis, member_file as members:
        for number, fit in enumerate(fits):
            name = fit.plan.layer.name
            basis.write(f"{name}/left", _padded(fit.basis.left, basis_shapes[f"{name}/left"]))
            basis.write(f"{name}/right", _padded(fit.basis.right, basis_shapes[f"{name}/right"]))
            if fit.center is not None:
                basis.write(f"{name}/center", torch.from_numpy(fit.center))
            members.write(name, _padded(fit.basis.cores, member_shapes[name]))
            report((number + 1) / (len(draft.layers) + 1), f"{fit.plan.layer.short} written")


def _padded(values: Floats, shape: tuple[int, ...]) -> Tensor:
    """Zeros where the models span fewer directions than planned."""
    pads = [(0, wanted - found) for found, wanted in zip(values.shape, shape, strict=True)]
    return torch.from_numpy(np.pad(values.astype(np.float64), pads))


def _write_untouched(draft: CompressionDraft, index: int, folder: Path) -> dict[str, Any]:
    """One member's untouched tensors, and its entry in the index."""
    row = draft.members[index]
    source = portable(draft.collection.refs[row])
    names = [plan.layer.name for plan in draft.layers]
    tensors = {name: tensor.contiguous() for name, tensor in source.untouched(names).items()}
    save_file(
        tensors, folder / f"{index:05d}.safetensors", metadata={"config": json.dumps(source.config, sort_keys=True)}
    )
    ref = draft.collection.refs[row]
    return {
        "name": draft.labels[index],
        "commit": ref.commit,
        "error": float(draft.errors[index]),
        "ranks": {name: source.rank(name) for name in names} if draft.low_rank else {},
        "stored_as": {name: source.stored_as(name) for name in names},
    }


def _index(draft: CompressionDraft, members: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": VERSION,
        # Grows by one when a member joins or leaves.
        "revision": 1,
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
            for plan, errors in zip(draft.layers, draft.layer_errors, strict=True)
        ],
    }
