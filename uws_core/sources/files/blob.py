"""The bytes of one file by range: the one interface of a disk and of a network.

Everything above (headers, shards, adapters) reads through a `Blob`, so a folder and a Hub repository share one reader.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from uws_core.errors import UnreadableFile
from uws_core.nouns.models import LayerKey
from uws_core.sources.files.header import FIRST_READ, PREFIX, Header, TensorSpan, header_length, parse_header
from uws_core.sources.files.look_alikes import FIRST_BYTES, TEXT, what_is

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Path, size, times of last change of content and of entry: while they stand, what was read in this process is current.
Stamp = tuple[str, int, int, int]
# A file written twice within one tick of its clock keeps its times, so a younger one is read anew.
SETTLED_NS = 2_000_000_000
# A header of 300 tensors takes about 150 kB once parsed.
_MOST_HEADERS: Final = 1024
_headers: Final[dict[Stamp, Header]] = {}


def is_settled(stamps: Sequence[Stamp]) -> bool:
    """Whether a further change of these files would show in their stamps."""
    return time.time_ns() - max(max(stamp[2:]) for stamp in stamps) > SETTLED_NS


class Blob(Protocol):
    """One file that never changes while it is read; no handle stays open between calls."""

    @property
    def name(self) -> str:
        """The file's path inside its model, posix form, for messages."""
        ...

    @property
    def size(self) -> int:
        """The file's bytes."""
        ...

    @property
    def far(self) -> bool:
        """Whether its bytes come over a network."""
        ...

    @property
    def piece(self) -> int:
        """The bytes of one read that this place serves well: small on a disk, large over a network."""
        ...

    @property
    def head(self) -> int:
        """The bytes from the start that one read should take, to find the header with no second one."""
        ...

    def read(self, start: int, stop: int, *, into: memoryview | None = None) -> memoryview:
        """Bytes `[start, stop)`, written into `into` (exactly that long) when given.

        Raises:
            UnreadableFile: fewer bytes are there.
        """
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes `[start, stop)` of a file."""

    blob: Blob
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.stop - self.start


class FileBlob:
    """A file on this machine's disk."""

    far = False
    # Fits a second-level cache, so that a cast finds its input there: 2 MiB was fastest of 1 to 32.
    piece = 2 * 2**20
    head = FIRST_READ

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self._place = str(path)
        self.name = name or path.name
        self.size = path.stat().st_size

    @property
    def tag(self) -> str:
        """The sha256 of the content where the Hub client's cache names the file by it; empty elsewhere."""
        name = self.path.resolve().name
        return name if len(name) == 64 and self.path.is_symlink() else ""

    def stamp(self) -> Stamp:
        """What the file system knows of the file, to notice a change without reading it."""
        entry = os.stat(self._place)  # noqa: PTH116 - three times as fast as through Path
        return (self._place, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)

    def read(self, start: int, stop: int, *, into: memoryview | None = None) -> memoryview:
        """Bytes `[start, stop)`; see `Blob.read`."""
        target = np.empty(stop - start, dtype=np.uint8).data if into is None else into
        at = 0
        if not len(target):
            return target
        # Through Path it takes twice as long, and a scan does it for every layer of every model.
        with open(self._place, "rb", buffering=0) as file:  # noqa: PTH123
            file.seek(start)
            # One readinto moves at most 2 GiB on Linux.
            while at < len(target) and (moved := file.readinto(target[at:])):
                at += moved
        if at < len(target):
            raise UnreadableFile(f"{self.name}: expected bytes {start:,} to {stop:,}, it ends at {start + at:,}")
        return target


def read_header(blob: Blob) -> Header:
    """The checked header of a safetensors file, in one read when `Blob.head` holds it, else in two.

    Headers of files on disk that this process has read are cached while the file's stamp stays.

    Raises:
        UnreadableFile: damaged, truncated, or no safetensors file; the message does not name the file.
    """
    stamp = blob.stamp() if isinstance(blob, FileBlob) else None
    if stamp and (cached := _headers.get(stamp)):
        return cached
    size = blob.size
    first = blob.read(0, min(blob.head, size))
    try:
        end = PREFIX + header_length(bytes(first[:PREFIX]), file_size=size)
    except UnreadableFile as error:
        # Of a file of a few bytes the error says all there is.
        if (known := what_is(bytes(first[:FIRST_BYTES]), size)) and size >= PREFIX:
            raise UnreadableFile(f"{error}: {known}" if known.startswith(TEXT) else known) from error
        raise
    text = bytes(first[PREFIX:end])
    if end > len(first):
        text += bytes(blob.read(len(first), end))
    header = parse_header(text, file_size=size)
    if stamp and is_settled([stamp]):
        if len(_headers) >= _MOST_HEADERS:
            _headers.clear()
        _headers[stamp] = header
    return header


class RowReader:
    """Rows of one tensor seen as a matrix, read again and again: what the reads have in common is worked out once."""

    def __init__(self, blob: Blob, span: TensorSpan, layer: LayerKey) -> None:
        self.dtype = torch_dtypes()[span.dtype]
        self._blob, self._start, self._width = blob, span.start, layer.shape[1]
        self._row_bytes = span.nbytes // layer.shape[0]

    def raw(self, start: int, stop: int, memory: memoryview) -> None:
        """The bytes of rows `start` to `stop` as they are stored, into the first bytes of `memory`."""
        first, size = self._start + start * self._row_bytes, (stop - start) * self._row_bytes
        self._blob.read(first, first + size, into=memory[:size])

    def read(self, start: int, stop: int, *, into: Tensor | None = None) -> Tensor:
        """Rows `(stop - start, p)` in the stored dtype, or cast into `into`."""
        import torch

        target = torch.empty((stop - start, self._width), dtype=self.dtype) if into is None else into
        if target.dtype == self.dtype and target.is_contiguous():
            self.raw(start, stop, bytes_of(target))
            return target
        self.cast(start, stop, target, self.piece(stop - start))
        return target

    def piece(self, rows: int) -> Tensor:
        """Memory (some rows, p) of the stored dtype that `cast` goes through."""
        import torch

        return torch.empty((min(rows, max(1, self._blob.piece // self._row_bytes)), self._width), dtype=self.dtype)

    def cast(self, start: int, stop: int, into: Tensor, piece: Tensor) -> None:
        """Rows `start` to `stop` into the first of `into`, in its dtype; no second buffer of their size exists."""
        memory, step = bytes_of(piece), max(1, piece.shape[0])
        for row in range(start, stop, step):
            count = min(step, stop - row)
            self.raw(row, row + count, memory)
            into[row - start : row - start + count].copy_(piece[:count])


def torch_dtypes() -> Mapping[str, torch.dtype]:
    """The types that stored entries are read as, by the names of the format."""
    import torch

    return {
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I8": torch.int8,
        "U8": torch.uint8,
        "I16": torch.int16,
        "I32": torch.int32,
        "I64": torch.int64,
    }


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor as writable bytes."""
    import torch

    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
