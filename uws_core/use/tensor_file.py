"""A safetensors file written tensor by tensor, so that no more than one is in memory; a killed writer goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

_NAMES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.bool: "BOOL",
    torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


class TensorFile:
    """Writes tensors of announced names, shapes and types in that order; the same tensors give the same bytes.

    The header comes first, so a reader can map the file while it grows. `done` is how many tensors an earlier writer of
    the same layout has finished, see `holds`: what it wrote behind them is cut off.
    """

    def __init__(self, path: Path, layout: Layout, *, metadata: Mapping[str, str] | None = None, done: int = 0) -> None:
        text, ends = _header(layout, metadata)
        self._rest, self._filled = list(layout.items())[done:], 0
        self._file = path.open("r+b" if done else "wb")
        if done:
            self._file.truncate(len(text) + ends[done])
            self._file.seek(0, os.SEEK_END)
        else:
            self._file.write(text)

    def write(self, name: str, values: Tensor) -> None:
        """Appends the next announced tensor.

        Raises:
            ValueError: another name or shape was announced.
        """
        expected, (shape, _) = self._rest[0]
        if name != expected or tuple(values.shape) != tuple(shape):
            raise ValueError(f"{expected} {shape} was announced; found {name} {tuple(values.shape)}")
        self.write_part(name, values)

    def write_part(self, name: str, values: Tensor) -> None:
        """Appends some of the numbers of the next announced tensor; the last part ends it.

        Raises:
            ValueError: another name was announced, or more numbers than it has.
        """
        expected, (shape, dtype) = self._rest[0]
        self._filled += values.numel()
        numbers = int(torch.Size(shape).numel())
        if name != expected or self._filled > numbers:
            raise ValueError(f"{expected} of {numbers} numbers was announced; found {name}, {self._filled}")
        if values.numel():
            self._file.write(values.to(dtype).contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if self._filled == numbers:
            self._rest, self._filled = self._rest[1:], 0

    def flush(self) -> None:
        """Hands what is written to the system, so that it survives this process."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if error is None and self._rest:
            raise ValueError(f"{len(self._rest)} announced tensors were not written, the first is {self._rest[0][0]}")


def holds(path: Path, layout: Layout, *, metadata: Mapping[str, str] | None = None, done: int) -> bool:
    """Whether an earlier writer of this layout has finished so many tensors in the file."""
    text, ends = _header(layout, metadata)
    if not path.is_file() or path.stat().st_size < len(text) + ends[done]:
        return False
    with path.open("rb") as file:
        return file.read(len(text)) == text


def _header(layout: Layout, metadata: Mapping[str, str] | None) -> tuple[bytes, list[int]]:
    """The first bytes of the file, and where behind them each tensor ends, 0 first."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    ends = [0]
    for name, (shape, dtype) in layout.items():
        stop = ends[-1] + dtype.itemsize * int(torch.Size(shape).numel())
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [ends[-1], stop]}
        ends.append(stop)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, ends
