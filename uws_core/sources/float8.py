"""Weights of eight bits, which mean something only with the scale that is stored beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from uws_core.sources.base import Rows
from uws_core.sources.header import FLOATS, TensorSpan
from uws_core.sources.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

TYPES: Final = frozenset({"F8_E4M3", "F8_E5M2"})
# What stands in place of `weight` in the names of the scales: by trainers of whole models, and by ComfyUI.
_COMPANIONS: Final = ("weight_scale", "weight_scale_inv", "scale_weight")
_BLOCK: Final = 128


def companion(name: str, spans: Mapping[str, TensorSpan]) -> str:
    """The name of the scale that belongs to an eight-bit weight, or nothing."""
    stem = name.removesuffix("weight")
    return next((stem + end for end in _COMPANIONS if name.endswith("weight") and stem + end in spans), "")


def problem(view: tuple[int, int], scale: TensorSpan | None) -> str:
    """Why a scale does not fit the m x p weight it stands beside, or nothing when it does."""
    if scale is not None and scale.dtype not in FLOATS:
        return f"its scale is {scale.dtype}, not floating point"
    if scale is None or _steps(view, scale.shape):
        return ""
    return f"its scale of shape {scale.shape} is neither one number, nor one a row, nor one a block of {_BLOCK}"


def read(tensors: Tensors, name: str, scale: str, view: tuple[int, int], rows: Rows, into: Tensor | None) -> Tensor:
    """Rows of an eight-bit weight times its scale, in float32 or cast into `into`."""
    import torch

    start, stop = rows or (0, view[0])
    found = tensors.read(name, view, (start, stop), into=torch.empty(max(stop - start, 0), view[1]))
    if scale:
        span = tensors.span(scale)
        count = math.prod(span.shape)
        factors = tensors.read(scale, (1, count), into=torch.empty(1, count)).view(span.shape or (1,))
        high, wide = _steps(view, span.shape) or (1, 1)
        grid = factors.reshape(-(-view[0] // high), -(-view[1] // wide))
        # Row by row of the grid, so that no second buffer of the rows' size exists.
        for row in range(start // high, -(-stop // high)) if stop > start else ():
            first, last = max(row * high - start, 0), min((row + 1) * high, stop) - start
            found[first:last] *= grid[row].repeat_interleave(wide)[: view[1]]
    if into is None:
        return found
    return into.copy_(found)


def _steps(view: tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The rows and columns that share one scale."""
    m, p = view
    if math.prod(shape) == 1:
        return m, p
    if shape in ((m,), (m, 1)):
        return 1, p
    return (_BLOCK, _BLOCK) if shape == (-(-m // _BLOCK), -(-p // _BLOCK)) else None
