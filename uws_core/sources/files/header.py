"""The header of a safetensors file, read from bytes alone, so that a disk and a network share one reader.

A file is 8 bytes of little-endian header length, that many bytes of JSON, then the tensors' bytes without holes.
Everything in it is a claim until checked here: no later code has to distrust a span.
Source: the format description of the safetensors project.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from uws_core.errors import UnreadableFile
from uws_core.nouns.models import LayerKey, LeftOut

# The bytes before the JSON, and the longest JSON any reader of the format accepts.
PREFIX: Final = 8
LONGEST: Final = 100_000_000
# One read of this size holds the whole header of most files; a longer one takes a second read.
FIRST_READ: Final = 64 * 1024

# Bits per entry of every dtype the format knows.
BITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
        "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
    }
)  # fmt: skip
# No kernel of a one-dimensional convolution is longer; what is, is a stack of matrices.
_LONGEST_KERNEL: Final = 16
# The dtypes whose entries are weights as they stand.
FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})
# Those that a single number, such as an adapter's alpha, is read in.
NUMBERS: Final = FLOATS | {"F8_E4M3", "F8_E5M2", "I8", "U8", "I16", "I32", "I64"}


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """Where one tensor lies: bytes `[start, stop)` of its file, counted from the file's first byte; row-major."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """The tensor's bytes in the file."""
        return self.stop - self.start


@dataclass(frozen=True)
class Header:
    """Every tensor of one file by name, in the order of their bytes, and the file's own notes."""

    spans: Mapping[str, TensorSpan]
    metadata: Mapping[str, str]
    data_start: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", MappingProxyType(dict(self.spans)))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))


def header_length(first: bytes, *, file_size: int) -> int:
    """The bytes of JSON that follow the first 8 bytes of a file, checked against the file and a 100 MB bound.

    Raises:
        UnreadableFile: fewer than 8 bytes, or a length no safetensors file of this size can have.
    """
    if len(first) < PREFIX:
        found = f"found {len(first)} bytes" + ("" if first else ", so the download did not begin, or failed")
        raise UnreadableFile(f"a safetensors file begins with 8 bytes of header length; {found}")
    length = int.from_bytes(first[:PREFIX], "little")
    room = min(file_size - PREFIX, LONGEST)
    if not 2 <= length <= room:
        raise UnreadableFile(
            f"the header claims {length:,} bytes, but at most {max(room, 0):,} are possible in a file of "
            f"{file_size:,} bytes: it is truncated or no safetensors file"
        )
    return length


def parse_header(text: bytes, *, file_size: int) -> Header:
    """The checked header of a file of `file_size` bytes whose JSON is `text` (exactly the claimed length).

    Raises:
        UnreadableFile: no such JSON, a key twice, an unknown shape of entry, bytes that do not fit dtype and shape,
            tensors that overlap, leave holes, or lie beyond the end of the file.
    """
    if not text.startswith(b"{"):
        raise UnreadableFile("the header does not begin with '{': this is no safetensors file")
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    # A nest of a million brackets ends in RecursionError, a number of a million digits in ValueError.
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"the header is not JSON: {str(error)[:200]}") from error
    metadata = entries.pop("__metadata__", {})
    # MLX writes null where it was given no notes.
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnreadableFile("the header's __metadata__ is not a table of texts")
    at = data_start = PREFIX + len(text)
    spans = []
    for name, entry in entries.items():
        spans.append(_span(name, entry, data_start))
    spans.sort(key=lambda span: (span.start, span.stop))
    # Tensors must follow one another without overlap or hole, up to the last byte of the file.
    for span in spans:
        if span.start != at:
            raise UnreadableFile(f"{span.name!r} begins at byte {span.start:,}, expected {at:,}: overlap or hole")
        at = span.stop
    if at != file_size:
        raise UnreadableFile(f"the header describes {at:,} bytes, the file has {file_size:,}: truncated or changed")
    return Header(spans={span.name: span for span in spans}, metadata=metadata, data_start=data_start)


def as_layer(name: str, dtype: str, shape: tuple[int, ...]) -> LayerKey | LeftOut:
    """The layer a tensor is compared as, or why it is none.

    A matrix is itself; a convolution kernel (out, in, kh, kw) becomes out x (in kh kw); a leading axis of length one
    before a matrix, as position embeddings have, is dropped. Three axes of which the last is longer than 16 are a
    stack of matrices, such as a layer's experts (E, m, p), and become (E m) x p, unless `conv` stands in the name.
    """
    if dtype not in FLOATS:
        return LeftOut(name, f"its entries are {dtype}, not float16, bfloat16, float32 or float64")
    if 0 in shape:
        return LeftOut(name, f"it is empty: shape {shape}")
    if len(shape) == 0:
        return LeftOut(name, "it is a scalar, not a matrix")
    if len(shape) == 1 or (len(shape) > 2 and sum(size > 1 for size in shape) < 2):
        return LeftOut(name, f"it is a vector of {math.prod(shape):,} entries, not a matrix")
    if len(shape) == 3 and shape[0] == 1:
        return LayerKey(name, (shape[1], shape[2]))
    if len(shape) == 3 and shape[2] > _LONGEST_KERNEL and "conv" not in name.lower():
        return LayerKey(name, (shape[0] * shape[1], shape[2]))
    return LayerKey(name, (shape[0], math.prod(shape[1:])))


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object as a dict; a key that stands twice is refused, since readers would differ on its meaning."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise UnreadableFile(f"the header names {twice[:200]!r} twice")
    return entries


def _span(name: str, entry: object, data_start: int) -> TensorSpan:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnreadableFile(f"the header's entry for {name!r} is not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnreadableFile(f"{name!r} has the unknown dtype {str(dtype)[:40]!r}")
    # Short lists of whole numbers that a file could hold; bool is no number here.
    are_sizes = isinstance(shape, list) and isinstance(offsets, list) and len(shape) <= 16 and len(offsets) == 2
    if (
        not are_sizes
        or set(map(type, (*shape, *offsets))) != {int}
        or not 0 <= min(*shape, *offsets) <= max(*shape, *offsets) < 2**63
    ):
        raise UnreadableFile(f"{name!r}: shape and data_offsets must be whole numbers from 0, two of them for offsets")
    start, stop = offsets
    bits = BITS[dtype] * math.prod(shape)
    if bits % 8 or stop - start != bits // 8:
        raise UnreadableFile(f"{name!r}: {dtype} of shape {shape} takes {bits / 8:g} bytes, its offsets {stop - start}")
    return TensorSpan(name, dtype, tuple(shape), data_start + start, data_start + stop)
