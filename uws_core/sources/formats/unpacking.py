"""Rows of packed weights as float32: integers of a few bits and four-bit floats, times the scales beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from uws_core.errors import UnreadableFile
from uws_core.sources.files.blob import Extent

if TYPE_CHECKING:
    from uws_core.sources.files.tensors import Tensors

Floats = NDArray[np.float32]

# E2M1, the four-bit float of NVFP4 and MXFP4. Source: OCP Microscaling Formats, table 5.
_FP4: Final[Floats] = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_NUMPY: Final[Mapping[str, str]] = {
    "U8": "u1", "I8": "i1", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1", "I16": "<i2", "BF16": "<u2",
    "F16": "<f2", "I32": "<i4", "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8",
}  # fmt: skip
# The stored types that `numbers` reads.
NUMBERS: Final = frozenset(_NUMPY)


@dataclass(frozen=True)
class PackedWeight:
    """One packed weight: its layer, its `m x p` shape, and the stored name of each part by its role.

    `parts["weight"]` are the packed bytes. `checked` is the stored shape tensor, if any: its entries must be the shape.
    """

    layer: str
    shape: tuple[int, int]
    parts: Mapping[str, str]
    packing: str
    decode: Callable[[PackedWeight, Tensors, int, int], Floats]
    bits: int = 8
    checked: str = ""

    @property
    def main(self) -> str:
        """The stored name of the packed bytes."""
        return self.parts["weight"]

    def read(self, tensors: Tensors, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, `(stop - start, p)`.

        Raises:
            UnreadableFile: the bytes are not there, or the stored shape is another one.
        """
        if self.checked and (found := stored_shape(tensors, self.checked)) != self.shape:
            raise UnreadableFile(f"{self.checked} is {found}, expected {self.shape} as in other models of this layout")
        if stop == start:
            return np.zeros((0, self.shape[1]), np.float32)
        return self.decode(self, tensors, start, stop)

    def extents(self, tensors: Tensors, start: int, stop: int) -> list[Extent]:
        """The bytes that reading rows moves: rows of the parts that have them, other parts whole."""
        found = []
        for name in self.parts.values():
            rows = (
                (start, stop)
                if (self.decode is not hqq_rows and _rows(tensors.span(name).shape) == self.shape[0])
                else None
            )
            found.append(tensors.extent(name, rows, self.shape[0]) if rows else tensors.extent(name))
        return found


def scaled_rows(weight: PackedWeight, tensors: Tensors, start: int, stop: int) -> Floats:
    """`(q - zero) scale` of integers in a little-endian stream of `bits`, or of numbers of eight bits as they stand.

    Source: compressed-tensors `pack_to_int32`; torchao `Int8Tensor`, `Float8Tensor`.
    """
    span = tensors.span(weight.main)
    if span.dtype in ("I32", "U32"):
        words = _raw(tensors, weight.main, start, stop, weight.shape[0])
        # Packed signed integers are stored from zero on.
        values = integers(words, weight.bits, weight.shape[1]) - np.float32(2 ** (weight.bits - 1))
    else:
        values = numbers(tensors, weight.main, start, stop, weight.shape[0]).astype(np.float32)
    if "zero" in weight.parts:
        values = values - _zeros(weight, tensors, start, stop)
    return values * _spread(weight, tensors, "scale", start, stop)


def affine_rows(weight: PackedWeight, tensors: Tensors, start: int, stop: int) -> Floats:
    """`q scale + bias` of unsigned integers. Source: MLX `mx.dequantize`."""
    words = _raw(tensors, weight.main, start, stop, weight.shape[0])
    scale, bias = (_spread(weight, tensors, role, start, stop) for role in ("scale", "bias"))
    return integers(words, weight.bits, weight.shape[1]) * scale + bias


def fp4_rows(weight: PackedWeight, tensors: Tensors, start: int, stop: int) -> Floats:
    """Four-bit floats, the low half of a byte first, times the scale of their block and the global scale.

    `global` multiplies (modelopt's `weight_scale_2`), `divisor` divides (compressed-tensors' `weight_global_scale`).
    """
    packed = _raw(tensors, weight.main, start, stop, weight.shape[0])
    values = _FP4[np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)]
    scale = _spread(weight, tensors, "scale", start, stop)
    if "global" in weight.parts:
        scale = scale * np.float32(_whole(tensors, weight.parts["global"]).reshape(-1)[0])
    if "divisor" in weight.parts:
        scale = scale / np.float32(_whole(tensors, weight.parts["divisor"]).reshape(-1)[0])
    return values * scale


def hqq_rows(weight: PackedWeight, tensors: Tensors, start: int, stop: int) -> Floats:
    """`(q - zero) scale` of groups along the rows; the first groups stand in the highest bits of a byte.

    Source: hqq `BitPack.pack_4bit_u8`, `Quantizer.dequantize`.
    """
    packed = tensors.span(weight.main)
    p, bits, size = weight.shape[1], weight.bits, prod(packed.shape)
    flat = np.arange(start * p, stop * p)
    place = flat % size
    first, last = int(place.min()), int(place.max()) + 1
    raw = np.frombuffer(tensors.homes[weight.main].read(packed.start + first, packed.start + last), np.uint8)
    values = (raw[place - first] >> (8 - bits * (flat // size + 1)).astype(np.uint8)) & (2**bits - 1)
    group = flat // packed.shape[1]
    zero, scale = (_whole(tensors, weight.parts[role]).reshape(-1)[group] for role in ("zero", "scale"))
    return np.asarray((values.astype(np.float32) - zero) * scale, np.float32).reshape(stop - start, p)


def integers(raw: NDArray[np.uint8], bits: int, count: int) -> Floats:
    """The first `count` unsigned integers of `bits` in each row of bytes, a little-endian stream."""
    if bits == 8:
        return raw[:, :count].astype(np.float32)
    if bits == 4:
        return np.stack([raw & 15, raw >> 4], axis=-1).reshape(len(raw), -1)[:, :count].astype(np.float32)
    stream = np.unpackbits(raw, axis=1, bitorder="little")[:, : bits * count].reshape(len(raw), count, bits)
    return (stream @ (1 << np.arange(bits))).astype(np.float32)


def numbers(tensors: Tensors, name: str, start: int, stop: int, m: int) -> NDArray[np.float32 | np.int64]:
    """Rows of a tensor that has `m` of them as numbers of any stored type, `(stop - start, entries of a row)`."""
    return as_numbers(_raw(tensors, name, start, stop, m), tensors.span(name).dtype)


def as_numbers(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32 | np.int64]:
    """Bytes `(..., bytes of a row)` as numbers of a stored type, `(..., entries of a row)`."""
    found = raw.view(_NUMPY[dtype])
    if dtype == "BF16":
        return (found.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E8M0":
        return np.exp2(found.astype(np.float32) - 127)
    if dtype in ("F8_E4M3", "F8_E5M2"):
        import torch

        kind = torch.float8_e4m3fn if dtype == "F8_E4M3" else torch.float8_e5m2
        return np.asarray(torch.from_numpy(found.copy()).view(kind).float().numpy())
    return found.astype(np.float32 if dtype.startswith("F") else np.int64)


def stored_shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    """The entries of a tensor that holds a shape."""
    return tuple(int(size) for size in _whole(tensors, name).reshape(-1))


def _spread(weight: PackedWeight, tensors: Tensors, role: str, start: int, stop: int) -> Floats:
    """A scale for every entry of some rows: one number, one a row, or one a group along the row."""
    name, (m, p) = weight.parts[role], weight.shape
    shape = tensors.span(name).shape
    if prod(shape) == 1:
        return np.asarray(_whole(tensors, name), np.float32).reshape(1, 1)
    found = numbers(tensors, name, start, stop, m)
    if weight.packing.startswith("MXFP4") and tensors.span(name).dtype == "U8":
        found = np.exp2(found.astype(np.float32) - 127)
    groups = found.shape[1]
    spread = found if groups in (1, p) else np.repeat(found, -(-p // groups), axis=1)[:, :p]
    return np.asarray(spread, np.float32)


def _zeros(weight: PackedWeight, tensors: Tensors, start: int, stop: int) -> Floats:
    """The zero points of some rows; compressed-tensors packs them down the rows."""
    name, (m, p) = weight.parts["zero"], weight.shape
    span = tensors.span(name)
    if span.dtype != "I32" or tensors.span(weight.main).dtype != "I32":
        return _spread(weight, tensors, "zero", start, stop)
    words = _whole(tensors, name).astype("<i4")
    columns = np.ascontiguousarray(words.T).view(np.uint8)
    found = integers(columns, weight.bits, m).T[start:stop] - np.float32(2 ** (weight.bits - 1))
    return np.asarray(np.repeat(found, -(-p // found.shape[1]), axis=1)[:, :p], np.float32)


def _whole(tensors: Tensors, name: str) -> NDArray[np.float32 | np.int64]:
    shape = tensors.span(name).shape
    return numbers(tensors, name, 0, 1, 1).reshape(shape)


def _raw(tensors: Tensors, name: str, start: int, stop: int, m: int) -> NDArray[np.uint8]:
    """The bytes of some of the `m` rows of a tensor, `(stop - start, bytes of a row)`."""
    extent = tensors.extent(name, (start, stop), m)
    return np.frombuffer(extent.blob.read(extent.start, extent.stop), np.uint8).reshape(stop - start, -1)


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) < 3 else prod(shape[:2])
