"""What a compressed collection costs and what it loses, beside what the same bytes buy without sharing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.models import LayerKey


class Method(StrEnum):
    """How the models of a layer share a basis; docs/compress.md has the formulas."""

    TWO_SIDED = "two-sided"
    DIAGONAL = "diagonal"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer's method and number of directions, and the numbers stored: once, and for each model."""

    layer: LayerKey
    method: Method
    k: int
    shared_numbers: int
    member_numbers: int


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


@dataclass(frozen=True)
class Compression:
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
