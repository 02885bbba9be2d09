"""The running sums of the pass: products about the chunk means, by blocks, and the moments of the entries."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uws_core.nouns.arrays import Bools, Floats
from uws_core.passes.block_layout import BlockLayout
from uws_core.passes.memory import chunk_bytes
from uws_core.passes.products import block_products

_LEAST_COLUMNS = 2048


class Moments:
    """Sums over slabs of `rows` models (the base, if any, is the last row and not part of the mean).

    `gram` (rows, rows), `to_center` (rows,) and `center_norm2` are about the chunk means; `power1`, `power3` and
    `power4` are sums of the entries' powers (the second follows from the others), `largest2` is the largest square.
    All are float64; the products of one chunk are formed in `kind`. `row_blocks` and `column_blocks`
    (blocks, rows + 1, rows + 1) are the same products by block, in `kind`, the mean last; None where the layout keeps
    none. On the processor the work is numpy's, on a GPU it is torch's, with the same calls.
    """

    def __init__(
        self,
        layout: BlockLayout,
        *,
        models: int,
        finite: Bools,
        kind: torch.dtype,
        device: torch.device,
        chunk: int | None = None,
    ) -> None:
        """Empty sums for `finite.size` rows, of which the first `models` make the mean; `chunk` bytes at a time."""
        rows = finite.size
        self.finite = finite
        self.kind = kind
        self._layout, self._models = layout, models
        self._chunk = chunk_bytes(device) if chunk is None else chunk
        # What numpy and torch have in common is enough here, apart from where arrays lie.
        self._lib: ModuleType = np if device.type == "cpu" else torch
        self._device = {} if device.type == "cpu" else {"device": device}
        self._torch_device = device
        # The same memory as numpy or torch sees it.
        self._native: Callable[[Tensor], Any] = Tensor.numpy if device.type == "cpu" else _unchanged
        self._type = getattr(self._lib, str(kind).removeprefix("torch."))
        self._along = np.vecdot if device.type == "cpu" else torch.linalg.vecdot
        self._weights = self._lib.full((models,), 1 / max(1, finite[:models].sum()), dtype=self._type, **self._device)
        self._dead = self._lib.asarray(np.flatnonzero(~finite), **self._device)
        self.gram = self._zeros(rows, rows)
        self.to_center, self.power1, self.power3, self.power4 = (self._zeros(rows) for _ in range(4))
        self.largest2, self.non_finite, self._center_norm2 = self._zeros(rows), self._zeros(rows), self._zeros(1)
        # With the mean and a row of ones last.
        self._row_blocks, self._column_blocks = (
            self._lib.zeros((count, rows + 2, rows + 2), dtype=self._type, **self._device)
            for count in ((layout.rows, layout.columns) if layout.kept else (0, 0))
        )
        # Why a row is not used, where its entries do not say it themselves.
        self.reasons: dict[int, str] = {}
        self._widest = 1
        self._buffers: dict[str, Tensor] = {}

    @property
    def center_norm2(self) -> float:
        """`|mu|^2` of the slab means."""
        return float(self._center_norm2[0])

    @property
    def row_blocks(self) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
        """The products of each row block (blocks, rows + 1, rows + 1); None where none are kept."""
        return self._row_blocks[:, :-1, :-1] if self._layout.kept else None

    @property
    def column_blocks(self) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
        """The products of each column block (blocks, rows + 1, rows + 1); None where none are kept."""
        return self._column_blocks[:, :-1, :-1] if self._layout.kept else None

    @property
    def power2(self) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
        """The sums of squares (rows,): `|W|^2 = |W - mu|^2 + 2 <W - mu, mu> + |mu|^2`."""
        return self.gram.diagonal() + 2 * self.to_center + self._center_norm2

    @property
    def most(self) -> float:
        """The largest number that products are formed in."""
        return float(torch.finfo(self.kind).max)

    @property
    def precision(self) -> str:
        """The name of that type: `single` or `double`."""
        return "double" if self.kind == torch.float64 else "single"

    def unfit(self) -> Bools:
        """The rows (rows,) whose entries, squares or products are not finite; they spoil the mean, and so every row.

        Where each row is finite by itself and some product is not, these are all rows with entries so large that a
        chunk of their products may pass the largest number: without them every product is finite.
        """
        largest2 = to_numpy(self.largest2)
        alone = ~np.isfinite(largest2)
        products = (self.gram, self.to_center, self._center_norm2, self.power1)
        if alone.any() or all(np.isfinite(to_numpy(part)).all() for part in products):
            return np.asarray(alone)
        return np.asarray(largest2 > self.most / (4 * self._widest))

    def set_blocks(self, rows: Floats, columns: Floats) -> None:
        """Sets the products of blocks (blocks, rows, rows) about zero, whose mean is zero."""
        self._row_blocks, self._column_blocks = (np.pad(blocks, ((0, 0), (0, 2), (0, 2))) for blocks in (rows, columns))

    def drop(self, rows: Bools) -> None:
        """Sets rows of sums about zero to 0; there no row depends on another."""
        index = self._lib.asarray(np.flatnonzero(rows), **self._device)
        self.gram[index], self.gram[:, index], self.power1[index] = 0.0, 0.0, 0.0
        for blocks in (self._row_blocks, self._column_blocks):
            blocks[:, index], blocks[:, :, index] = 0.0, 0.0
        self.finite = self.finite & ~rows

    def add(self, values: Tensor, first: int = 0) -> None:
        """Adds rows `first` on of the layer: `values` (rows, s, p) of any type."""
        entries = max(_LEAST_COLUMNS, self._chunk // (values.shape[0] * self.kind.itemsize))
        with np.errstate(over="ignore", invalid="ignore"):
            for rows, columns in self._layout.chunks(first, values.shape[1], entries):
                self._add_chunk(values[:, rows, columns], first + rows.start, columns.start)

    def absorb(self, other: Moments) -> None:
        """Adds the sums over other entries of the same rows."""
        for name in (
            *("gram", "to_center", "_center_norm2", "power1", "power3", "power4", "non_finite"),
            *("_row_blocks", "_column_blocks"),
        ):
            total = getattr(self, name)
            total += getattr(other, name)
        self.largest2 = self._lib.maximum(self.largest2, other.largest2)
        self._widest = max(self._widest, other._widest)

    def largest_eigenvalue_bound(self, centred: Floats) -> float:
        """An upper bound of the largest eigenvalue: the largest absolute row sum."""
        return float(np.abs(centred).sum(axis=1).max(initial=0.0))

    def _add_chunk(self, chunk: Tensor, row: int, column: int) -> None:
        """Adds a chunk (rows, s, w) of whole cells, or of some rows of one row block, from this row and column on."""
        layout, (n, tall, wide) = self._layout, chunk.shape
        height, width = min(layout.height, tall), min(layout.width, wide)
        down, across = tall // height, wide // width
        self._widest = max(self._widest, tall * wide)
        # Each cell's entries are copied to lie together, in the type of the products, so that one call of BLAS forms
        # its product; copies and differences are torch's, twice as fast as numpy's.
        stacked = self._scratch("stacked", n + 2, tall * wide)
        cells = (down, height, across, width) if layout.cells else (1, tall, 1, wide)
        target = stacked.view(n + 2, cells[0], cells[2], cells[1], cells[3]).transpose(2, 3)
        target[:n].copy_(chunk.reshape(n, *cells))
        self._add_powers(stacked[:n])
        self._center(stacked)
        if layout.cells:
            products = self._products(stacked.view(n + 2, down * across, -1)).reshape(down, across, n + 2, n + 2)
            of_rows, of_columns = products.sum(1), products[0] if down == 1 else products.sum(0)
        else:
            of_rows = self._products(stacked.view(n + 2, down, -1))
            columns = self._scratch("columns", n + 2, tall * wide).view(n + 2, across, tall, width)
            columns.copy_(stacked.view(n + 2, tall, across, width).transpose(1, 2))
            of_columns = self._products(columns.view(n + 2, across, -1))
        if layout.kept:
            self._row_blocks[row // layout.height :][:down] += of_rows
            self._column_blocks[column // layout.width :][:across] += of_columns
        products = of_rows[0] if down == 1 else of_rows.sum(0)
        self.gram += products[:-2, :-2]
        self.to_center += products[:-2, -2]
        self._center_norm2 += products[-2:-1, -2]
        self.power1 += products[:-2, -1] + products[-2, -1]
        if self._dead.shape[0]:
            self.power1[self._dead] = 0.0

    def _add_powers(self, entries: Tensor) -> None:
        """Adds the moments of the entries (rows, s); rows that are not used become zero."""
        native = self._native(entries)
        if self._dead.shape[0]:
            self.non_finite[self._dead] += (~self._lib.isfinite(native[self._dead])).sum(1)
            native[self._dead] = 0.0
        squares = self._native(torch.mul(entries, entries, out=self._scratch("squares", *entries.shape)))
        self.power3 += self._along(squares, native)
        self.power4 += self._along(squares, squares)
        self.largest2 = self._lib.maximum(self.largest2, self._lib.amax(squares, 1))

    def _center(self, stacked: Tensor) -> None:
        """Subtracts the mean of the models from the entries (rows + 2, s), and puts it and ones in the last rows."""
        entries, models, mean = stacked[:-2], self._native(stacked[: self._models]), self._native(stacked[-2])
        mean[:] = self._weights @ models
        if bool((models[0] == models[-1]).all()) and bool((models == models[0]).all()):
            # Their mean is one of them, also where a sum of them is rounded: then they do not differ at all.
            mean[:] = models[0]
        torch.sub(entries, stacked[-2], out=entries)
        if self._dead.shape[0]:
            self._native(entries)[self._dead] = 0.0
        # Two more rows, the mean and ones, give the other sums out of the same product.
        stacked[-1].fill_(1.0)

    def _products(self, blocks: Tensor) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
        """The products (blocks, rows + 2, rows + 2) of each block of entries (rows + 2, blocks, s)."""
        return block_products(self._native(blocks.transpose(0, 1)))

    def _scratch(self, name: str, rows: int, width: int) -> Tensor:
        """A buffer kept from chunk to chunk: allocating it anew costs more in page faults than the products."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < rows * width:
            buffer = torch.empty(rows * width, dtype=self.kind, device=self._torch_device)
            self._buffers[name] = buffer
        return buffer[: rows * width].view(rows, width)

    def _zeros(self, *size: int) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
        return self._lib.zeros(size, dtype=self._lib.float64, **self._device)


def _unchanged(values: Tensor) -> Tensor:
    return values


def to_numpy(values: Any) -> Floats:  # noqa: ANN401 -- an array of numpy or of torch
    """The values as a numpy array, from any device."""
    return np.asarray(values.cpu().numpy() if isinstance(values, Tensor) else values)
