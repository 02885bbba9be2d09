"""The blocks of rows and of columns of a layer, and the chunks in which a pass forms their products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from uws_core.nouns.block_grams import most_blocks

# A layer of few entries has at most so many blocks, or one for as many entries as there are models.
_ENOUGH_OF_FEW = 16
# A product over fewer entries than this costs more for its n^2 results than for its sums.
_EFFICIENT_CELL = 512
# Column blocks are widened for that, but never beyond this number of blocks.
_ENOUGH_COLUMNS = 16
# Of adapters each block costs a sweep over the products of all ranks.
_MOST_OF_FACTORS = 32
# Copies of rows of a block are faster where these begin at whole vectors of the processor.
_VECTOR = 16
# A chunk may be so many times larger where that spares a small one at the end of the row: each costs n^2 sums.
_MORE = 1.25
# In a layer of smaller cells the products of rows and those of columns are formed one after the other.
_SMALLEST_CELL = 64


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Blocks of `height` rows and of `width` columns of an m x p layer; the last block of a side may be smaller.

    They depend on the shape and the number of models alone, and not on slabs, executors or cores, so that Grams of the
    same block from anywhere add up. With `kept` False there are too many models to keep Grams of blocks.
    """

    m: int
    p: int
    height: int
    width: int
    kept: bool = True

    @classmethod
    def of(cls, shape: tuple[int, int], models: int, *, cells: bool = True) -> BlockLayout:
        """The blocks of a layer of so many models (with the base); of `cells` only where each is worth a product."""
        m, p = shape
        most = min(most_blocks(models), max(m * p // max(models, 1), _ENOUGH_OF_FEW))
        if not most:
            return cls(m, p, m, p, kept=False)
        most = most if cells else min(most, _MOST_OF_FACTORS)
        height, width = -(-m // most), -(-p // most)
        if cells and (height * width >= _SMALLEST_CELL or m * p > 2**18):
            width = max(width, min(-(-p // _ENOUGH_COLUMNS), -(-_EFFICIENT_CELL // height)))
            width = -(-width // _VECTOR) * _VECTOR if width >= _VECTOR else width
        return cls(m, p, height, width)

    @property
    def rows(self) -> int:
        """The number of row blocks."""
        return -(-self.m // self.height)

    @property
    def columns(self) -> int:
        """The number of column blocks."""
        return -(-self.p // self.width)

    @property
    def cells(self) -> bool:
        """Whether products are formed of each cell, where a row block and a column block meet, and give both."""
        return self.height * self.width >= _SMALLEST_CELL or not self.kept

    def chunks(self, first: int, rows: int, most: int) -> Iterator[tuple[slice, slice]]:
        """The rows and columns of chunks of about `most` entries that make the rows `first` to `first + rows`.

        A chunk holds whole cells, or a part of the rows of one row block; row slices count from `first`.
        """
        if self.kept and self.height * self.width < most:
            across = min(self.columns, most // (self.height * self.width))
            wide = -(-self.columns // ceil(self.columns / (_MORE * across))) * self.width
            tall = max(most // (self.height * self.p), 1) * self.height if wide >= self.p else self.height
        else:
            wide = self.width if self.kept else min(self.p, most)
            tall = max(most // wide, 1)
        for start, stop in self._row_ranges(first, first + rows, tall):
            for left, right in self._column_ranges(wide):
                yield slice(start - first, stop - first), slice(left, right)

    def _row_ranges(self, start: int, end: int, tall: int) -> Iterator[tuple[int, int]]:
        """Ranges of at most `tall` rows: several whole row blocks, or rows of one."""
        while start < end:
            border = (start // self.height + 1) * self.height
            whole = min(tall, end - start) // self.height * self.height
            stop = start + whole if start % self.height == 0 and whole else min(border, start + tall, end)
            yield start, stop
            start = stop

    def _column_ranges(self, wide: int) -> Iterator[tuple[int, int]]:
        """Ranges of at most `wide` columns: whole column blocks, and the last one if it is narrower by itself."""
        even = self.p // self.width * self.width if self.kept else self.p
        yield from ((left, min(left + wide, even)) for left in range(0, even, wide))
        if even < self.p:
            yield even, self.p
