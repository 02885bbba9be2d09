"""Weights of eight bits and the scale that is stored beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from uws_core.sources.base import Rows
from uws_core.sources.files.header import FLOATS, TensorSpan
from uws_core.sources.files.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

TYPES: Final = frozenset({"F8_E4M3", "F8_E5M2"})
# What trainers and ComfyUI append to a weight's own name for its scale, and what they put in place of `weight`.
_ENDS: Final = ("_scale", "_scale_inv", "_scales", ".scale", ".scale_inv")
_STEMS: Final = ("scale_weight", "scale", "scale_inv", "scales")
_BLOCK: Final = 128
UNSCALED: Final = (
    "its numbers of eight bits are compared as they stand, since no scale under a name known here lies beside them"
)

Shape = tuple[int, ...]


def companions(spans: Mapping[str, TensorSpan]) -> dict[str, tuple[str, ...]]:
    """The scales stored beside each weight that is not floating point of 16 bits or more, most usual name first."""
    scales = {name: tuple(_beside(name, spans)) for name, span in spans.items() if span.dtype not in FLOATS}
    return {name: names for name, names in scales.items() if names}


def problem(shape: Shape, scales: tuple[TensorSpan, ...]) -> str:
    """Why a weight of this shape cannot be read with the scales beside it, or nothing when it can."""
    if len(scales) > 1:
        return f"{len(scales)} scales lie beside it and it is unclear which counts: {', '.join(s.name for s in scales)}"
    if scales and scales[0].dtype not in FLOATS:
        return f"its scale is {scales[0].dtype}, not floating point"
    if not scales or _steps(shape, scales[0].shape):
        return ""
    return f"its scale of shape {scales[0].shape} is neither one number, nor one a row, nor one a block of {_BLOCK}"


def read(tensors: Tensors, name: str, scale: str, view: tuple[int, int], rows: Rows, into: Tensor | None) -> Tensor:
    """Rows of an eight-bit weight times its scale, in float32 or cast into `into`."""
    import torch

    start, stop = rows or (0, view[0])
    values = tensors.read(name, view, (start, stop), into=torch.empty(max(stop - start, 0), view[1]))
    if scale and stop > start:
        span = tensors.span(scale)
        count = math.prod(span.shape)
        factors = tensors.read(scale, (1, count), into=torch.empty(1, count))
        shape = _whole(tensors.span(name).shape)
        steps = _steps(shape, span.shape) or shape
        grid = factors.reshape([-(-size // step) for size, step in zip(shape, steps, strict=True)])
        if shape[0] == view[0]:
            _multiply(values, shape, (start, stop), grid, steps)
        else:
            _multiply_stack(values, shape, (start, stop), grid, steps)
    if into is None:
        return values
    return into.copy_(values)


def _multiply_stack(values: Tensor, shape: Shape, rows: tuple[int, int], grid: Tensor, steps: Shape) -> None:
    """Multiplies a stack of matrices (E, m, p), seen as (E m) x p, by its scales, matrix by matrix."""
    start, stop = rows
    m = shape[1]
    for index in range(start // m, -(-stop // m)):
        first, last = max(index * m, start), min((index + 1) * m, stop)
        inside = (first - index * m, last - index * m)
        _multiply(values[first - start : last - start], shape[1:], inside, grid[index // steps[0]], steps[1:])


def _multiply(values: Tensor, shape: Shape, rows: tuple[int, int], grid: Tensor, steps: Shape) -> None:
    """Multiplies rows of the weight by what belongs to them, row by row of the scales, with no buffer of their size."""
    start, stop = rows
    high = steps[0]
    for row in range(start // high, -(-stop // high)):
        first, last = max(row * high - start, 0), min((row + 1) * high, stop) - start
        spread = grid[row]
        for axis, (size, step) in enumerate(zip(shape[1:], steps[1:], strict=True)):
            # One for the whole axis is left to broadcasting.
            if step < size:
                spread = spread.repeat_interleave(step, axis).narrow(axis, 0, size)
        values[first:last].view(-1, *shape[1:]).mul_(spread)


def _beside(name: str, spans: Mapping[str, TensorSpan]) -> Iterator[str]:
    stem = name.removesuffix("weight")
    names = [name + end for end in _ENDS]
    if stem != name:
        names += [stem + end for end in _STEMS]
    if stem.endswith(".q"):
        # GPTQ and its like: `x.qweight` and `x.scales`.
        names.append(f"{stem[:-1]}scales")
    return (one for one in dict.fromkeys(names) if one in spans)


def _whole(shape: Shape) -> Shape:
    """A shape without the axis of length one that a matrix in three has."""
    return shape[1:] if len(shape) == 3 and shape[0] == 1 else shape


def _steps(shape: Shape, scale: Shape) -> Shape | None:
    """The number of entries along each axis that share one scale."""
    shape = _whole(shape)
    if math.prod(scale) == 1:
        return shape
    if scale in (shape[:1], (shape[0], 1)):
        return (1, *shape[1:])
    scale = scale if len(scale) == len(shape) else _whole(scale)
    if len(scale) != len(shape):
        return None
    steps = [_step(size, count) for size, count in zip(shape, scale, strict=True)]
    return tuple(steps) if all(steps) else None


def _step(size: int, count: int) -> int:
    """The entries that share one of `count` scales along an axis, 0 when that many do not fit."""
    if count == 1:
        return size
    return 1 if count == size else _BLOCK if count == -(-size // _BLOCK) else 0
