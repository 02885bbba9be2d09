"""A checkpoint: a model whose tensors are its weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from math import prod
from typing import TYPE_CHECKING, Self

import numpy as np

from uws_core.errors import LayerError
from uws_core.nouns.loader import Fate, KeyFate, LoaderReport
from uws_core.nouns.models import LayerKey, LeftOut, ModelRef
from uws_core.sources.base import FileStamp, Rows, within
from uws_core.sources.companions import model_config
from uws_core.sources.files.header import FLOATS, TensorSpan, as_layer
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats import float8
from uws_core.sources.formats.model_buffers import buffer_reason
from uws_core.sources.formats.packed import find_packed, unpacked_notes
from uws_core.sources.formats.tensor_names import (
    LayerNames,
    first_rows,
    inputs_first,
    nearest,
    shown,
    too_long,
    unwrapped,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from uws_core.sources.files.blob import Extent, RowReader

# Counters and masks: no weights to compare, and what a network is loaded with.
_WHOLE_NUMBERS = frozenset({"BOOL", "U8", "I8", "I16", "I32", "I64"})


class Checkpoint:
    """Every matrix of a checkpoint as a layer, named without what compilers and parallel trainers add; see `Source`.

    Eight-bit weights are read times their scale, packed weights unpacked, both in float32.
    """

    format = "checkpoint"
    dialects: tuple[str, ...] = ()
    low_rank: Set[str] = frozenset()
    stamps: tuple[FileStamp, ...] = ()

    def __init__(self, ref: ModelRef, tensors: Tensors) -> None:
        self.ref = ref
        self._tensors = tensors
        # Layer to stored name, and eight-bit weight to the name of its scale, both as they are stored.
        self._stored: dict[str, str] = {}
        self._scales: dict[str, str] = {}
        self._layers: dict[str, LayerKey] = {}
        self._packed = find_packed(tensors)
        self._companions = float8.companions(tensors.spans)
        self._scale_of = {scale: name for name, scales in self._companions.items() for scale in scales}
        # By stored name: what is not compared, or not as it would be with a scale.
        self._notes: dict[str, str] = {}
        for name, span in tensors.spans.items():
            found = self._layer_of(name, span)
            if isinstance(found, LayerKey) and found.name in self._layers:
                found = LeftOut(name, f"{self._stored[found.name]} has the same name without its wrapper, and is used")
            if isinstance(found, LayerKey):
                self._layers[found.name], self._stored[found.name] = found, name
            else:
                self._notes[name] = found.reason
        used = {*self._scales.values(), *self._packed.companions}
        self._notes = {name: why for name, why in self._notes.items() if name not in used}
        unread = (LeftOut(shown(name), why) for name, why in self._notes.items())
        self.left_out = (*unread, *unpacked_notes(self._packed))
        shapes = {name: key.shape for name, key in self._layers.items()}
        self.transposed: Set[str] = LayerNames(inputs_first(shapes), shapes)

    def layers(self) -> tuple[LayerKey, ...]:
        """The layers in the order of the file."""
        return tuple(self._layers.values())

    def find(self, layer: str) -> LayerKey | None:
        """The layer of that name, the first rows of one, or the only one with other leading components."""
        own, count = (layer, None) if layer in self._layers else first_rows(layer)
        name = nearest(own, self._layers)
        if name is None:
            return None
        m, p = self._layers[name].shape
        return LayerKey(layer, (m if count is None else count, p)) if count is None or 0 < count <= m else None

    def digest(self) -> str:
        """The commit of this model on disk."""
        return self._tensors.digest()

    def report(self) -> LoaderReport:
        """What became of every key."""
        scales = {scale: name for name, scale in self._scales.items()} | self._packed.companions
        layers = set(self._stored.values())
        fates = []
        for name in self._tensors.spans:
            if name in self._notes:
                fates.append(KeyFate(name, Fate.USED if name in layers else Fate.IGNORED, self._notes[name]))
            else:
                packed = self._packed.weights.get(name)
                why = f"unpacked: {packed.packing}" if packed else "a layer as it stands"
                why = f"read with {scales[name]}" if name in scales else why
                fates.append(KeyFate(name, Fate.USED, why))
        return LoaderReport(str(self.ref), self.format, (), tuple(fates))

    def extents(self, layer: str, rows: Rows = None) -> list[Extent]:
        """Where its bytes lie, those of its scale included; see `Source.extents`."""
        key, whole = self._located(layer)
        stored = self._stored[whole.name]
        if packed := self._packed.weights.get(stored):
            return packed.extents(self._tensors, *within(key, rows))
        own = self._tensors.extent(stored, within(key, rows), whole.shape[0])
        scale = self._scales.get(stored)
        return [own, self._tensors.extent(scale)] if scale else [own]

    def stored_bytes(self, layer: str) -> int:
        """The bytes that reading the whole layer moves."""
        return sum(extent.nbytes for extent in self.extents(layer))

    def stored_type(self, layer: str) -> str:
        """The type of the layer's numbers."""
        return self._tensors.span(self._stored[self._located(layer)[1].name]).dtype

    def read(self, layer: str, rows: Rows = None, *, into: Tensor | None = None) -> Tensor:
        """Rows of a layer; see `Source.read`."""
        key, whole = self._located(layer)
        stored = self._stored[whole.name]
        rows = within(key, rows)
        if packed := self._packed.weights.get(stored):
            return _into(packed.read(self._tensors, *rows), into)
        if self._tensors.span(stored).dtype in float8.TYPES:
            scale = self._scales.get(stored, "")
            return float8.read(self._tensors, stored, scale, whole.shape, rows, into)
        return self._tensors.read(stored, whole.shape, rows, into=into)

    def reader(self, layer: str) -> RowReader | None:
        """What reads rows of a layer many times; None for packed and eight-bit weights, which have a scale."""
        _, whole = self._located(layer)
        stored = self._stored[whole.name]
        if stored in self._packed.weights:
            return None
        return None if self._tensors.span(stored).dtype in float8.TYPES else self._tensors.reader(stored, whole.shape)

    def state(self) -> dict[str, Tensor]:
        """Every tensor of a readable type under its stored name; eight-bit weights times their scale. See `Whole`."""
        return {name: self._tensor(stored) for name, stored in self._names().items()}

    def put(self, state: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state with these layers in it; see `Whole.put`."""
        changed = dict(state)
        for name, value in layers.items():
            key, whole = self._located(name)
            stored, _ = self.stored_as(whole.name)
            tensor = changed[stored].clone()
            tensor.view(whole.shape)[: key.shape[0]] = value.to(tensor.dtype)
            changed[stored] = tensor
        return changed

    def entries(self) -> int:
        """How many numbers all tensors hold together; of a packed weight its own, not its scales."""
        packed, companions = self._packed.weights, self._packed.companions
        spans = {name: span.shape for name, span in self._tensors.spans.items() if name not in companions}
        return sum(prod(packed[name].shape if name in packed else shape) for name, shape in spans.items())

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration beside the weights; see `Portable`."""
        return dict(json.loads(model_config(self.ref) or b"{}"))

    def untouched(self, layers: Iterable[str]) -> dict[str, Tensor]:
        """Every readable tensor that none of these layers is, counters and masks with them; see `Portable`."""
        compressed = {self.stored_as(layer)[0] for layer in layers}
        # The stored names of counters and masks: whole numbers that no weight is packed in.
        used = {*self._stored.values(), *self._scale_of, *self._packed.weights, *self._packed.companions}
        spans = self._tensors.spans.items()
        names = self._names() | {
            name: name for name, span in spans if span.dtype in _WHOLE_NUMBERS and name not in used
        }
        return {name: self._tensor(stored) for name, stored in names.items() if name not in compressed}

    def untouched_bytes(self, layers: Iterable[str]) -> int:
        """The stored bytes of `untouched`, from the header."""
        compressed = {self._stored[self._located(layer)[1].name] for layer in layers}
        compressed |= {name for name, main in self._packed.companions.items() if main in compressed}
        spans = self._tensors.spans
        return sum(self._tensors.extent(name).nbytes for name in spans if name not in compressed)

    def stored_as(self, layer: str) -> tuple[str, tuple[int, ...]]:
        """A layer's stored name and shape; a packed weight has those that it has unpacked, as in `state`."""
        stored = self._stored[self._located(layer)[1].name]
        if packed := self._packed.weights.get(stored):
            return packed.layer, packed.shape
        return stored, self._tensors.span(stored).shape

    def rank(self, layer: str) -> int:
        """The smaller side of a whole matrix."""
        return min(self._located(layer)[0].shape)

    def _names(self) -> dict[str, str]:
        """The name in `state` of every tensor of a readable type, and its stored one."""
        scales, layers = {*self._scales.values(), *self._packed.companions}, set(self._stored.values())
        found = {}
        for stored, span in self._tensors.spans.items():
            if packed := self._packed.weights.get(stored):
                found[packed.layer] = stored
            elif (span.dtype in FLOATS and stored not in scales) or stored in layers:
                found[stored] = stored
        return found

    def _tensor(self, stored: str) -> Tensor:
        """A tensor of `state` in its own shape."""
        span = self._tensors.span(stored)
        if stored in self._packed.weights or span.dtype in float8.TYPES:
            layer = next(name for name, own in self._stored.items() if own == stored)
            packed = self._packed.weights.get(stored)
            return self.read(layer).reshape(packed.shape if packed else span.shape)
        if span.dtype != "BOOL":
            return self._tensors.read(stored, (1, prod(span.shape))).reshape(span.shape)
        import torch

        raw = self._tensors.homes[stored].read(span.start, span.stop)
        return torch.tensor(list(raw), dtype=torch.uint8).reshape(span.shape).bool()

    def _layer_of(self, name: str, span: TensorSpan) -> LayerKey | LeftOut:
        if problem := too_long(name):
            return LeftOut(name, problem)
        if packed := self._packed.weights.get(name):
            return LayerKey(unwrapped(packed.layer), packed.shape)
        if name in self._packed.companions:
            return LeftOut(name, f"read with {self._packed.companions[name]}")
        if reason := self._packed.refused.get(name):
            return LeftOut(name, reason)
        if name in self._scale_of:
            return LeftOut(name, f"a scale of {self._scale_of[name]}, which is not read with it")
        if span.dtype in float8.TYPES:
            # An eight-bit weight: a layer with its scale, or without one in a file that has none for any weight.
            found = as_layer(name, "F32", span.shape)
            if isinstance(found, LeftOut):
                return found
            scales = self._companions.get(name, ())
            if problem := float8.problem(span.shape, tuple(self._tensors.spans[scale] for scale in scales)):
                return LeftOut(name, problem)
            if scales:
                self._scales[name] = scales[0]
            elif self._scale_of:
                return LeftOut(
                    name, "its numbers of eight bits have no scale that is known, others in this model have one"
                )
            else:
                self._notes[name] = float8.UNSCALED
            return LayerKey(unwrapped(name), found.shape)
        found = as_layer(name, span.dtype, span.shape)
        if isinstance(found, LeftOut):
            return found
        reason = buffer_reason(self._tensors, name, span)
        return LeftOut(name, reason) if reason else LayerKey(unwrapped(name), found.shape)

    def _located(self, layer: str) -> tuple[LayerKey, LayerKey]:
        """A layer, or the part of one, that is asked for, and the stored one that it is or lies in."""
        found = self.find(layer)
        name = layer if layer in self._layers else nearest(first_rows(layer)[0], self._layers)
        if found is None or name is None:
            raise LayerError(f"{self.ref.repo} has no layer {layer!r}; it has {len(self._layers)}")
        return found, self._layers[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stop: object) -> None:
        """Nothing is held open."""


def _into(rows: NDArray[np.float32], into: Tensor | None) -> Tensor:
    """Rows as a tensor, or cast into one.

    Raises:
        LayerError: it is of another shape.
    """
    import torch

    found = torch.from_numpy(np.ascontiguousarray(rows))
    if into is None:
        return found
    if into.shape != found.shape:
        raise LayerError(f"rows of shape {tuple(found.shape)} do not go into {tuple(into.shape)}")
    return into.copy_(found)
