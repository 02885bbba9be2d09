"""Counts of stored numbers and bytes, and the record of a compressed collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

import numpy as np

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import LayerKey
from uws_core.nouns.shown import Shown


@dataclass(frozen=True, slots=True)
class StoredSizes:
    """What the files of the chosen models store, read from their headers.

    `ranks` maps a layer that models keep as factors to one rank a model, in the models' order; 0 is a model that keeps
    the layer whole. A layer that is not in it is whole in every model. `bytes` maps each layer to the bytes of all
    models together. `other` counts the numbers in tensors that are not layers of the collection.
    """

    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    other: int = 0

    def numbers(self, layer: LayerKey, n: int) -> int:
        """The numbers that `n` models store for a layer: `r (m + p)` for factors of rank r, `m p` for a whole one."""
        ranks = self.ranks.get(layer.name)
        if ranks is None:
            return n * layer.entries
        return sum(rank * sum(layer.shape) if rank else layer.entries for rank in ranks)


@dataclass(frozen=True, slots=True)
class Storage:
    """Stored numbers of `n` models at `kept` directions a layer, as integers; one entry a layer in each tuple.

    `basis` and `mean` are stored once for all models, `coefficients` are those of all `n` models together, `dense`
    is what the layers take without sharing: every weight, or the numbers of the stored factors (`factors`), and
    `dense_bytes` their bytes in the files, empty where these are not known. `untouched` are all other tensors of all
    models, stored as they are. `axis` None means both sides, with `kept` of the outputs and `kept_in` of the inputs.
    `notes` says which k was clipped.
    """

    axis: Axis | None
    n: int
    layers: tuple[str, ...]
    kept: tuple[int, ...]
    kept_in: tuple[int, ...]
    basis: tuple[int, ...]
    mean: tuple[int, ...]
    coefficients: tuple[int, ...]
    dense: tuple[int, ...]
    dense_bytes: tuple[int, ...] = ()
    untouched: int = 0
    notes: tuple[str, ...] = ()
    factors: bool = False

    @property
    def shared(self) -> int:
        """Numbers stored for the analysed layers: basis and mean once, coefficients for every model."""
        return sum(self.basis) + sum(self.mean) + sum(self.coefficients)

    @property
    def whole(self) -> int:
        """Numbers stored for the whole checkpoints: the analysed layers shared, all else at full size."""
        return self.shared + self.untouched

    @property
    def ratio(self) -> float:
        """The analysed layers' numbers over those of the shared form; below 1 they grow."""
        return float(Fraction(sum(self.dense), self.shared)) if self.shared else float("inf")

    @property
    def ratio_whole(self) -> float:
        """The whole checkpoints' numbers over those of the shared form."""
        return float(Fraction(sum(self.dense) + self.untouched, self.whole)) if self.whole else float("inf")

    @property
    def shared_bytes(self) -> int | None:
        """Bytes of `shared` in the files' own width, at least two bytes a number; None where it is not known.

        Packed weights have less than a byte a number, but a basis and coefficients are no grid of integers: they are
        counted as float16.
        """
        if not self.dense_bytes:
            return None
        rows = zip(self.basis, self.mean, self.coefficients, self.dense, self.dense_bytes, strict=True)
        # Bytes a number: the smallest of 2, 4 and 8 that is no narrower than the files'.
        return sum(
            (basis + mean + own) * next((width for width in (2, 4) if size <= width * numbers), 8)
            for basis, mean, own, numbers, size in rows
        )

    @property
    def ratio_bytes(self) -> float | None:
        """How many times fewer bytes the analysed layers take; None where the files' bytes are not known."""
        shared = self.shared_bytes
        return float(Fraction(sum(self.dense_bytes), shared)) if shared else None

    def per_model(self, layer: int) -> Fraction:
        """One model's share of what layer number `layer` stores: its coefficients, an `n`-th of basis and mean."""
        return Fraction(self.basis[layer] + self.mean[layer] + self.coefficients[layer], self.n)


class Method(StrEnum):
    """How the models of a layer share a basis; docs/compress.md has the formulas."""

    TWO_SIDED = "two-sided"
    DIAGONAL = "diagonal"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer's method and number of directions, and the numbers stored: once, and for each model.

    A two-sided core of rank `core_rank` is stored as its two factors where these are fewer numbers; 0 is a whole core.
    """

    layer: LayerKey
    method: Method
    k: int
    shared_numbers: int
    member_numbers: int
    core_rank: int = 0


@dataclass(frozen=True)
class Rival:
    """What the same bytes buy without a shared basis: relative errors (n,) of every model, and the bytes used.

    `note` says why a rival does not exist at this size; its errors are NaN then.
    """

    name: str
    bytes: int
    errors: Floats
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", frozen(self.errors))

    @property
    def worst(self) -> float:
        """The largest error; NaN where the rival does not exist."""
        return float(np.max(self.errors)) if self.errors.size else float("nan")


@dataclass(frozen=True, slots=True)
class SizePoint:
    """Errors of one way to spend `bytes` (what travels untouched included): the worst and the median model's.

    `score` is the median of the models' scores relative to their own, NaN where nothing was scored.
    """

    way: str
    bytes: int
    worst: float
    median: float
    score: float = float("nan")


@dataclass(frozen=True)
class Compression(Shown):
    """A compressed collection, measured before anything is written.

    `errors` (n,) is each model's `|W_i - W^_i| / |W_i - c|` over all compressed layers, `layer_errors` (layers, n) the
    same layer by layer; the centre c is zero for adapters. `bytes` is the whole folder with what travels untouched,
    `original_bytes` what the models store now, `bytes_per_member` the price of one more model.
    """

    labels: tuple[str, ...]
    layers: tuple[LayerPlan, ...]
    errors: Floats
    layer_errors: Floats
    bytes: int
    original_bytes: int
    untouched_bytes: int
    bytes_per_member: int
    rivals: tuple[Rival, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", frozen(self.errors))
        object.__setattr__(self, "layer_errors", frozen(self.layer_errors))

    @property
    def ratio(self) -> float:
        """How many times smaller the folder is than the models it holds."""
        return self.original_bytes / self.bytes

    @property
    def worst(self) -> float:
        """The largest error of any model."""
        return float(np.max(self.errors))

    @property
    def pays(self) -> bool:
        """Whether sharing beats each model's own truncated SVD at equal bytes, for the worst model."""
        own = self.rival("own SVD")
        return not np.isfinite(own.worst) or self.worst < own.worst

    def rival(self, name: str) -> Rival:
        """The rival of that name.

        Raises:
            KeyError: no such rival.
        """
        for rival in self.rivals:
            if rival.name == name:
                return rival
        raise KeyError(name)
