"""Grams of the blocks of a layer: what the profile null flips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.nouns.arrays import Floats

# Blocks a side, and the fewest that a null can use: 2.7 MB a layer of a hundred models in the store.
MOST_BLOCKS, FEWEST_BLOCKS = 64, 8
# Inner products of all blocks of a side, so that a layer of 500 models (16 blocks) takes 16 MB.
_MOST_PRODUCTS = 16 * 504**2


def most_blocks(models: int) -> int:
    """Returns how many blocks a side are kept of so many models; 0 where these would be too few to be of use."""
    most = min(MOST_BLOCKS, _MOST_PRODUCTS // max(models, 1) ** 2)
    return most if most >= FEWEST_BLOCKS else 0


@dataclass(frozen=True)
class BlockGrams:
    """Inner products of every block of rows, and of every block of columns, of one layer or a sum of layers.

    `rows` is (B_r, k, k) and `columns` (B_c, k, k), symmetric, about the mean `mu` of all usable models: first the `n`
    models, then the base where it is stored as a row (`with_base`), last the mean itself, so that
    `G_b[i, j] = <W_i - mu, W_j - mu>_b`, `G_b[i, -1] = <W_i - mu, mu>_b` and `G_b[-1, -1] = |mu|_b^2`. The sum over
    blocks is the layer's Gram. A block of rows holds `ceil(m / most)` rows; a vector's entries are the blocks of both.
    Stored in float32: n^2 numbers a block. Source: Hong, Sheng and Dobriban 2020 (signflip parallel analysis).
    """

    rows: Floats
    columns: Floats
    n: int
    with_base: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            values = np.asarray(getattr(self, name))
            k = self.n + self.with_base + 1
            if values.ndim != 3 or values.shape[1:] != (k, k):
                raise ValueError(f"{name} of {self.n} models are (blocks, {k}, {k}); found {values.shape}")
            values = values.view()
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __add__(self, other: BlockGrams) -> BlockGrams:
        """Block by block: of other rows of the same layer, or of another layer; the longer one keeps its last blocks.

        Raises:
            ValueError: the two are of different models.
        """
        if (self.n, self.with_base) != (other.n, other.with_base):
            raise ValueError(f"Blocks of the same models add; found {self.n} and {other.n} models")
        return BlockGrams(
            _added(self.rows, other.rows), _added(self.columns, other.columns), self.n, with_base=self.with_base
        )

    def without_base(self) -> BlockGrams:
        """Returns the same blocks without the base's row."""
        if not self.with_base:
            return self
        kept = [*range(self.n), self.n + 1]
        return BlockGrams(self.rows[:, kept][:, :, kept], self.columns[:, kept][:, :, kept], self.n)

    def about(self, combinations: Floats, *, columns: bool = False) -> Floats:
        """Returns inner products (B, s, s) in float64 of `s` combinations (s, k) of the stored rows.

        `combinations` has one row a model: `e_i` minus the centre, written in models, base and mean.
        """
        blocks = self.columns if columns else self.rows
        turned = np.asarray(combinations, dtype=np.float64)
        return np.asarray(turned @ blocks.astype(np.float64) @ turned.T)


def _added(left: Floats, right: Floats) -> Floats:
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    total = np.array(longer)
    total[: len(shorter)] += shorter
    return total
