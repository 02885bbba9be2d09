"""The running sums of the pass: products about the slab mean, and the moments of the entries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from uws_core.nouns.arrays import Bools, Floats
from uws_core.passes.memory import chunk_bytes

_LEAST_COLUMNS = 2048
# From this many models on, products are formed tile by tile below the diagonal only: 3/4 of the work with two tiles,
# 5/8 with four, as long as a tile is large enough for the product to run at full speed.
_TILED_FROM = 64
_TILES_FROM = 256


class Moments:
    """Sums over slabs of `rows` models (the base, if any, is the last row and not part of the mean).

    `gram` (rows, rows), `to_center` (rows,) and `center_norm2` are about the slab means; `power1`, `power3` and
    `power4` are sums of the entries' powers (the second follows from the others). All are float64 on the device; the
    products of one chunk are formed in `kind`.
    """

    def __init__(
        self, *, models: int, finite: Bools, kind: torch.dtype, device: torch.device, chunk: int | None = None
    ) -> None:
        """Empty sums for `finite.size` rows, of which the first `models` make the mean; `chunk` bytes at a time."""
        rows = finite.size
        self.finite = finite
        self._dead = torch.from_numpy(np.flatnonzero(~finite)).to(device)
        self._in_mean = int(finite[:models].sum())
        self._models = models
        self._kind = kind
        self._device = device
        self._chunk = chunk_bytes(device) if chunk is None else chunk

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64, device=device)

        self.gram = zeros(rows, rows)
        self.to_center = zeros(rows)
        self.power1, self.power3, self.power4 = zeros(rows), zeros(rows), zeros(rows)
        self.largest = zeros(rows)
        self.non_finite = zeros(rows)
        self._center_norm2 = zeros()
        # Why a row is not used, where its entries do not say it themselves.
        self.reasons: dict[int, str] = {}
        self._widest = 1
        self._buffers: tuple[Tensor, Tensor] | None = None

    @property
    def center_norm2(self) -> float:
        """`|mu|^2` of the slab means."""
        return float(self._center_norm2)

    @property
    def power2(self) -> Tensor:
        """The sums of squares (rows,): `|W|^2 = |W - mu|^2 + 2 <W - mu, mu> + |mu|^2`."""
        return self.gram.diagonal() + 2 * self.to_center + self._center_norm2

    @property
    def most(self) -> float:
        """The largest number that products are formed in."""
        return float(torch.finfo(self._kind).max)

    @property
    def precision(self) -> str:
        """What that type is called: `single` or `double`."""
        return "double" if self._kind == torch.float64 else "single"

    def unfit(self) -> Bools:
        """The rows (rows,) whose entries, squares or products are not finite; they spoil the mean, and so every row.

        Where each row is finite by itself and some product is not, these are all rows with entries so large that a
        chunk of their products may pass the largest number: without them every product is finite.
        """
        largest = self.largest.cpu().numpy()
        alone = ~(np.isfinite(self.power1.cpu().numpy()) & np.isfinite(largest))
        products = (self.gram, self.to_center, self._center_norm2)
        if alone.any() or all(bool(torch.isfinite(part).all()) for part in products):
            return np.asarray(alone)
        return np.asarray(largest > np.sqrt(self.most / (4 * self._widest)))

    def drop(self, rows: Bools) -> None:
        """Takes rows out of sums about zero, in which no row feels another."""
        index = torch.from_numpy(np.flatnonzero(rows)).to(self._device)
        self.gram[index], self.gram[:, index], self.power1[index] = 0.0, 0.0, 0.0
        self.finite = self.finite & ~rows

    def add(self, values: Tensor) -> None:
        """Adds the entries `values` (rows, s), which are overwritten with their distance to the mean."""
        bytes_a_column = values.shape[0] * self._kind.itemsize
        width = max(_LEAST_COLUMNS, self._chunk // bytes_a_column)
        self._widest = max(self._widest, min(width, values.shape[1]))
        for start in range(0, values.shape[1], width):
            self._add_chunk(values[:, start : start + width])

    def _add_chunk(self, chunk: Tensor) -> None:
        if self._dead.numel():
            self.non_finite[self._dead] += (~torch.isfinite(chunk[self._dead])).sum(1)
            chunk[self._dead] = 0.0
        self._add_powers(chunk)
        mean = chunk[: self._models].sum(0) / self._in_mean
        chunk -= mean
        if self._dead.numel():
            chunk[self._dead] = 0.0
        self.to_center += (chunk @ mean).double()
        self._center_norm2 += mean.double().square().sum()
        self._add_products(chunk)

    def _add_powers(self, chunk: Tensor) -> None:
        squares, higher = (scratch[:, : chunk.shape[1]] for scratch in self._scratch(chunk))
        torch.mul(chunk, chunk, out=squares)
        self.power1 += chunk.sum(1).double()
        self.power3 += torch.mul(squares, chunk, out=higher).sum(1).double()
        self.power4 += torch.mul(squares, squares, out=higher).sum(1).double()
        torch.maximum(self.largest, squares.amax(1).double().sqrt(), out=self.largest)

    def _scratch(self, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Two buffers kept from chunk to chunk: allocating them anew costs more in page faults than the products."""
        if self._buffers is None or self._buffers[0].shape[1] < chunk.shape[1]:
            self._buffers = (torch.empty_like(chunk), torch.empty_like(chunk))
        return self._buffers

    def _add_products(self, chunk: Tensor) -> None:
        rows = chunk.shape[0]
        if rows < _TILED_FROM:
            self.gram += (chunk @ chunk.T).double()
            return
        tiles = 2 if rows < _TILES_FROM else 4
        edges = [round(rows * tile / tiles) for tile in range(tiles + 1)]
        for start, stop in pairwise(edges):
            block = (chunk[start:stop] @ chunk[:stop].T).double()
            self.gram[start:stop, :stop] += block
            self.gram[:start, start:stop] += block[:, :start].T

    def largest_eigenvalue_bound(self, centred: Floats) -> float:
        """An upper bound of the largest eigenvalue: the largest absolute row sum."""
        return float(np.abs(centred).sum(axis=1).max(initial=0.0))
