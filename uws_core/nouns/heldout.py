"""Reconstruction of models that a subspace was not made from: errors of weights, scores, and unseen models."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.gram import RESOLVED, Axis
from uws_core.nouns.models import LayerKey
from uws_core.nouns.shown import Shown

# The group of a model that was never part of the collection.
UNSEEN_MODEL = "not in the collection"
_CURVES = ("subspace2", "random2", "in_sample2", "own_svd2")


@dataclass(frozen=True)
class HeldOut(Shown):
    """Squared distances of one model `W_h` to what rebuilds it, over a layer or a sum of layers.

    The subspace comes from the `trained_on` models outside `group`, about `about`; the error of everything is
    relative to `reference2 = |W_h - c|^2` with `c` the `reference` (`mean` of the others, `zero`, `base`). At each
    of `kept` (q,) directions: `subspace2` that of the others; `random2` the expectation over random subspaces of
    the same number of directions; `in_sample2` a subspace that saw the model itself; `own_svd2` the model's own
    truncated SVD at the same number of stored values (NaN where its singular values are not known). `mean2` is the
    distance to the mean of the others alone. `floor2` is their rounding. Beyond `ceiling` directions nothing is
    left to add. Squares and not ratios are kept so that layers add (`+`).
    """

    model: str
    group: str
    layers: tuple[str, ...]
    axis: Axis
    about: str
    reference: str
    kept: NDArray[np.intp]
    reference2: float
    mean2: float
    subspace2: Floats
    random2: Floats
    in_sample2: Floats
    own_svd2: Floats
    trained_on: int
    ceiling: int
    floor2: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kept = np.array(self.kept, dtype=np.intp)
        kept.flags.writeable = False
        object.__setattr__(self, "kept", kept)
        for name in _CURVES:
            object.__setattr__(self, name, frozen(getattr(self, name)))
            if getattr(self, name).shape != kept.shape:
                raise ValueError(f"{self.model}: {name} needs one value for each of {kept.size} numbers of directions")

    def __add__(self, other: HeldOut) -> HeldOut:
        """The same model over the layers of both: squares add.

        Raises:
            ValueError: the two are of another model, fold, axis or list of k.
        """
        mine = (self.model, self.group, self.axis, self.about, self.reference, tuple(self.kept))
        if mine != (other.model, other.group, other.axis, other.about, other.reference, tuple(other.kept)):
            raise ValueError(f"Errors add over layers of one model and fold; found {self.model} and {other.model}")
        return HeldOut(
            *mine[:2],
            layers=self.layers + other.layers,
            axis=self.axis,
            about=self.about,
            reference=self.reference,
            kept=self.kept,
            reference2=self.reference2 + other.reference2,
            mean2=self.mean2 + other.mean2,
            trained_on=min(self.trained_on, other.trained_on),
            ceiling=max(self.ceiling, other.ceiling),
            floor2=self.floor2 + other.floor2,
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
            **{name: getattr(self, name) + getattr(other, name) for name in _CURVES},
        )

    @property
    def subspace(self) -> Floats:
        """The relative squared error of the others' subspace at each k."""
        return self._relative(self.subspace2)

    @property
    def random(self) -> Floats:
        """What a random subspace of as many directions leaves, on average."""
        return self._relative(self.random2)

    @property
    def in_sample(self) -> Floats:
        """The error of a subspace that saw the model: never evidence that it generalises."""
        return self._relative(self.in_sample2)

    @property
    def own_svd(self) -> Floats:
        """The error of the model's own truncated SVD at the same number of stored values."""
        return self._relative(self.own_svd2)

    @property
    def mean_only(self) -> float:
        """The error of putting the mean of the others in the model's place."""
        return float(self._relative(self.mean2))

    @property
    def nothing(self) -> float:
        """The error of storing nothing: 1 by definition, NaN for a model that is the reference itself."""
        return float(self._relative(self.reference2))

    def _relative(self, squares: Floats | float) -> Floats:
        known = self.reference2 > RESOLVED * self.floor2
        return np.asarray(squares) / self.reference2 if known else np.full(np.shape(squares), np.nan)


@dataclass(frozen=True)
class HeldOutChance:
    """What the others' directions leave of held-out models that share nothing but their scales, draw by draw.

    `residual2` (draws, t, q) are squared distances at each of `kept` (q,) directions and `start2` (draws, t) those to
    the others' mean, of `t` models of the groups that were held out. Squares add over layers (`+`).
    """

    kept: NDArray[np.intp]
    residual2: Floats
    start2: Floats
    seed: int

    def __post_init__(self) -> None:
        for name in ("residual2", "start2"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __add__(self, other: HeldOutChance) -> HeldOutChance:
        """The same models over the layers of both.

        Raises:
            ValueError: other draws, models or numbers of directions.
        """
        if self.residual2.shape != other.residual2.shape or not np.array_equal(self.kept, other.kept):
            raise ValueError(f"Draws of the same models add; found {self.residual2.shape}, {other.residual2.shape}")
        return HeldOutChance(self.kept, self.residual2 + other.residual2, self.start2 + other.start2, self.seed)

    @property
    def captured(self) -> Floats:
        """The share (draws, q) of the distance to the others' mean that is found: the median over models."""
        start2 = self.start2[:, :, None]
        left = np.divide(self.residual2, start2, out=np.ones_like(self.residual2), where=start2 > 0)
        return np.asarray(1 - np.median(left, axis=1))


@dataclass(frozen=True)
class UnseenModel:
    """Where a model `x` outside a collection lies in one layer: one more row of its Gram, about the same mean `mu`.

    `to_models[i] = <W_i - mu, x - mu>` (n,), 0 for models that are not usable; `to_center = <x - mu, mu>`;
    `norm2 = |x - mu|^2`; `to_base = <x - mu, b - mu>`, NaN without a base.
    """

    model: str
    layer: LayerKey
    to_models: Floats
    to_center: float
    norm2: float
    to_base: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "to_models", frozen(self.to_models))


class Way(StrEnum):
    """How a network's weights were made before it was scored."""

    ORIGINAL = "original"
    HELD_OUT = "held out"
    IN_SAMPLE = "in sample"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class FunctionPoint:
    """One network's score after its analysed layers were rebuilt at `kept` directions.

    `weight_error` is the relative squared error of those layers together (0 for the original, 1 for the reference
    itself); at `kept` 0 the mean stands in their place. `score` is what the evaluator says, NaN with the `problem` in
    words where it failed.
    """

    model: str
    group: str
    way: Way
    kept: int
    weight_error: float
    score: float
    problem: str = ""
