"""Exact order statistics of absolute values that are too many for memory: where a trim cuts, ties counted.

Two passes: the first counts the upper 16 bits of each float32, the second collects what shares them with the wanted
entry (a few per mille). Source: radix selection, Knuth, The Art of Computer Programming 3, 5.2.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_UPPER = 1 << 15
# Arrays larger than this are cut by way of a sample of so many entries.
_LARGE, _SAMPLE = 1 << 18, 1 << 14
# Entries that are looked at together: what the cache of a core holds.
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the smallest entries end: those below `value` are dropped, and of the ones equal to it the first `ties`."""

    value: float
    ties: int


# Nothing is dropped; everything is dropped.
NOTHING, EVERYTHING = Cut(0.0, 0), Cut(float("inf"), 0)


def cuts_of(values: Tensor, dropped: Sequence[Sequence[int]]) -> list[list[Cut]]:
    """Returns for each row of values (n, entries) in memory where its `dropped` smallest absolute values end."""
    found = []
    for row, counts in zip(values, dropped, strict=True):
        found.append([_cut(row.numpy().reshape(-1), count) for count in counts])
    return found


def _cut(values: NDArray[np.floating], count: int) -> Cut:
    if count <= 0:
        return NOTHING
    if count >= values.size:
        return EVERYTHING
    if values.size > _LARGE:
        # Between two entries of a sample: one sweep of the memory instead of a partition.
        sample = np.sort(np.abs(values[:: values.size // _SAMPLE]))
        middle, spread = count / values.size * sample.size, 6 * np.sqrt(sample.size)
        low = sample[max(int(middle - spread), 0)] if middle > spread else 0.0
        high = sample[int(middle + spread)] if middle + spread < sample.size else np.inf
        below, parts = 0, []
        for start in range(0, values.size, _BLOCK):
            sizes = np.abs(values[start : start + _BLOCK])
            beyond = sizes >= low
            below += sizes.size - int(np.count_nonzero(beyond))
            beyond &= sizes <= high
            parts.append(sizes[beyond])
        near = np.concatenate(parts)
        # A sample that does not stand for the whole brackets nothing, and the whole is sorted.
        if below <= count < below + near.size:
            return _cut_near(near, count - below)
    return _cut_near(np.abs(values), count)


class Selection:
    """Cuts of `n` streams of float32 values, each seen twice: `count` all of them, then `collect` all of them again.

    `dropped` has for each stream how many smallest entries each of its cuts drops.
    """

    def __init__(self, dropped: Sequence[Sequence[int]]) -> None:
        self._dropped = dropped
        self._counts: NDArray[np.int64] | None = None
        self._bins: list[list[int]] = []
        self._before: list[list[int]] = []
        self._collected: list[list[list[NDArray[np.float32]]]] = []

    def count(self, values: Tensor) -> None:
        """Adds entries (n, ...) of every stream to the counts."""
        if self._counts is None:
            self._counts = np.zeros((len(self._dropped), _UPPER), dtype=np.int64)
        for stream, row in enumerate(values):
            bits = row.contiguous().view(-1).numpy().view(np.uint16)[1::2] & np.uint16(_UPPER - 1)
            self._counts[stream] += np.bincount(bits, minlength=_UPPER)

    def locate(self) -> None:
        """Ends the first pass."""
        assert self._counts is not None, "nothing was counted"
        for stream, counts in enumerate(self._counts):
            upto = np.cumsum(counts)
            bins = [int(np.searchsorted(upto, count, side="right")) for count in self._dropped[stream]]
            self._bins.append(bins)
            self._before.append([int(upto[place - 1]) if place else 0 for place in bins])
            self._collected.append([[] for _ in bins])

    def collect(self, values: Tensor) -> None:
        """Collects from the same entries (n, ...), in the second pass, those near the cuts."""
        for stream, row in enumerate(values):
            flat = row.contiguous().view(-1).numpy()
            bits = flat.view(np.uint16)[1::2] & np.uint16(_UPPER - 1)
            for number, place in enumerate(self._bins[stream]):
                if self._dropped[stream][number] > 0 and place < _UPPER:
                    self._collected[stream][number].append(np.abs(flat[bits == place]))

    def blank(self) -> Selection:
        """One that has seen no entries and is in the same pass: for a part of the streams, elsewhere."""
        other = Selection(self._dropped)
        other._bins, other._before = self._bins, self._before
        other._collected = [[[] for _ in bins] for bins in self._bins]
        return other

    def absorb(self, other: Selection) -> None:
        """Adds what a `blank` one has seen in this pass; the order of the parts does not matter."""
        if other._counts is not None:
            self._counts = other._counts if self._counts is None else self._counts + other._counts
        for mine, theirs in zip(self._collected, other._collected, strict=True):
            for own, more in zip(mine, theirs, strict=True):
                own.extend(more)

    def cuts(self) -> list[list[Cut]]:
        """Returns the cuts of every stream."""
        found = []
        for stream, counts in enumerate(self._dropped):
            row = []
            for number, count in enumerate(counts):
                if count <= 0 or self._bins[stream][number] >= _UPPER:
                    row.append(NOTHING if count <= 0 else EVERYTHING)
                    continue
                near = np.concatenate(self._collected[stream][number])
                row.append(_cut_near(near, count - self._before[stream][number]))
            found.append(row)
        return found


def _cut_near(near: NDArray[np.floating], count: int) -> Cut:
    """The cut among these entries, of which `count` are dropped, maybe none."""
    value = np.partition(near, count)[count]
    return Cut(float(value), count - int(np.count_nonzero(near < value)))


@dataclass(slots=True)
class Keeper:
    """Which entries of one stream, met in order, lie at or above a cut; counts the ties it has met."""

    cut: Cut
    _ties: int = field(init=False)

    def __post_init__(self) -> None:
        self._ties = self.cut.ties

    def kept(self, values: Tensor) -> Tensor:
        """Returns the next values with zeros in place of what is dropped."""
        if not 0 < self.cut.value < float("inf"):
            return values * self.above(values.abs())
        if self._ties:
            sizes = values.abs()
            met = int(np.count_nonzero((sizes == self.cut.value).numpy()))
            if met > self._ties:
                return values * self.above(sizes)
            # All ties among these are dropped: one sweep, as below.
            self._ties -= met
            return torch.nn.functional.hardshrink(values, self.cut.value)
        # One sweep; what equals the bound of this function is dropped, and here it stays.
        kind = np.float64 if values.dtype == torch.float64 else np.float32
        bound = np.nextafter(kind(self.cut.value), kind(0))
        return torch.nn.functional.hardshrink(values, float(bound))

    def above(self, sizes: Tensor) -> Tensor:
        """Returns the mask of the next absolute values that are kept."""
        if not self._ties:
            return sizes >= self.cut.value
        mask = sizes > self.cut.value
        places = torch.nonzero((sizes == self.cut.value).reshape(-1))[:, 0]
        skipped = min(self._ties, places.numel())
        self._ties -= skipped
        mask.view(-1)[places[skipped:]] = True
        return mask
