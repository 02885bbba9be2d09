"""The named tensors of one model in one file or many, on a disk or on the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from uws_core.errors import LayerError, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.sources.base import Rows, within
from uws_core.sources.files.blob import Blob, Extent, RowReader, read_header, torch_dtypes
from uws_core.sources.files.header import BITS, TensorSpan
from uws_core.sources.files.parts import families, family_reason
from uws_core.sources.files.shards import Layout, not_read, placed
from uws_core.sources.formats.adapter_keys import is_telling, parsed

if TYPE_CHECKING:
    from torch import Tensor

# The bytes of each tensor that its digest sees, from its middle: one page of a disk.
SAMPLE: Final = 4096
# What PEFT calls an adapter's weights, and what it writes beside them.
ADAPTER: Final = "adapter_model"
CONFIG: Final = "adapter_config.json"
# What transformers and MLX write beside a model; MLX tells there how its words of 32 bits are packed.
MODEL_CONFIG: Final = "config.json"
_TOLD_THERE: Final = "U32"
# The types of packed weights and their companions, and of weights of eight bits.
PACKED_TYPES: Final = frozenset(
    {"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
     "I16", "U16", "I32", "U32"}
)  # fmt: skip
# A longer configuration is refused where it is understood.
LONGEST_CONFIG: Final = 10_000_001


@dataclass(frozen=True)
class Tensors:
    """Every tensor by name, in the order of files and bytes, with the file it lies in."""

    spans: Mapping[str, TensorSpan]
    homes: Mapping[str, Blob]
    blobs: tuple[Blob, ...]
    # The notes in the files' headers, and the adapter configuration that lies beside them; empty when there is none.
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: bytes = b""
    # Files beside these tensors that are not read.
    left_out: tuple[LeftOut, ...] = ()
    # The model's own configuration, read only where it tells how weights are packed.
    model_config: bytes = b""

    @cached_property
    def by_adapter(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the tensors by the adapter they name; those that name none are in no entry."""
        found: dict[str, list[str]] = {}
        for name in self.spans:
            if (key := parsed(name)) and key.adapter:
                found.setdefault(key.adapter, []).append(name)
        return MappingProxyType({adapter: tuple(names) for adapter, names in found.items()})

    def of_adapter(self, adapter: str) -> Self:
        """One adapter's tensors with those that name none. Price: its own, after the first."""
        names = (*self.by_adapter[adapter], *self._of_none)
        own = copy(self)
        # A copy, since subclasses have more fields.
        for known in ("by_adapter", "_of_none"):
            own.__dict__.pop(known, None)
        object.__setattr__(own, "spans", MappingProxyType({name: self.spans[name] for name in names}))
        return own

    @cached_property
    def _of_none(self) -> tuple[str, ...]:
        named = {name for names in self.by_adapter.values() for name in names}
        return tuple(name for name in self.spans if name not in named)

    def span(self, name: str) -> TensorSpan:
        """The tensor of that name.

        Raises:
            LayerError: there is none.
        """
        if name not in self.spans:
            raise LayerError(f"no tensor {name!r} among the {len(self.spans)} that are stored")
        return self.spans[name]

    def read(self, name: str, view: tuple[int, int], rows: Rows = None, *, into: Tensor | None = None) -> Tensor:
        """Rows of a tensor seen as a `view[0] x view[1]` matrix; see `Source.read`.

        Raises:
            LayerError: no such tensor, or rows outside it.
            UnreadableFile: the bytes are not there.
        """
        span = self.span(name)
        key = LayerKey(name, view)
        start, stop = within(key, rows)
        if into is not None and tuple(into.shape) != (stop - start, view[1]):
            raise LayerError(f"{name}: rows {start} to {stop} are {stop - start} x {view[1]}, not {tuple(into.shape)}")
        return RowReader(self.homes[name], span, key).read(start, stop, into=into)

    def reader(self, name: str, view: tuple[int, int]) -> RowReader:
        """What reads rows of a tensor seen as a matrix many times.

        Raises:
            LayerError: no such tensor.
        """
        return RowReader(self.homes[name], self.span(name), LayerKey(name, view))

    def extent(self, name: str, rows: Rows = None, of: int = 1) -> Extent:
        """Where a tensor lies, or some of the `of` rows that it has as a matrix.

        Raises:
            LayerError: no such tensor.
        """
        span = self.span(name)
        start, stop = rows or (0, of)
        row = span.nbytes // of
        return Extent(self.homes[name], span.start + start * row, span.start + stop * row)

    def number(self, name: str) -> float:
        """The one entry of a tensor that is a single number, of any type.

        Raises:
            LayerError: it has more than one.
        """
        import torch

        span = self.span(name)
        if span.nbytes * 8 != BITS[span.dtype] or span.dtype not in torch_dtypes():
            raise LayerError(f"{name} is {span.dtype} of shape {span.shape}, a single number was expected")
        raw = self.homes[name].read(span.start, span.stop)
        return float(torch.frombuffer(raw, dtype=torch_dtypes()[span.dtype]).item())

    def digest(self) -> str:
        """Digests size, layout, a 4 KiB sample of every tensor, and the configuration; no path, time or file name."""
        found = hashlib.sha256()
        for name, span in self.spans.items():
            home = self.homes[name]
            found.update(repr((name, span.dtype, span.shape, span.start, home.size)).encode())
            start = span.start + max(0, (span.nbytes - SAMPLE) // 2)
            found.update(home.read(start, min(start + SAMPLE, span.stop)))
        found.update(self.config + self.model_config)
        return found.hexdigest()[:40]


def open_tensors(files: Mapping[str, Blob], layout: Layout) -> Tensors:
    """The tensors that `layout` finds among the `files` of one model. Price: one or two small reads a file.

    Raises:
        OutsideRoot: the index leads out of the folder.
        UnreadableFile: a file is damaged or missing, or does not hold what the index says.
        UnsupportedFormat: the files are ranks that hold slices of the same tensors.
    """
    folder = (layout.index or layout.files[0]).rpartition("/")[0]
    expected: Mapping[str, Sequence[str]] = dict.fromkeys(layout.files, ())
    if layout.index:
        index = files[layout.index]
        expected = placed(bytes(index.read(0, index.size)), names=files.keys(), folder=folder)
    spans: dict[str, TensorSpan] = {}
    homes: dict[str, Blob] = {}
    metadata: dict[str, str] = {}
    for name, tensors in expected.items():
        blob = files[name]
        try:
            header = read_header(blob)
        except UnreadableFile as error:
            raise UnreadableFile(f"{blob.name}: {error}") from error
        if absent := next((tensor for tensor in tensors if tensor not in header.spans), None):
            raise UnreadableFile(f"{blob.name}: the index expects {absent!r} here, the file does not hold it")
        # A tensor in a shard that the index places elsewhere, or nowhere, is still a tensor of the file.
        if twice := next((tensor for tensor in header.spans if tensor in spans), None):
            if parts := next(iter(families((PurePosixPath(one).name for one in expected), is_model=True).values()), ()):
                raise UnsupportedFormat(f"{family_reason(parts)}: each holds a slice of {twice!r}")
            raise UnreadableFile(f"{blob.name}: {twice!r} also stands in {homes[twice].name}")
        spans |= header.spans
        homes |= dict.fromkeys(header.spans, blob)
        metadata |= header.metadata
    rest = [name for name in layout.rest if name not in expected]
    return Tensors(
        MappingProxyType(spans),
        MappingProxyType(homes),
        tuple(files[name] for name in expected),
        MappingProxyType(metadata),
        _config(files, folder, list(expected), spans),
        not_read(rest, layout.index or _named(layout.files)) if rest else (),
        _model_config(files, folder, spans),
    )


def _config(files: Mapping[str, Blob], folder: str, weights: Sequence[str], names: Iterable[str]) -> bytes:
    """The adapter configuration beside the weights, if it is theirs."""
    config = files.get(f"{folder}/{CONFIG}" if folder else CONFIG)
    named_so = all(PurePosixPath(name).name.startswith(ADAPTER) for name in weights)
    if config is None or not (named_so or takes_config(names)):
        return b""
    return bytes(config.read(0, min(config.size, LONGEST_CONFIG)))


def _model_config(files: Mapping[str, Blob], folder: str, spans: Mapping[str, TensorSpan]) -> bytes:
    """The model's own configuration, where a tensor is of the type whose packing it tells."""
    config = files.get(f"{folder}/{MODEL_CONFIG}" if folder else MODEL_CONFIG)
    if config is None or all(span.dtype != _TOLD_THERE for span in spans.values()):
        return b""
    return bytes(config.read(0, min(config.size, LONGEST_CONFIG)))


def takes_config(names: Iterable[str]) -> bool:
    """Whether tensors of these names belong to an adapter whose scale is in the configuration that PEFT writes.

    kohya's trainer and ComfyUI write the scale into the file, and PEFT would read their names in another way.
    """
    telling = next(filter(is_telling, names), None)
    key = parsed(telling) if telling else None
    return key is not None and key.dialect not in ("kohya", "comfyui")


def _named(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"
