"""Principal angles between subspaces, and the singular vectors of single models that they compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from uws_core.nouns.arrays import Bools, Floats, frozen
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.nouns.shown import Shown
from uws_core.nouns.spectrum import ScalarNull

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
class Factors(Shown):
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
            # A read-only float32 array; a view where it is one already, for these are the largest arrays that are
            # kept.
            array = np.asarray(getattr(self, name), dtype=np.float32).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
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
        """The number of kept directions of each model (n,) above the floor; 0 for a zero layer."""
        kept = self.singular[:, : self.kept]
        largest = kept[:, :1] if kept.size else np.zeros((self.n, 1))
        return np.asarray(((kept > self.floor * largest) & (kept > 0)).sum(axis=1), dtype=np.intp)


@dataclass(frozen=True)
class Angles(Shown):
    """The principal angles between two subspaces of `R^dimension`.

    `radians` (k,) ascend, k the smaller of the two numbers of directions. `cosines` (k_left, k_right) are those
    between the single directions. Angles below `floor` are rounding and read 0. `chance` is what the overlap of two
    random subspaces of these sizes is on average. Source: Björck and Golub 1973.
    """

    axis: Axis
    radians: Floats
    cosines: Floats
    floor: float
    chance: float
    dimension: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "radians", frozen(self.radians))
        object.__setattr__(self, "cosines", frozen(self.cosines))

    @property
    def k(self) -> int:
        """The number of angles."""
        return self.radians.size

    @property
    def degrees(self) -> Floats:
        """The angles in degrees, ascending."""
        return np.degrees(self.radians)

    @property
    def mean_degrees(self) -> float:
        """The mean angle in degrees; NaN without a direction on one side."""
        return float(self.degrees.mean()) if self.k else float("nan")

    @property
    def largest_degrees(self) -> float:
        """The largest angle in degrees; NaN without a direction on one side."""
        return float(self.degrees[-1]) if self.k else float("nan")

    @property
    def overlap(self) -> float:
        """`mean cos^2` of the angles: 1 for one inside the other, `chance` for random ones, 0 for orthogonal ones."""
        return float(np.mean(np.cos(self.radians) ** 2)) if self.k else float("nan")


@dataclass(frozen=True)
class AngleTable(Shown):
    """The principal angles of every pair of `g` subspaces of `R^dimension`: of models, of groups, or of layers.

    `radians` (g, g, k) float32 ascend along the last axis; where a pair has fewer angles than k the rest is NaN.
    `kept` (g,) is the number of directions of each; `sizes` (g,) how many models stand behind each. Angles below
    `floor` read 0. `chance` (g, g) is the overlap of two random subspaces of the pair's sizes, NaN where the spaces
    differ.
    """

    what: str
    labels: tuple[str, ...]
    radians: NDArray[np.float32]
    kept: NDArray[np.intp]
    sizes: NDArray[np.intp]
    chance: Floats
    dimension: int
    asked: int
    floor: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, dtype in (("radians", np.float32), ("kept", np.intp), ("sizes", np.intp), ("chance", np.float64)):
            values = np.array(getattr(self, name), dtype=dtype)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        g = len(self.labels)
        if self.radians.shape[:2] != (g, g) or self.kept.shape != (g,) or self.chance.shape != (g, g):
            raise ValueError(f"Angles of {g} subspaces do not have the shape {self.radians.shape}")

    @property
    def g(self) -> int:
        """The number of subspaces."""
        return len(self.labels)

    @cached_property
    def mean_degrees(self) -> Floats:
        """The mean angle of each pair in degrees (g, g); NaN where a pair has none."""
        return frozen(_over_pairs(np.degrees(self.radians.astype(np.float64))))

    @cached_property
    def largest_degrees(self) -> Floats:
        """The largest angle of each pair in degrees (g, g); NaN where a pair has none."""
        degrees = np.degrees(self.radians.astype(np.float64))
        largest = np.max(np.nan_to_num(degrees, nan=-1.0), axis=-1, initial=-1.0)
        return frozen(np.where(largest < 0, np.nan, largest))

    @cached_property
    def overlap(self) -> Floats:
        """`mean cos^2` of each pair (g, g); NaN where a pair has no angle."""
        return frozen(_over_pairs(np.cos(self.radians.astype(np.float64)) ** 2))


@dataclass(frozen=True, slots=True)
class ChanceLevel:
    """What two random subspaces show: overlap with its 2.5 and 97.5 % points, mean and largest angle on average."""

    overlap: float
    low: float
    high: float
    mean_degrees: float
    largest_degrees: float


@dataclass(frozen=True)
class TableBand:
    """Every pair's overlap against relabelled models: the same sizes, the labels shuffled.

    `low`, `middle`, `high` (g, g) are the 2.5, 50 and 97.5 % points of the draws, `z` and the two-sided `p` (g, g)
    place the observed overlap among them. `between` is the mean overlap of different groups against the same draws,
    a single test.
    """

    low: Floats
    middle: Floats
    high: Floats
    z: Floats
    p: Floats
    between: ScalarNull
    draws: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("low", "middle", "high", "z", "p"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def p_between(self) -> float:
        """The two-sided p of `between`: groups may be more alike than random ones, or less."""
        upper = 1 - self.between.p + 1 / (1 + self.draws)
        return min(2 * self.between.p, 2 * upper, 1.0)


@dataclass(frozen=True)
class Order:
    """An order of things by likeness, with the tree that gave it.

    `leaves` (g,) are the indices in drawing order. A merge is drawn through four points `along` and `heights` (g -
    1, 4): along in units of leaves (the first leaf at 0), heights in the units of the distance. Things without a
    distance stand last.
    """

    leaves: NDArray[np.intp]
    along: Floats
    heights: Floats

    def __post_init__(self) -> None:
        leaves = np.array(self.leaves, dtype=np.intp)
        leaves.flags.writeable = False
        object.__setattr__(self, "leaves", leaves)
        object.__setattr__(self, "along", frozen(self.along))
        object.__setattr__(self, "heights", frozen(self.heights))


def _over_pairs(values: Floats) -> Floats:
    """The mean over the last axis without NaN; NaN where there is nothing."""
    there = ~np.isnan(values)
    counts = there.sum(axis=-1)
    sums = np.where(there, values, 0.0).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts, dtype=np.float64)
