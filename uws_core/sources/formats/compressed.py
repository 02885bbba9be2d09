"""A member of a compressed folder as a model: its layers are rebuilt one by one when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from math import prod
from typing import TYPE_CHECKING, Self

from uws_core.errors import LayerError, UnreadableFile
from uws_core.nouns.loader import Fate, KeyFate, LoaderReport
from uws_core.nouns.models import LayerKey, LeftOut, LowRank, ModelRef
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.base import FileStamp, Rows, within
from uws_core.sources.formats.adapter_layout import MultipleAdapters
from uws_core.sources.formats.subspace_files import SubspaceFiles
from uws_core.sources.formats.tensor_names import nearest, shown

if TYPE_CHECKING:
    from torch import Tensor

    from uws_core.sources.files.blob import Extent, RowReader
    from uws_core.sources.files.header import TensorSpan


class CompressedMember:
    """One member; see `Source` and `Portable`. Untouched tensors are no layers: they are the original's."""

    def __init__(self, ref: ModelRef, folder: SubspaceFiles) -> None:
        if ref.adapter not in folder.members:
            raise UnreadableFile(f"the folder has no member {ref.adapter!r}; it has {len(folder.members)}")
        self.ref, self._folder = ref, folder
        self._number = folder.members.index(ref.adapter)
        self._entry = folder.index["members"][self._number]
        self.stamps: tuple[FileStamp, ...] = ()
        self.format = "adapter" if folder.adapters else "checkpoint"
        self.dialects: tuple[str, ...] = ("peft",) if folder.adapters else ()
        self.low_rank: Set[str] = frozenset(folder.plans if folder.adapters else ())
        self.transposed: Set[str] = frozenset(folder.index["transposed"])
        self.left_out = tuple(
            LeftOut(shown(name), "it was not compressed and is the original's")
            for name, span in folder.untouched_spans(self._number).items()
            if len(span.shape) > 1
        )

    def layers(self) -> tuple[LayerKey, ...]:
        """The compressed layers."""
        return tuple(plan.layer for plan in self._folder.plans.values())

    def find(self, layer: str) -> LayerKey | None:
        """The layer of that name, or the only one with other leading components."""
        name = nearest(layer, self._folder.plans)
        return None if name is None else LayerKey(layer, self._folder.plans[name].layer.shape)

    def digest(self) -> str:
        """The commit of this member."""
        return self._folder.digest(self._number)

    def report(self) -> LoaderReport:
        """What became of every layer and untouched tensor."""
        used = [KeyFate(name, Fate.USED, "rebuilt from basis and core") for name in self._folder.plans]
        rest = self._folder.untouched_spans(self._number)
        ignored = [KeyFate(name, Fate.IGNORED, "not compressed; it is the original's") for name in rest]
        return LoaderReport(str(self.ref), self.format, self.dialects, (*used, *ignored))

    def extents(self, layer: str, rows: Rows = None) -> list[Extent]:
        """Where its slice and the basis lie."""
        return self._folder.extents(self._number, self._plan(layer).layer.name)

    def stored_bytes(self, layer: str) -> int:
        """The bytes of its own slice and of the basis."""
        return sum(extent.nbytes for extent in self.extents(layer))

    def stored_type(self, layer: str) -> str:
        """The type of the stored numbers."""
        return self._folder.stored_type(self._plan(layer).layer.name)

    def read(self, layer: str, rows: Rows = None, *, into: Tensor | None = None) -> Tensor | LowRank:
        """Rows of a rebuilt layer in float32, or the factors of a rebuilt update; see `Source.read`."""
        import torch

        plan = self._plan(layer)
        start, stop = within(plan.layer, rows)
        left, right, center = self._folder.basis(plan.layer.name)
        left, right = left.float(), right.float()
        if plan.method is Method.IN:
            matrix = self._folder.core(self._number, plan.layer.name, (start, stop)).float() @ right.T
        else:
            core = self._folder.core(self._number, plan.layer.name).float()
            # Factors up (m, r) and down (r, p) of a two-sided, diagonal or `out` layer.
            rank = self._entry["ranks"].get(plan.layer.name)
            if plan.method is Method.OUT:
                up, down = left, core
            elif plan.method is Method.DIAGONAL:
                up, down = left * core, right.T
            elif rank is None or rank >= min(core.shape):
                up, down = left @ core, right.T
            else:
                # A core of an update of rank r has rank r: the other directions are rounding.
                turned, sizes, other = torch.linalg.svd(core.double())
                up, down = (left @ (turned[:, :rank] * sizes[:rank]).float()), other[:rank].float() @ right.T
            if self._folder.adapters:
                return LowRank(up[start:stop], down, 1.0)
            matrix = up[start:stop] @ down
        if center is not None:
            matrix = matrix + center[start:stop].float()
        return matrix if into is None else into.copy_(matrix)

    def reader(self, layer: str) -> RowReader | None:
        """None: a layer is a product, not rows of a file."""
        return None

    @property
    def config(self) -> Mapping[str, object]:
        """The adapter configuration it came with; see `Portable`."""
        return self._folder.config(self._number)

    def untouched(self, layers: Iterable[str]) -> dict[str, Tensor]:
        """The untouched tensors, and the rebuilt layers that are none of these; see `Portable`."""
        rest = set(self._folder.plans) - {self._plan(layer).layer.name for layer in layers}
        if rest and self._folder.adapters:
            raise LayerError(f"{self.ref.adapter}: compress all layers of a compressed folder, or rebuild it first")
        named = {name: self._folder.untouched(self._number, name) for name in self._spans}
        return named | {self.stored_as(layer)[0]: self._matrix(layer) for layer in sorted(rest)}

    def untouched_bytes(self, layers: Iterable[str]) -> int:
        """The stored bytes of `untouched`."""
        rest = set(self._folder.plans) - set(layers)
        sizes = (self._folder.extents(self._number, layer)[0].nbytes for layer in rest)
        return sum(span.nbytes for span in self._spans.values()) + sum(sizes)

    def stored_as(self, layer: str) -> tuple[str, tuple[int, ...]]:
        """The stored name and shape in the original model."""
        name, shape = self._entry["stored_as"][self._plan(layer).layer.name]
        return name, tuple(shape)

    def rank(self, layer: str) -> int:
        """The rank of a layer's update as it came; the smaller side of a whole matrix."""
        plan = self._plan(layer)
        return int(self._entry["ranks"].get(plan.layer.name, min(plan.layer.shape)))

    @property
    def _spans(self) -> Mapping[str, TensorSpan]:
        return self._folder.untouched_spans(self._number)

    def _matrix(self, layer: str) -> Tensor:
        """A layer in its stored shape; an update multiplied out."""
        values = self.read(layer)
        matrix = values.up @ values.down if isinstance(values, LowRank) else values
        return matrix.reshape(self.stored_as(layer)[1])

    def _plan(self, layer: str) -> LayerPlan:
        name = nearest(layer, self._folder.plans)
        if name is None:
            raise LayerError(f"{self.ref.repo} has no layer {layer!r}; it has {len(self._folder.plans)}")
        return self._folder.plans[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stop: object) -> None:
        """Nothing is held open."""


class CompressedCheckpoint(CompressedMember):
    """A member that is a whole network; see `Whole`."""

    def state(self) -> dict[str, Tensor]:
        """Every tensor by stored name: untouched ones, and compressed layers as they are rebuilt."""
        return self.untouched([])

    def put(self, state: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state with these layers in it; see `Whole.put`."""
        changed = dict(state)
        for layer, value in layers.items():
            name, shape = self.stored_as(layer)
            changed[name] = value.to(changed[name].dtype).reshape(shape)
        return changed

    def entries(self) -> int:
        """How many numbers all tensors hold together."""
        own = sum(plan.layer.entries for plan in self._folder.plans.values())
        return own + sum(prod(span.shape) for span in self._folder.untouched_spans(self._number).values())


def opened_member(ref: ModelRef, folder: SubspaceFiles) -> CompressedMember:
    """The member that a reference names.

    Raises:
        MultipleAdapters: none is named.
        UnreadableFile: no such member.
    """
    if not ref.adapter:
        raise MultipleAdapters(
            f"{len(folder.members)} models in one compressed folder; name one as part ':name'", folder.members
        )
    return (CompressedMember if folder.adapters else CompressedCheckpoint)(ref, folder)
