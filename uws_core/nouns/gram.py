"""The Gram matrix of one layer of all models, and the moments of its entries that the same pass counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Bools, Floats, frozen
from uws_core.nouns.block_grams import BlockGrams
from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.nouns.shown import Shown


@dataclass(frozen=True)
class EntryStats:
    """Raw moments of the entries of each model's layer, so that layers and slabs add; every array is (n,).

    `power1` to `power4` are sums of entries, squares, cubes and fourth powers over `count` entries; `largest` is the
    largest magnitude and `non_finite` counts NaN and infinities (moments of such a model are NaN).
    """

    count: int
    power1: Floats
    power2: Floats
    power3: Floats
    power4: Floats
    largest: Floats
    non_finite: Floats

    def __post_init__(self) -> None:
        for name in ("power1", "power2", "power3", "power4", "largest", "non_finite"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __add__(self, other: EntryStats) -> EntryStats:
        sums = {f"power{i}": getattr(self, f"power{i}") + getattr(other, f"power{i}") for i in (1, 2, 3, 4)}
        return EntryStats(
            count=self.count + other.count,
            largest=np.maximum(self.largest, other.largest),
            non_finite=self.non_finite + other.non_finite,
            **sums,
        )

    @classmethod
    def of_norms(cls, norms2: Floats, count: int) -> EntryStats:
        """The statistics of a pass that learns only the squared norms (n,); every other moment is NaN."""
        unknown = np.full(norms2.shape, np.nan)
        return cls(count, unknown, norms2, unknown, unknown, unknown, (~np.isfinite(norms2)).astype(np.float64))

    @property
    def norm(self) -> Floats:
        """The Frobenius norm of each model's layer."""
        return np.sqrt(self.power2)

    @property
    def mean(self) -> Floats:
        """The mean entry."""
        return self.power1 / self.count

    @property
    def std(self) -> Floats:
        """The standard deviation of the entries (divisor `count`)."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.maximum(self.power2 / self.count - self.mean**2, 0.0))

    @property
    def kurtosis(self) -> Floats:
        """The excess kurtosis of the entries: 0 for a normal, -1.2 for a uniform distribution, NaN if constant."""
        mean, c = self.mean, self.count
        with np.errstate(divide="ignore", invalid="ignore"):
            fourth = self.power4 / c - 4 * mean * self.power3 / c + 6 * mean**2 * self.power2 / c - 3 * mean**4
            variance = self.std**2
            return np.where(variance > 0, fourth / variance**2 - 3, np.nan)


# Centres that are not a model; a model that bears such a name cannot be one.
CENTRES = ("mean", "zero", "base")
# So many times its rounding a number must be to be told. Products of float32 were found up to 1.7 floors off: at ten
# floors that moves shares by 1 % of themselves, at one floor it makes them.
RESOLVED = 10.0
# Below it a float32 square is not a normal number, and soon none at all; weights this small are the only ones affected.
_LEAST_SQUARE, _SMALL = float(np.finfo(np.float32).tiny), 1e-20
# Between the relative floors of products in single (1e-7) and in double (1e-15).
_SINGLE = 1e-11
Members = Sequence[int] | Sequence[bool] | Bools | np.ndarray[tuple[int], np.dtype[np.integer]] | None


class Axis(StrEnum):
    """What the points of a spectrum are: whole models, or the vectors on one side of the matrices."""

    MODELS = "models"
    OUT = "out"
    IN = "in"


@dataclass(frozen=True)
class BaseRow:
    """Where the base model lies relative to the mean: enough for every quantity about the base.

    With `b` the base and `mu` the mean of all models: `to_models[i] = <W_i - mu, b - mu>`,
    `to_center = <b - mu, mu>`, `norm2 = |b - mu|^2`.
    """

    to_models: Floats
    to_center: float
    norm2: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "to_models", frozen(self.to_models))

    def __add__(self, other: BaseRow) -> BaseRow:
        return BaseRow(self.to_models + other.to_models, self.to_center + other.to_center, self.norm2 + other.norm2)


@dataclass(frozen=True)
class Gram(Shown):
    """Inner products about the mean `mu` of all usable models, and what the same pass gives for nothing.

    On `Axis.MODELS` `values[i, j] = <W_i - mu, W_j - mu>`, shape (n, n), `to_center[i] = <W_i - mu, mu>` and
    `center_norm2 = |mu|^2`, so raw inner products are `values + c_i + c_j + q`. On the side axes `values` is
    (p, p) or (m, m), summed over the chosen models, and `to_center` is empty.
    `usable` is False for models with non-finite entries: their rows are zero and no analysis uses them.
    `floor` is the size, in the units of `values`, below which an eigenvalue is rounding. `+` adds layers.
    `variance2_per_entry` is the sum over layers of (layer's variance)^2 / d, from which `effective_d` comes; NaN
    works it out.
    """

    layers: tuple[LayerKey, ...]
    labels: tuple[str, ...]
    values: Floats
    to_center: Floats
    center_norm2: float
    d: int
    floor: float
    entry_stats: EntryStats
    axis: Axis = Axis.MODELS
    base: BaseRow | None = None
    usable: Bools = field(default_factory=lambda: np.ones(0, dtype=np.bool_))
    left_out: tuple[LeftOut, ...] = ()
    variance2_per_entry: float = float("nan")
    # Of row and column blocks, for the profile null; None on the side axes and where no pass formed them.
    blocks: BlockGrams | None = None

    def __post_init__(self) -> None:
        if np.isnan(self.variance2_per_entry):
            object.__setattr__(self, "variance2_per_entry", float(np.trace(self.values)) ** 2 / max(self.d, 1))
        object.__setattr__(self, "values", frozen(self.values))
        object.__setattr__(self, "to_center", frozen(self.to_center))
        usable = np.array(self.usable if self.usable.size else np.ones(len(self.labels)), dtype=np.bool_)
        usable.flags.writeable = False
        object.__setattr__(self, "usable", usable)

    @property
    def n(self) -> int:
        """The number of models."""
        return len(self.labels)

    @property
    def effective_d(self) -> float:
        """How many equally strong entries scatter inner products as these layers do: `d` for one, less for several.

        Layers of unequal strength e_l make a sum whose noise is that of `(sum e_l)^2 / sum(e_l^2 / d_l)` entries
        (Welch-Satterthwaite), so a null for a whole network must not use the plain number of weights.
        """
        energy = float(np.trace(self.values)) ** 2
        return min(energy / self.variance2_per_entry, float(self.d)) if self.variance2_per_entry > 0 else float(self.d)

    @property
    def single(self) -> bool:
        """Whether products were formed in single precision, so that double would resolve more."""
        bound = _bound(self.values)
        return self.floor > _SINGLE * bound if bound > 0 else bool(self._vanished.any())

    @property
    def blur(self) -> Floats:
        """How far off each model (n,) may be by the rounding of its products: a product is off by that of both."""
        bound = _bound(self.values)
        share = self.floor / bound if bound > 0 else 0.0
        return np.sqrt(share * np.maximum(np.diag(self.values), 0.0))

    def rounding(self, center: str = "mean", *, members: Members = None) -> float:
        """The size below which an eigenvalue of `about(center)` is rounding, in the units of `values`.

        It is `floor`, or less about the mean of models that lie nearer to `mu` than others. Where single precision has
        lost the squares of tiny weights, it is what they may have been.
        """
        rows = self.chosen(members)
        lost = self.d * _LEAST_SQUARE if self.axis is Axis.MODELS and self.single and self._tiny(rows) else 0.0
        if center != "mean" or self.axis is not Axis.MODELS:
            return max(self.floor, lost)
        return max(min(self.floor, float(np.sum(self.blur[rows] ** 2))), lost)

    @property
    def _vanished(self) -> Bools:
        """Which models (n,) have weights but not the squares they must have: `(sum x)^2 <= d sum x^2`."""
        stats = self.entry_stats
        with np.errstate(invalid="ignore"):
            lost = (stats.largest == 0) & (stats.power1 != 0)
            return np.asarray(lost | (stats.power1**2 > 2 * stats.count * np.maximum(stats.power2, 0.0)))

    def _tiny(self, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> bool:
        stats = self.entry_stats
        small = (stats.power2[rows] <= _SMALL * stats.count) & ((stats.power2 > 0) | self._vanished)[rows]
        return bool(small.any())

    @property
    def layer(self) -> LayerKey:
        """The layer, or one that stands for the sum of several."""
        return self.layers[0] if len(self.layers) == 1 else LayerKey(f"{len(self.layers)} layers", (1, self.d))

    def __add__(self, other: Gram) -> Gram:
        """The Gram of both sets of layers taken as one long layer.

        Raises:
            LayerError: the two are of different models or of different axes.
        """
        if self.labels != other.labels or self.axis != other.axis or self.axis is not Axis.MODELS:
            raise LayerError(
                f"Grams add over layers of the same models on the models axis; found {self.n} models on {self.axis} "
                f"and {other.n} models on {other.axis}"
            )
        return Gram(
            layers=self.layers + other.layers,
            labels=self.labels,
            values=self.values + other.values,
            to_center=self.to_center + other.to_center,
            center_norm2=self.center_norm2 + other.center_norm2,
            d=self.d + other.d,
            floor=self.floor + other.floor,
            entry_stats=self.entry_stats + other.entry_stats,
            base=self.base + other.base if self.base and other.base else None,
            usable=self.usable & other.usable,
            left_out=self.left_out + other.left_out,
            variance2_per_entry=self.variance2_per_entry + other.variance2_per_entry,
            blocks=_block_sum(self, other),
        )

    def combinations(self, center: str = "mean", *, members: Members = None) -> Floats:
        """Returns the chosen models about `center` as combinations (s, k) of the rows of `blocks`.

        Raises:
            LayerError: no blocks, or an unknown centre.
        """
        if self.blocks is None:
            raise LayerError(f"{self.layer.name}: no Grams of blocks are stored; scan the layer again")
        rows = self.chosen(members)
        turned = np.zeros((rows.size, self.n + self.blocks.with_base + 1))
        turned[np.arange(rows.size), rows] = 1.0
        if center == "mean":
            turned[:, rows] -= 1 / rows.size
        elif center == "zero" or (center == "base" and self.base is not None and not self.blocks.with_base):
            # The base of adapters is the update zero.
            turned[:, -1] = 1.0
        elif center == "base" and self.blocks.with_base:
            turned[:, self.n] = -1.0
        else:
            self._center(center)
            turned[:, self.labels.index(center)] -= 1.0
        return turned

    def chosen(self, members: Members = None) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """The indices of the usable ones among `members` (indices or a boolean mask; None is all), in order given.

        Raises:
            NotEnoughModels: an index lies outside the models or comes twice, or a mask has another length.
        """
        if members is None:
            return np.flatnonzero(self.usable)
        given = np.asarray(members)
        if given.dtype == np.bool_:
            if given.size != self.n:
                raise NotEnoughModels(f"A mask over {self.n} models was expected, one over {given.size} was given")
            given = np.flatnonzero(given)
        given = given.astype(np.intp).reshape(-1)
        if given.size and (given.min() < -self.n or given.max() >= self.n):
            raise NotEnoughModels(
                f"Model indices run from 0 to {self.n - 1}; found {int(given.min())} to {int(given.max())}"
            )
        given = given % self.n if given.size else given
        again, times = np.unique(given, return_counts=True)
        if (times > 1).any():
            named = ", ".join(f"{self.labels[i]} ({k} times)" for i, k in zip(again, times, strict=True) if k > 1)
            raise NotEnoughModels(f"Each model counts once; {named} was chosen again")
        return given[self.usable[given]]

    def about(self, center: str = "mean", *, members: Members = None) -> Floats:
        """Inner products `(s, s)` of the chosen models about `center`: `mean` (of the chosen), `zero`, `base`, a label.

        No weight is read: every centre is a combination of models with weights that sum to one.

        Raises:
            LayerError: `base` without a base that has this layer, or a label that no model bears.
        """
        rows = self.chosen(members)
        part = self.values[np.ix_(rows, rows)]
        if center == "mean":
            return _recentred(part)
        if center == "zero":
            toward = self.to_center[rows]
            return part + toward[:, None] + toward[None, :] + self.center_norm2
        toward, norm2 = self._center(center)
        toward = toward[rows]
        return part - toward[:, None] - toward[None, :] + norm2

    def pivot(self, center: str) -> int | None:
        """The index of the model that is the centre; None for the mean, zero and the base, whatever models are called.

        None too where no model bears the name.
        """
        return self.labels.index(center) if center not in CENTRES and center in self.labels else None

    def _center(self, center: str) -> tuple[Floats, float]:
        """`<W_i - mu, c - mu>` and `|c - mu|^2` for the base or a model."""
        if center == "base":
            if self.base is None:
                raise LayerError(
                    f"{self.layer.name}: no base model is known for this layer; choose the mean as the centre"
                )
            return self.base.to_models, self.base.norm2
        index = self.pivot(center)
        if index is None:
            raise LayerError(
                f"{self.layer.name}: no model is called {center!r}; the centre is mean, zero, base or a model"
            )
        return self.values[index], float(self.values[index, index])

    def cosines(self, center: str = "zero", *, members: Members = None) -> Floats:
        """Cosines `(s, s)` between the chosen models about `center`; NaN where a norm is at or below the floor."""
        inner = self.about(center, members=members)
        norms2 = np.diag(inner).copy()
        norms2[norms2 <= self.rounding(center, members=members)] = np.nan
        scale = np.sqrt(norms2)
        return np.asarray(np.clip(inner / np.outer(scale, scale), -1.0, 1.0))


def _block_sum(left: Gram, right: Gram) -> BlockGrams | None:
    """The blocks of both; without the base's row where one of them has none."""
    if left.blocks is None or right.blocks is None:
        return None
    if left.blocks.with_base == right.blocks.with_base:
        return left.blocks + right.blocks
    return left.blocks.without_base() + right.blocks.without_base()


def _bound(values: Floats) -> float:
    """An upper bound of the largest eigenvalue: the largest absolute row sum."""
    return float(np.abs(values).sum(axis=1).max(initial=0.0))


def _recentred(values: Floats) -> Floats:
    """`J values J` with `J = I - 1/s`: inner products about the mean of exactly these models."""
    if not values.size:
        return values
    rows = values.mean(axis=0)
    return np.asarray(values - rows[:, None] - rows[None, :] + rows.mean())
