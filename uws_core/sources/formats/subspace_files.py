"""The files of a compressed folder, read by ranges on a disk or on the Hub: index, bases, cores, untouched tensors.

subspace.json          layers, methods, directions, members with commits and errors, versions
basis.safetensors      per layer `name/left` (m, k), `name/right` (p, k), `name/center` (m, p)
members.safetensors    per layer one tensor (n, ...), so that one member is one slice a layer
untouched/NUMBER.safetensors   what of a member is not compressed, with its adapter configuration in the header
files/DIGEST           configurations and tokenizers, each stored once
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uws_core.errors import UnreadableFile
from uws_core.nouns.models import LayerKey
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.sources.base import FileStamp
from uws_core.sources.files.blob import (
    SETTLED_NS,
    Blob,
    Extent,
    FileBlob,
    RowReader,
    Stamp,
    is_settled,
    read_header,
    torch_dtypes,
)
from uws_core.sources.files.header import TensorSpan
from uws_core.sources.files.shards import safe_name

if TYPE_CHECKING:
    from torch import Tensor

# Version 2 stores cores of low rank as factors; version 1 has whole cores only.
VERSION: Final = 2
_READ: Final = (1, 2)
INDEX_OF_COMPRESSED, BASIS, MEMBERS, UNTOUCHED, FILES = (
    "subspace.json", "basis.safetensors", "members.safetensors", "untouched", "files"
)  # fmt: skip
# An index of 1,000 members of 200 layers takes 20 MB.
_LONGEST_INDEX: Final = 2**28
# Bases stay in memory while the members of a layer are read one after another.
_BASES: Final = 2
_SAMPLE: Final = 4096
_MOST_OPEN: Final = 8
_opened: Final[dict[str, tuple[Stamp, SubspaceFiles]]] = {}
_lock: Final = threading.Lock()


def is_compressed(files: Mapping[str, Blob]) -> bool:
    """Whether the files are those of a compressed folder."""
    return INDEX_OF_COMPRESSED in files and BASIS in files and MEMBERS in files


class FolderFiles(Mapping[str, Blob]):
    """The files below a folder on this machine by relative name, each opened when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> Blob:
        path = self.folder / safe_name(name)
        if not path.is_file():
            raise KeyError(name)
        return FileBlob(path, name)

    def __iter__(self) -> Iterator[str]:
        return (path.relative_to(self.folder).as_posix() for path in sorted(self.folder.rglob("*")) if path.is_file())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def folder_files(folder: Path) -> SubspaceFiles:
    """The compressed folder on this machine; the same object while its index is unchanged, so bases are shared.

    Raises:
        UnreadableFile: see `SubspaceFiles`.
    """
    stamp = FileBlob(folder / INDEX_OF_COMPRESSED).stamp()
    with _lock:
        known = _opened.get(str(folder))
    if known is not None and known[0] == stamp and is_settled([stamp]):
        return known[1]
    opened = SubspaceFiles(FolderFiles(folder), str(folder))
    with _lock:
        _opened[str(folder)] = stamp, opened
        while len(_opened) > _MOST_OPEN:
            del _opened[next(iter(_opened))]
    return opened


def folder_stamps(folder: Path, *, started_ns: int) -> tuple[FileStamp, ...]:
    """The stamps of the files that all members share; none if one is too young to prove that nothing changed."""
    stamps = tuple(FileBlob(folder / name).stamp() for name in (INDEX_OF_COMPRESSED, BASIS, MEMBERS))
    entries = tuple((path, size, os.stat(path).st_ino, mtime, ctime) for path, size, mtime, ctime in stamps)  # noqa: PTH116
    newest = max(max(stamp[3:]) for stamp in entries)
    return entries if started_ns - newest > SETTLED_NS else ()


class SubspaceFiles:
    """A compressed folder: its index and headers are read once, everything else by ranges.

    Raises:
        UnreadableFile: files that are missing or do not fit the index, or a version that is not known.
    """

    def __init__(self, files: Mapping[str, Blob], name: str) -> None:
        self.files, self.name = files, name
        try:
            index = files[INDEX_OF_COMPRESSED]
            self.index: Mapping[str, Any] = json.loads(bytes(index.read(0, min(index.size, _LONGEST_INDEX))))
            headers = {file: read_header(files[file]) for file in (BASIS, MEMBERS)}
            self._spans = {file: header.spans for file, header in headers.items()}
            self._check({file: header.metadata.get("basis", "1") for file, header in headers.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UnreadableFile) as error:
            raise UnreadableFile(
                f"{name} is no compressed collection, or is damaged ({type(error).__name__}: {error}); expected a "
                f"folder that `uws compress` wrote, with {INDEX_OF_COMPRESSED}, {BASIS} and {MEMBERS}"
            ) from error
        self._bases: OrderedDict[str, tuple[Tensor, Tensor, Tensor | None]] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The names of the members, in order."""
        return tuple(member["name"] for member in self.index["members"])

    @cached_property
    def plans(self) -> Mapping[str, LayerPlan]:
        """The layers by name, with their methods and directions."""
        plans = (
            LayerPlan(
                LayerKey(layer["name"], (layer["shape"][0], layer["shape"][1])),
                Method(layer["method"]),
                layer["k"],
                layer["shared_numbers"],
                layer["member_numbers"],
                layer.get("core_rank", 0),
            )
            for layer in self.index["layers"]
        )
        return {plan.layer.name: plan for plan in plans}

    @property
    def adapters(self) -> bool:
        """Whether the members are updates of a base, else whole weights."""
        return bool(self.index["kind"] == "adapters")

    def basis(self, layer: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """A layer's left (m, k) and right (p, k) directions and its centre (m, p) or None, as stored."""
        with self._lock:
            if layer in self._bases:
                self._bases.move_to_end(layer)
                return self._bases[layer]
        left, right = (self._tensor(BASIS, f"{layer}/{side}") for side in ("left", "right"))
        center = self._tensor(BASIS, f"{layer}/center") if f"{layer}/center" in self._spans[BASIS] else None
        with self._lock:
            self._bases[layer] = left, right, center
            while len(self._bases) > _BASES:
                self._bases.popitem(last=False)
        return left, right, center

    def core(self, number: int, layer: str, rows: tuple[int, int] | None = None) -> Tensor:
        """One member's core of a layer, or rows of a whole one; nothing else is read."""
        if self.plans[layer].core_rank:
            return self._whole(layer, self._slice(number, layer))
        return self._slice(number, layer, rows)

    def cores(self, layer: str) -> Tensor:
        """Every member's core of a layer (n, ...)."""
        stored = self.stored_cores(layer)
        return self._whole(layer, stored) if self.plans[layer].core_rank else stored

    def stored_cores(self, layer: str) -> Tensor:
        """The same as stored: thin cores (n, k + k', r) as their factors, one below the other."""
        return self._tensor(MEMBERS, layer)

    def left_directions(self, layer: str) -> int:
        """The number of stored directions of the outputs."""
        return int(self._spans[BASIS][f"{layer}/left"].shape[1])

    def _whole(self, layer: str, factors: Tensor) -> Tensor:
        """Cores (..., k, k') in single precision from their factors (..., k + k', r)."""
        k = self.left_directions(layer)
        return factors[..., :k, :].float() @ factors[..., k:, :].float().mT

    def _slice(self, number: int, layer: str, rows: tuple[int, int] | None = None) -> Tensor:
        span = self._spans[MEMBERS][layer]
        shape = span.shape[1:]
        if not span.nbytes:
            return self._tensor(MEMBERS, layer)[number]
        start, stop = rows or (0, shape[0])
        reader = RowReader(self.files[MEMBERS], span, LayerKey(layer, (span.shape[0] * shape[0], prod(shape[1:]))))
        return reader.read(number * shape[0] + start, number * shape[0] + stop).reshape(stop - start, *shape[1:])

    def extents(self, number: int, layer: str) -> list[Extent]:
        """Where a member's layer lies: its own slice, then the basis of all."""
        span, home = self._spans[MEMBERS][layer], self.files[MEMBERS]
        size = span.nbytes // max(span.shape[0], 1)
        own = Extent(home, span.start + number * size, span.start + (number + 1) * size)
        shared = [one for name, one in self._spans[BASIS].items() if name.rpartition("/")[0] == layer]
        return [own, *(Extent(self.files[BASIS], one.start, one.stop) for one in shared if one.nbytes)]

    def stored_type(self, layer: str) -> str:
        """The type of the stored numbers, such as F32."""
        return self._spans[MEMBERS][layer].dtype

    def basis_spans(self) -> Mapping[str, TensorSpan]:
        """Where the bases lie in their file."""
        return self._spans[BASIS]

    def untouched_spans(self, number: int) -> Mapping[str, TensorSpan]:
        """Where a member's untouched tensors lie in their file."""
        return read_header(self.files[untouched_name(number)]).spans

    def untouched(self, number: int, name: str) -> Tensor:
        """One tensor of a member that is not compressed."""
        blob = self.files[untouched_name(number)]
        return _read(blob, self.untouched_spans(number)[name])

    def config(self, number: int) -> dict[str, Any]:
        """A member's adapter configuration; empty for whole weights."""
        return dict(json.loads(read_header(self.files[untouched_name(number)]).metadata.get("config", "{}")))

    def companions(self, number: int) -> dict[str, bytes]:
        """The files beside a member's weights by plain name: its configuration and tokenizer."""
        named = self.index["members"][number].get("files", {})
        blobs = {safe_name(name): self.files[f"{FILES}/{safe_name(digest)}"] for name, digest in named.items()}
        return {name: bytes(blob.read(0, blob.size)) for name, blob in blobs.items() if "/" not in name}

    def digest(self, number: int) -> str:
        """A digest of what a member is here: the layout, its entry, and a sample of every basis and of its cores."""
        kept = {name: value for name, value in self.index.items() if name not in ("members", "revision", "collection")}
        found = sha256(json.dumps([kept, self.index["members"][number]], sort_keys=True).encode())
        for layer in self.plans:
            for extent in self.extents(number, layer):
                start = extent.start + max(0, (extent.nbytes - _SAMPLE) // 2)
                found.update(extent.blob.read(start, min(start + _SAMPLE, extent.stop)))
        return found.hexdigest()[:40]

    def _tensor(self, file: str, name: str) -> Tensor:
        return _read(self.files[file], self._spans[file][name])

    def _check(self, bases: Mapping[str, str]) -> None:
        """Compares the headers of the files with the index; `bases` are the versions of the basis that they name.

        Raises:
            ValueError: another version, or tensors that are missing or of another shape.
        """
        if self.index["version"] not in _READ:
            raise ValueError(f"version {self.index['version']}, this program reads versions up to {VERSION}")
        if self.index["kind"] not in ("adapters", "weights"):
            raise ValueError(f"the kind {self.index['kind']!r} is not known")
        newest = max(int(member["basis"]) for member in self.index["members"])
        for file, version in bases.items():
            if int(version) != self.index["basis"] or newest > int(version):
                raise ValueError(
                    f"{file} has version {version} of the basis, the index {self.index['basis']} and its members up to "
                    f"{newest}; copy the whole folder again, or take a member out and let it join this basis"
                )
        for name in self.plans:
            shape = self._spans[MEMBERS][name].shape
            if shape[0] != len(self.members):
                raise ValueError(f"{name} holds {shape[0]} members, the index {len(self.members)}")
            if not {f"{name}/left", f"{name}/right"} <= set(self._spans[BASIS]):
                raise ValueError(f"{BASIS} has no directions of {name}")
        numbers = range(len(self.members))
        missing = [self.members[number] for number in numbers if untouched_name(number) not in self.files]
        if missing:
            raise ValueError(f"untouched weights of {', '.join(missing[:3])} are missing")
        digests = {digest for member in self.index["members"] for digest in member.get("files", {}).values()}
        if lost := [digest for digest in sorted(digests) if f"{FILES}/{digest}" not in self.files]:
            raise ValueError(f"{len(lost)} files of configurations are missing, the first is {lost[0][:12]}")


def untouched_name(number: int) -> str:
    """The file of a member's untouched tensors."""
    return f"{UNTOUCHED}/{number:05d}.safetensors"


def _read(blob: Blob, span: TensorSpan) -> Tensor:
    import torch

    kind = torch.bool if span.dtype == "BOOL" else torch_dtypes()[span.dtype]
    if not span.nbytes:
        return torch.zeros(span.shape, dtype=kind)
    return torch.frombuffer(blob.read(span.start, span.stop), dtype=kind).reshape(span.shape)
