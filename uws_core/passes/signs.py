"""The pass that counts opposed signs: where two updates pull one weight in opposite directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.angles import Singles
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.gram import Members
from uws_core.nouns.merge_preview import SignConflict
from uws_core.nouns.models import Collection, LayerKey, LowRank
from uws_core.passes.center import chosen
from uws_core.passes.open_models import open_models
from uws_core.passes.options import ComputeOptions
from uws_core.sources.base import Source

# So many entries of a layer tell a share to 0.1 %; more are not read.
MOST_ENTRIES = 2**18
# Entries times pairs of one layer, so that a hundred members take seconds.
_MOST_WORK = 2**30
# Entries of one product of one update with several others.
_CHUNK = 2**20
# Blocks of rows and of columns that the jackknife leaves out in turn.
BLOCKS = 16


def sign_conflict(
    collection: Collection,
    layer: LayerKey | str,
    *,
    members: Members = None,
    options: ComputeOptions | None = None,
) -> SignConflict:
    """The shares of opposed signs of every pair of updates of one layer, about the base where it has the layer.

    Without a base whole weights are compared about zero. Of a large layer rows are read here and there, `MOST_ENTRIES`
    entries in all. A member with NaN, or that did not move, has no numbers. Price: about twenty operations a
    pair and entry.

    Raises:
        NotEnoughModels: fewer than two members.
    """
    key, options = collection.layer(layer), options or ComputeOptions()
    about = "base" if key.name in collection.base_layers else "zero"
    picked = chosen(collection, key, members, about)
    n = len(picked.rows)
    if n < 2:
        raise NotEnoughModels(f"{key.name}: signs are compared between two models at least; {n} is chosen")
    refs = [collection.refs[row] for row in picked.rows]
    with open_models([*refs, *([picked.center] if picked.center else [])], key, report=options.report) as sources:
        updates = _sampled(sources[:n], sources[n] if picked.center else None, key, pairs=n * (n - 1) // 2)
    found = np.zeros((4, n, n))
    counter, step = _Counter(updates.numpy()), max(_CHUNK // updates[0].numel(), 1)
    for i in range(n):
        for first in range(i + 1, n, step):
            others = slice(first, min(first + step, n))
            found[:, i, others] = counter.pairs(i, others)
        options.report((i + 1) / n, f"{key.short}: signs of {i + 1} of {n} models")
    labels = tuple(collection.labels[row] for row in picked.rows)
    return SignConflict(key, labels, *(found + found.swapaxes(1, 2)))


def _sampled(sources: Sequence[Source], center: Source | None, key: LayerKey, *, pairs: int) -> Tensor:
    """The members' updates (n, rows, p) in float32: all rows, or runs of rows spread evenly over the layer."""
    m, p = key.shape
    rows = max(min(m, min(MOST_ENTRIES, _MOST_WORK // pairs) // p), min(m, 2))
    updates, middle = torch.empty(len(sources), rows, p), torch.empty(rows, p)
    for at, start, stop in _runs(m, rows):
        span = slice(at, at + stop - start)
        for index, source in enumerate(sources):
            _read(source, key, start, stop, updates[index, span])
        if center is not None:
            _read(center, key, start, stop, middle[span])
    return updates.sub_(middle) if center is not None else updates


def _runs(m: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """For each run of rows its place in the sample, and its first and last row in the layer."""
    pieces = np.array_split(np.arange(rows), 1 if rows >= m else min(BLOCKS, rows))
    for piece, start in zip(pieces, np.linspace(0, m - len(pieces[0]), len(pieces)).astype(int), strict=True):
        yield int(piece[0]), int(start), int(start) + len(piece)


def _read(source: Source, key: LayerKey, start: int, stop: int, into: Tensor) -> None:
    if key.name not in source.low_rank:
        source.read(key.name, (start, stop), into=into)
        return
    part = source.read(key.name)
    if not isinstance(part, LowRank):
        raise LayerError(f"{source.ref}: {key.name} is dense here and low-rank in other models")
    torch.mm(part.up[start:stop].float() * part.scale, part.down.float(), out=into)


class _Counter:
    """Counts over cells, where a block of rows and a block of columns meet, of updates (n, rows, p)."""

    def __init__(self, updates: Singles) -> None:
        # numpy, because most layers are small and torch would wake its threads for each of these products.
        self._updates = updates
        self._down, self._along = _indicator(updates.shape[1]), np.ascontiguousarray(_indicator(updates.shape[2]).T)
        self._energy = np.concatenate([self._cells(np.square(update)[None]) for update in updates])

    def pairs(self, i: int, others: slice) -> Floats:
        """Of update i with each of the others (4, j): the opposed share, the mirrored one, the error, the entries.

        Mirrored at tau_i, tau_j becomes `2 b tau_i - tau_j` with `b = <tau_i, tau_j> / |tau_i|^2`: its entry opposes
        that of tau_i where `tau_i tau_j > 2 b tau_i^2`. Each of the two is mirrored at the other in turn.
        """
        product = self._updates[others] * self._updates[i]
        there = product != 0
        entries, inner, opposed = self._cells(there), self._cells(product), self._cells(product < 0)
        alone = self._mirrored(product, there, inner, slice(i, i + 1))
        other = self._mirrored(product, there, inner, others)
        total = entries.sum(axis=(1, 2))
        mirrored = (alone.cells + other.cells) / 2
        error = _jackknife_error((opposed - mirrored) / 2, entries, (alone, other))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.stack([opposed.sum(axis=(1, 2)) / total, mirrored.sum(axis=(1, 2)) / total, error, total])
        found[:3, ~np.isfinite(inner).all(axis=(1, 2)) | (total == 0)] = np.nan
        return found

    def _mirrored(self, product: Singles, there: Bools, inner: Floats, at: slice) -> _Mirrored:
        """What the mirrored updates oppose, at these of the updates."""
        square, energy = np.square(self._updates[at]), np.maximum(self._energy[at], np.finfo(np.float64).tiny)
        slope, total = inner.sum(axis=(1, 2)) / energy.sum(axis=(1, 2)), there.sum(axis=(1, 2))
        moved = []
        for axis in (1, 2):
            left, rest = _left(inner, axis), _left(energy, axis)
            # Without its only block a side has nothing left that could move.
            still = np.broadcast_to(slope[:, None], left.shape).copy()
            moved.append(np.divide(left, rest, out=still, where=rest > 0) - slope[:, None])
        step = np.maximum(np.sqrt(_jackknife(moved[0]) + _jackknife(moved[1])), 1e-6)

        def marks(b: Floats) -> Bools:
            return np.asarray(there & (product > (2 * b).astype(np.float32)[:, None, None] * square))

        low, high = (marks(slope + turn).sum(axis=(1, 2)) for turn in (-step, step))
        return _Mirrored(self._cells(marks(slope)), (high - low) / (2 * step * np.maximum(total, 1.0)), moved)

    def _cells(self, values: Singles | Bools) -> Floats:
        """The sum of values (j, rows, p), or how many marks there are, in each cell (j, 16, 16)."""
        return np.asarray(self._down @ values.astype(np.float32, copy=False) @ self._along, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Mirrored:
    """Entries opposed to mirrored ones in each cell (j, 16, 16), the `change` (j,) of their share with b, and how b
    moves when each block of rows, and of columns, is left out.
    """

    cells: Floats
    change: Floats
    moved: list[Floats]


def _indicator(length: int) -> Singles:
    """Which of up to `BLOCKS` blocks each place belongs to, as rows of ones and zeros."""
    pieces = np.array_split(np.arange(length), min(BLOCKS, length))
    marks = np.zeros((len(pieces), length), dtype=np.float32)
    for row, piece in enumerate(pieces):
        marks[row, piece] = 1.0
    return marks


def _jackknife_error(counts: Floats, entries: Floats, sides: tuple[_Mirrored, _Mirrored]) -> Floats:
    """The standard error (j,) of `counts` over `entries`, summed over cells, with rows and columns as clusters.

    What leaving a block out does to b moves the mirrored shares too; a quarter of each is in half the difference. The
    variances of leaving out each block of rows, and each of columns, are added: an upper bound, because the part of
    single cells is in both. Source: Cameron, Gelbach and Miller 2011 (two-way clusters); Efron 1982 (jackknife).
    """
    variance = np.zeros(len(counts))
    for place, axis in enumerate((1, 2)):
        left = _left(counts, axis) / np.maximum(_left(entries, axis), 1.0)
        variance += _jackknife(left - sum(side.change[:, None] * side.moved[place] / 4 for side in sides))
    return np.sqrt(variance)


def _left(cells: Floats, axis: int) -> Floats:
    """The sum of all cells (j, 16, 16) but those of each block in turn (j, 16); `axis` 1 leaves out rows."""
    return np.asarray(cells.sum(axis=(1, 2))[:, None] - cells.sum(axis=3 - axis))


def _jackknife(left: Floats) -> Floats:
    """The jackknife's variance (j,) of an estimate from its values (j, 16) with each block left out."""
    size = left.shape[1]
    return np.asarray((size - 1) / size * np.sum((left - left.mean(axis=1, keepdims=True)) ** 2, axis=1))
