"""Each model's own leading singular vectors of one layer: what model-by-model principal angles are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uws_core.nouns.arrays import Bools, Floats, frozen
from uws_core.nouns.models import LayerKey, LeftOut

Singles = NDArray[np.float32]
# Up to this smaller side all singular values of a dense layer are worked out, beyond it only the kept ones.
EXACT_SIDE = 2048


# What the row of the base is called, where the base was asked for beside the models.
BASE = "the base"


class Side(StrEnum):
    """Which singular vectors of an `m x p` matrix: output ones of length `m`, or input ones of length `p`."""

    OUT = "out"
    IN = "in"


@dataclass(frozen=True)
class Factors:
    """The truncated singular value decompositions of one layer of `n` models about one centre.

    `left` (n, m, kept) and `right` (n, p, kept) hold orthonormal columns in float32, strongest first; `singular`
    (n, up to min(m, p)) holds singular values in float64, descending, all of them where `complete`, else as many as
    `kept`. `norm2` (n,) is the squared Frobenius norm of each centred layer, so that a tail is known also where
    `singular` is cut short. `residual` (n,) is `|W v_k - s_k u_k|` of the worst kept direction, relative to the largest
    singular value. `about` names the centre. Rows of models that are not `usable` are zero.
    Directions whose singular value is at or below `floor` times the model's largest are arbitrary.
    """

    layer: LayerKey
    labels: tuple[str, ...]
    about: str
    left: Singles
    right: Singles
    singular: Floats
    norm2: Floats
    residual: Floats
    complete: bool = True
    floor: float = 1e-7
    usable: Bools = field(default_factory=lambda: np.ones(0, dtype=np.bool_))
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            object.__setattr__(self, name, _single(getattr(self, name)))
        for name in ("singular", "norm2", "residual"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        usable = np.array(self.usable if self.usable.size else np.ones(len(self.labels)), dtype=np.bool_)
        usable.flags.writeable = False
        object.__setattr__(self, "usable", usable)
        n, (m, p), k = len(self.labels), self.layer.shape, self.left.shape[-1]
        found = (self.left.shape, self.right.shape, len(self.singular), self.norm2.shape, usable.shape)
        if found != ((n, m, k), (n, p, k), n, (n,), (n,)):
            raise ValueError(f"{self.layer.name}: factors of {n} models of {m} x {p} at {k} do not have shapes {found}")

    @property
    def n(self) -> int:
        """The number of models."""
        return len(self.labels)

    @property
    def kept(self) -> int:
        """The number of directions kept on each side."""
        return int(self.left.shape[-1])

    def basis(self, side: Side | str) -> Singles:
        """The orthonormal directions of one side: `left` (n, m, kept) or `right` (n, p, kept)."""
        return self.left if Side(side) is Side.OUT else self.right

    def rank(self) -> NDArray[np.intp]:
        """How many kept directions of each model (n,) stand above the floor; 0 for a zero layer."""
        kept = self.singular[:, : self.kept]
        largest = kept[:, :1] if kept.size else np.zeros((self.n, 1))
        return np.asarray(((kept > self.floor * largest) & (kept > 0)).sum(axis=1), dtype=np.intp)


def _single(values: ArrayLike) -> Singles:
    """A read-only float32 array; a view where it is one already, for these are the largest arrays that are kept."""
    array = np.asarray(values, dtype=np.float32).view()
    array.flags.writeable = False
    return array
