"""The running sums of the pass: products about the slab mean, and the moments of the entries."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uws_core.nouns.arrays import Bools, Floats
from uws_core.passes.memory import chunk_bytes

_LEAST_COLUMNS = 2048


class Moments:
    """Sums over slabs of `rows` models (the base, if any, is the last row and not part of the mean).

    `gram` (rows, rows), `to_center` (rows,) and `center_norm2` are about the slab means; `power1`, `power3` and
    `power4` are sums of the entries' powers (the second follows from the others), `largest2` is the largest square.
    All are float64; the products of one chunk are formed in `kind`. On the processor the work is numpy's, which takes
    half a product with itself from the other and one core for the rest; on a GPU it is torch's, with the same calls.
    """

    def __init__(
        self, *, models: int, finite: Bools, kind: torch.dtype, device: torch.device, chunk: int | None = None
    ) -> None:
        """Empty sums for `finite.size` rows, of which the first `models` make the mean; `chunk` bytes at a time."""
        rows = finite.size
        self.finite = finite
        self.kind = kind
        self._models = models
        self._chunk = chunk_bytes(device) if chunk is None else chunk
        # What numpy and torch have in common is enough here, apart from where arrays lie.
        self._lib: ModuleType = np if device.type == "cpu" else torch
        self._place = {} if device.type == "cpu" else {"device": device}
        self._type = getattr(self._lib, str(kind).removeprefix("torch."))
        self._along = np.vecdot if device.type == "cpu" else torch.linalg.vecdot
        self._weights = self._lib.full((models,), 1 / max(1, finite[:models].sum()), dtype=self._type, **self._place)
        self._dead = self._lib.asarray(np.flatnonzero(~finite), **self._place)
        self.gram = self._zeros(rows, rows)
        self.to_center, self.power1, self.power3, self.power4 = (self._zeros(rows) for _ in range(4))
        self.largest2, self.non_finite, self._center_norm2 = self._zeros(rows), self._zeros(rows), self._zeros(1)
        # Why a row is not used, where its entries do not say it themselves.
        self.reasons: dict[int, str] = {}
        self._widest = 1
        self._buffers: tuple[Any, Any] | None = None
        self._cast: Tensor | None = None

    @property
    def center_norm2(self) -> float:
        """`|mu|^2` of the slab means."""
        return float(self._center_norm2[0])

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

    def drop(self, rows: Bools) -> None:
        """Sets rows of sums about zero to 0; there no row depends on another."""
        index = self._lib.asarray(np.flatnonzero(rows), **self._place)
        self.gram[index], self.gram[:, index], self.power1[index] = 0.0, 0.0, 0.0
        self.finite = self.finite & ~rows

    def add(self, values: Tensor) -> None:
        """Adds the entries `values` (rows, s), of any type; those of rows that are not finite may be overwritten."""
        width = max(_LEAST_COLUMNS, self._chunk // (values.shape[0] * self.kind.itemsize))
        self._widest = max(self._widest, min(width, values.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, values.shape[1], width):
                chunk = self._in_kind(values[:, start : start + width])
                self._add_chunk(chunk.numpy() if self._lib is np else chunk)

    def absorb(self, other: Moments) -> None:
        """Adds the sums over other columns of the same rows."""
        for name in ("gram", "to_center", "_center_norm2", "power1", "power3", "power4", "non_finite"):
            total = getattr(self, name)
            total += getattr(other, name)
        self.largest2 = self._lib.maximum(self.largest2, other.largest2)
        self._widest = max(self._widest, other._widest)

    def largest_eigenvalue_bound(self, centred: Floats) -> float:
        """An upper bound of the largest eigenvalue: the largest absolute row sum."""
        return float(np.abs(centred).sum(axis=1).max(initial=0.0))

    def _add_chunk(self, chunk: Any) -> None:  # noqa: ANN401 -- an array of numpy or of torch
        lib = self._lib
        if self._dead.shape[0]:
            self.non_finite[self._dead] += (~lib.isfinite(chunk[self._dead])).sum(1)
            chunk[self._dead] = 0.0
        squares, wide = (scratch[:, : chunk.shape[1]] for scratch in self._scratch(chunk))
        lib.multiply(chunk, chunk, out=squares)
        self.power3 += self._along(squares, chunk)
        self.power4 += self._along(squares, squares)
        self.largest2 = lib.maximum(self.largest2, lib.amax(squares, 1))
        # Two more rows, the mean and ones, give the other sums out of the same product.
        centred, mean = wide[:-2], wide[-2]
        models = chunk[: self._models]
        mean[:] = self._weights @ models
        if bool((models[0] == models[-1]).all()) and bool((models == models[0]).all()):
            # Their mean is one of them, also where a sum of them is rounded: then they do not differ at all.
            mean[:] = chunk[0]
        lib.subtract(chunk, mean, out=centred)
        if self._dead.shape[0]:
            centred[self._dead] = 0.0
        products = wide @ wide.T
        self.gram += products[:-2, :-2]
        self.to_center += products[:-2, -2]
        self._center_norm2 += products[-2:-1, -2]
        self.power1 += products[:-2, -1] + products[-2, -1]
        if self._dead.shape[0]:
            self.power1[self._dead] = 0.0

    def _in_kind(self, values: Tensor) -> Tensor:
        """The values in the type that products are formed in; what had another is overwritten by the next."""
        if values.dtype == self.kind:
            return values
        if self._cast is None or self._cast.shape[1] < values.shape[1]:
            self._cast = torch.empty(values.shape, dtype=self.kind, device=values.device)
        return self._cast[:, : values.shape[1]].copy_(values)

    def _scratch(self, chunk: Any) -> tuple[Any, Any]:  # noqa: ANN401 -- an array of numpy or of torch
        """Two buffers kept from chunk to chunk: allocating them anew costs more in page faults than the products."""
        rows, width = chunk.shape
        if self._buffers is None or self._buffers[0].shape[1] < width:
            squares, wide = (self._lib.ones((rows + more, width), dtype=self._type, **self._place) for more in (0, 2))
            self._buffers = (squares, wide)
        return self._buffers

    def _zeros(self, *size: int) -> Any:  # noqa: ANN401 -- an array of numpy or of torch
        return self._lib.zeros(size, dtype=self._lib.float64, **self._place)


def to_numpy(values: Any) -> Floats:  # noqa: ANN401 -- an array of numpy or of torch
    """The values as a numpy array, from any device."""
    return np.asarray(values.cpu().numpy() if isinstance(values, Tensor) else values)
