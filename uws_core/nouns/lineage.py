"""Who comes from whom: duplicates, outliers, lineage groups, flags on models, and pairs side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uws_core.nouns.angles import Order
from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.models import LayerKey
from uws_core.nouns.shown import Shown

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two models that are nearly the same: their cosine, and `|W_i - W_j|` relative to the mean of their norms."""

    left: str
    right: str
    cosine: float
    distance: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """A model that a reader should look at, or all models; `kind` is one of `KINDS`, `reason` says it in words.

    For all models together `model` names what was looked at: `COLLECTION`, `LAYER`, or so many of the layers. `value`
    is what was measured and `usual` what the others have.
    """

    model: str
    kind: str
    reason: str
    value: float
    usual: float

    @property
    def everywhere(self) -> bool:
        """Whether it is about all models and every layer that was looked at."""
        return self.model in (COLLECTION, LAYER)

    @property
    def together(self) -> bool:
        """Whether it is about all models, be it in some of the layers only."""
        return self.everywhere or self.model.endswith(LAYERS)


COLLECTION, LAYER, LAYERS = "the whole collection", "this layer", " layers (all models)"
KINDS = {
    "non-finite": "holds NaN or infinity, so no number can be computed with it",
    "constant": "all entries are equal",
    "never trained": "entries as fresh random numbers have them, and no likeness to any other model",
    "as if never trained": "entries, norms and cosines are those of fresh random numbers, and the spread of the "
    "entries is what a usual initialiser gives",
    "equal cosines": "all pairwise cosines are one number, norms agree and entries look fresh: a common part and "
    "random numbers, as of models that were silently initialised again",
    "no relative": "unlike every other model, while most others are alike",
    "strength": "its norm stands far outside those of the others",
    "reordered": "norms as alike as those of copies, yet no likeness: as of neurons in another order",
}


@dataclass(frozen=True)
class Stability:
    """How the groups change with the threshold: at each of `thresholds` (t,) the number of groups, the largest group's
    size, and the agreement (adjusted Rand index) with the groups at the chosen threshold.

    `low` and `high` bound the thresholds that give exactly the chosen groups.
    """

    thresholds: Floats
    groups: Indices
    largest: Indices
    agreement: Floats
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("thresholds", "agreement"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        for name in ("groups", "largest"):
            object.__setattr__(self, name, _indices(getattr(self, name)))


@dataclass(frozen=True)
class Lineage(Shown):
    """The likeness of `s` models and the groups it makes.

    `members` (s,) are the models' places in the Gram. `cosines` (s, s) are about `about`; NaN for a model at the
    centre itself. `groups` (s,) numbers the groups from 0, the largest first: two models are in one group when a chain
    of cosines above `threshold` joins them. `representatives` (g,) are places among the members, one a group.
    `chance` is the largest cosine that independent directions would show among as many pairs. `order` draws like beside
    like. `effective_models` is the participation ratio of the cosines, `s^2 / sum(cos^2)`.
    """

    what: str
    about: str
    labels: tuple[str, ...]
    members: Indices
    cosines: Floats
    threshold: float
    groups: Indices
    representatives: Indices
    norms: Floats
    chance: float
    order: Order
    stability: Stability
    effective_models: float
    duplicates: tuple[Duplicate, ...] = ()
    outliers: tuple[Outlier, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cosines", "norms"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        for name in ("members", "groups", "representatives"):
            object.__setattr__(self, name, _indices(getattr(self, name)))
        s = len(self.labels)
        if self.cosines.shape != (s, s) or self.groups.shape != (s,) or self.members.shape != (s,):
            raise ValueError(f"A lineage of {s} models does not have cosines of shape {self.cosines.shape}")

    @property
    def s(self) -> int:
        """The number of models."""
        return len(self.labels)

    @property
    def sizes(self) -> Indices:
        """The sizes of the groups (g,), descending."""
        return np.bincount(self.groups, minlength=self.representatives.size)

    @property
    def effective_groups(self) -> float:
        """The participation ratio of the group sizes: as many equal groups would be as concentrated."""
        return float(self.sizes.sum() ** 2 / np.sum(self.sizes**2))

    def of_group(self, group: int) -> Indices:
        """The places in the Gram of one group's models."""
        return np.asarray(self.members[self.groups == group])

    @property
    def one_each(self) -> Indices:
        """The places in the Gram of one representative a group."""
        return np.asarray(self.members[self.representatives])


@dataclass(frozen=True, slots=True)
class Overlap:
    """How well a column of the table explains a grouping.

    `agreement` is the adjusted Rand index: 1 for the same partition, 0 on average by chance. `p` is one-sided, from
    relabelled draws. `values` counts the column's different values. Where the column can explain nothing, `reason`
    says why and the numbers are NaN.
    """

    column: str
    agreement: float
    p: float
    values: int
    reason: str = ""


@dataclass(frozen=True)
class Explained:
    """The share of each component's variance that a column explains (k,), its expectation by chance, and p (k,)."""

    column: str
    ratio: Floats
    chance: float
    p: Floats
    values: int
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", frozen(self.ratio))
        object.__setattr__(self, "p", frozen(self.p))


@dataclass(frozen=True)
class ModelMap:
    """Models as points: `coordinates` (s, k) along the leading components, `shares` (k,) of the variance they carry.

    Distances in the full map are distances of weights about the centre.
    """

    labels: tuple[str, ...]
    members: Indices
    coordinates: Floats
    shares: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", _indices(self.members))
        object.__setattr__(self, "coordinates", frozen(self.coordinates))
        object.__setattr__(self, "shares", frozen(self.shares))


def _indices(values: Indices) -> Indices:
    array = np.array(values, dtype=np.intp)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True)
class Flag:
    """Models that a reader should look at: which, what they look like, and why, in words."""

    models: tuple[str, ...]
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class LayerFlags:
    """What one layer's Gram shows of its models: odd ones, and pairs that are nearly the same.

    `frozen` says that most pairs are: a layer that training left alone tells nobody's copy.
    """

    layer: str
    odd: tuple[Outlier, ...]
    copies: tuple[Duplicate, ...]
    frozen: bool


@dataclass(frozen=True, slots=True)
class PairLayer:
    """The difference of two models in one layer.

    `cosine` is that of the raw weights, NaN where a norm is rounding. `difference` is `|W_l - W_r|` over the mean of
    the two norms: 0 for equal weights, about 1.4 for unrelated ones of one norm. `differs` is False where it is
    rounding. `effective_rank` is that of `W_l - W_r`, NaN where it was not computed; `at_least` marks a lower bound,
    where not all singular values are known. `most` is the largest possible rank, min(m, p). `changed` is the share of
    entries that differ, NaN where it was not counted.
    """

    layer: LayerKey
    cosine: float
    difference: float
    differs: bool
    effective_rank: float = float("nan")
    at_least: bool = False
    changed: float = float("nan")

    @property
    def most(self) -> int:
        """The largest possible rank."""
        return min(self.layer.shape)
