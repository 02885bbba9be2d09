"""Tells buffers from weights in a checkpoint: masks by their values, computed tables by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from uws_core.nouns.models import LayerKey
from uws_core.sources.base import Source
from uws_core.sources.files.header import FLOATS, TensorSpan
from uws_core.sources.files.tensors import SAMPLE, Tensors
from uws_core.sources.formats.unpacking import as_numbers

_WEIGHT: Final = re.compile(r"(?:^|_)weights?$|kernel$")
_MASK: Final = re.compile(r"mask|^tri[lu]$|causal")
# What programs compute anew: rotary and sinusoidal tables, frequencies, slopes, indices.
_COMPUTED: Final = re.compile(
    r"^(?:cos|sin)(?:_cache|_cached)?$|inv_freq|^freqs?(?:_cis|_cos|_sin)?$|^alibi(?:_slopes|_bias)?$"
    r"|^(?:attention|causal)_bias$|position_ids?$|position_index$|coords_table$|cos_sin_cache$"
)
# Names of buffers, and of a few weights: left out where all models hold the same.
_PERHAPS: Final = re.compile(
    r"mask|bias$|table$|index|ids$|^pos|position|^pe$|grid|anchor|matrix$|buffer|cache|coords|freq"
)
# A larger tensor is compared in its first, middle and last rows.
_COMPARED_WHOLE: Final = 16 * 2**20


def buffer_reason(tensors: Tensors, name: str, span: TensorSpan) -> str:
    """Why a floating-point tensor is a buffer and no weight; empty for weights. Price: two small reads for a mask.

    A tensor called `weight` or `kernel` is none. A mask is one by name or shape (ones before a square), and holds 0 and
    one more value alone, or infinities.
    """
    leaf = name.rpartition(".")[2]
    if span.dtype not in FLOATS or _WEIGHT.search(leaf):
        return ""
    if _COMPUTED.search(leaf):
        return "a table that the program computes, no weight"
    *leading, rows, columns = span.shape if len(span.shape) > 1 else (0, 1, 2)
    square = len(span.shape) > 2 and rows == columns and set(leading) == {1}
    if not square and not _MASK.search(leaf):
        return ""
    # Entries from the start and the middle of a tensor.
    blob = tensors.homes[span.name]
    size = min(SAMPLE, span.nbytes)
    middle = span.start + (span.nbytes - size) // 2 // 8 * 8
    raw = bytes(blob.read(span.start, span.start + size)) + bytes(blob.read(middle, middle + size))
    values = as_numbers(np.frombuffer(raw, np.uint8), span.dtype)
    kinds = np.unique(values)
    if np.isinf(kinds).any():
        return "a mask: it holds infinities"
    if len(kinds) == 1:
        return f"a mask, or another buffer: all its entries are {kinds[0]:g}"
    if len(kinds) == 2 and 0 in kinds:
        return f"a mask: its entries are {kinds[0]:g} and {kinds[1]:g} alone"
    return ""


def may_be_buffer(layer: LayerKey) -> bool:
    """Whether a layer bears a name that buffers have, so that it is left out where all models hold the same."""
    leaf = layer.whole.rpartition(".")[2]
    return not layer.factor and not _WEIGHT.search(leaf) and _PERHAPS.search(leaf) is not None


def hold_the_same(sources: Sequence[Source], layer: LayerKey) -> bool:
    """Whether all models store the same bytes in a layer; a large one is compared in three rows.

    Price: one row of two models where the first two differ, as most layers do.
    """
    m, p = layer.shape
    whole = 4 * m * p <= _COMPARED_WHOLE
    for rows in [(0, 1), *([(0, m)] if whole else [(row, row + 1) for row in (m // 2, m - 1)])]:
        first = _stored(sources[0], layer, rows)
        if not all(first == _stored(one, layer, rows) for one in sources[1:]):
            return False
    return True


def _stored(source: Source, layer: LayerKey, rows: tuple[int, int]) -> tuple[str, list[bytes]]:
    """The type and the bytes of some rows as they are stored."""
    extents = source.extents(layer.name, rows)
    return source.stored_type(layer.name), [bytes(one.blob.read(one.start, one.stop)) for one in extents]
