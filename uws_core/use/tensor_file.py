"""A safetensors file written tensor by tensor, so that no more than one is in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


class TensorFile:
    """Writes tensors of announced names and shapes in that order; the same tensors give the same bytes.

    `shapes` maps names to shapes, all of `dtype`. The header comes first, so a reader can map the file while it grows.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        self._dtype, self._rest = dtype, list(shapes.items())
        header, offset = {}, 0
        for name, shape in shapes.items():
            stop = offset + dtype.itemsize * int(torch.Size(shape).numel())
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, stop]}
            offset = stop
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, values: Tensor) -> None:
        """Appends the next announced tensor.

        Raises:
            ValueError: another name or shape was announced.
        """
        expected, shape = self._rest.pop(0)
        if name != expected or tuple(values.shape) != tuple(shape):
            raise ValueError(f"{expected} {shape} was announced; found {name} {tuple(values.shape)}")
        if values.numel():
            self._file.write(values.to(self._dtype).contiguous().view(torch.uint8).numpy().tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None and self._rest:
            raise ValueError(f"{len(self._rest)} announced tensors were not written, the first is {self._rest[0][0]}")
