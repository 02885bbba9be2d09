"""A compressed collection, on this machine or on the Hub: opened by its headers, members rebuilt one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis.joint_basis import thin
from uws_core.errors import CollectionError, SourceError, UnreadableFile
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import ModelRef
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.base import on_hub
from uws_core.sources.formats.subspace_files import FolderFiles, SubspaceFiles
from uws_core.sources.listing import reference


def open_compressed(folder: str | Path) -> CompressedFolder:
    """Returns a compressed collection: a folder, or `owner/name@revision` on the Hub.

    Reads its index and the headers of its files, no weights.

    Raises:
        UnreadableFile: no such folder, files that do not fit the index, or a version this program does not know.
    """
    path = Path(folder).expanduser()
    ref = ModelRef(str(path), "") if path.exists() else _named(str(folder))
    if ref is not None and on_hub(ref) and not path.exists():
        from uws_core.sources.hub import hub

        ref = hub.at_commit(ref)
        return CompressedFolder(Path(ref.repo), SubspaceFiles(hub.files_of(ref), str(ref)))
    return CompressedFolder(path, SubspaceFiles(FolderFiles(path), str(path)))


@dataclass(frozen=True)
class CompressedFolder:
    """A compressed collection; members by name, each rebuilt from its own slices."""

    path: Path
    files: SubspaceFiles

    @property
    def index(self) -> Mapping[str, Any]:
        """The index as it is stored: layers, members, versions."""
        return self.files.index

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members, in order."""
        return tuple(member["name"] for member in self.index["members"])

    @property
    def plans(self) -> tuple[LayerPlan, ...]:
        """The layers with their methods and directions."""
        return tuple(self.files.plans.values())

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

        `rank` defaults to the rank the member has here, which loses nothing.
        """
        plan = self._plan(layer)
        left, right, _ = self.basis(plan)
        return thin(left, self.core(member, layer), right, rank or self.rank(member, layer))

    def rank(self, member: str, layer: str) -> int:
        """Returns the rank of a member's update here: as it came, k where that is less, and k of a diagonal core."""
        plan, came = self._plan(layer), self.entry(member)["ranks"].get(layer)
        # A two-sided core has at most the rank the update came with; a diagonal one has as many as it has entries.
        return plan.k if plan.method is Method.DIAGONAL or came is None else min(int(came), plan.k)

    def entry(self, member: str) -> Mapping[str, Any]:
        """Returns what the index says of a member."""
        entry: Mapping[str, Any] = self.index["members"][self.number(member)]
        return entry

    def untouched(self, member: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the tensors of a member that were not compressed, by stored name, and its adapter configuration."""
        number = self.number(member)
        names = self.files.untouched_spans(number)
        return {name: self.files.untouched(number, name) for name in names}, self.files.config(number)

    def companions(self, member: str) -> dict[str, bytes]:
        """Returns the files beside a member's weights by name: `config.json`, tokenizer."""
        return self.files.companions(self.number(member))

    def basis(self, plan: LayerPlan) -> tuple[Floats, Floats, Floats | None]:
        """Returns a layer's left (m, k) and right (p, k) directions, and its centre (m, p) or None, in float64."""
        left, right, center = self.files.basis(plan.layer.name)
        stored = None if center is None else center.double().numpy()
        return left.double().numpy(), right.double().numpy(), stored

    def cores(self, layer: str) -> Tensor:
        """Returns every member's core of a layer (n, ...)."""
        return self.files.cores(layer)

    def core(self, member: str, layer: str) -> Floats:
        """Returns one member's core of a layer in float64; reads that slice only."""
        return np.asarray(self.files.core(self.number(member), layer).double().numpy())

    def number(self, member: str) -> int:
        """Returns a member's place.

        Raises:
            CollectionError: no such member.
        """
        if member not in self.members:
            raise CollectionError(
                f"{self.path.name} has no member {member!r}; it has {', '.join(self.members[:5])} and "
                f"{max(len(self.members) - 5, 0)} more"
            )
        return self.members.index(member)

    def _plan(self, layer: str) -> LayerPlan:
        if layer not in self.files.plans:
            raise CollectionError(f"{self.path.name} has no layer {layer!r}; it has {len(self.plans)}")
        return self.files.plans[layer]


def rebuilt(plan: LayerPlan, left: Floats, core: Floats, right: Floats) -> Floats:
    """Returns one model's matrix (m, p) about the centre from its core."""
    if plan.method is Method.IN:
        return np.asarray(core @ right.T)
    if plan.method is Method.OUT:
        return np.asarray(left @ core)
    matrix = np.diag(core) if core.ndim == 1 else core
    return np.asarray(left @ matrix @ right.T)


def _named(text: str) -> ModelRef | None:
    """The repository on the Hub that a text names, or None."""
    try:
        return reference(text)
    except (CollectionError, SourceError) as error:
        raise UnreadableFile(f"{text} is no compressed collection: {error}") from error
