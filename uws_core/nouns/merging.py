"""Merging: the methods and what each needs, the recipe of a merge, and how far the merge lies from everything.

Letters: members' updates `tau_i = W_i - base` (adapters: `scale_i up_i down_i`), weights `w_i`, scale `lam`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np

from uws_core.errors import CollectionError, NotEnoughModels
from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.models import LayerKey

# More than this is a typing error: no published merge uses a scale above 3.
MOST_SCALE = 100.0


class MergeMethod(StrEnum):
    """How models become one; docs/merge.md has the formulas."""

    MEAN = "mean"
    LINEAR = "linear"
    TASK_ARITHMETIC = "task-arithmetic"
    SLERP = "slerp"
    MULTI_SLERP = "multi-slerp"
    KARCHER = "karcher"
    MODEL_STOCK = "model-stock"
    SUBSPACE = "subspace"
    TIES = "ties"
    DARE = "dare"
    DARE_TIES = "dare-ties"
    DELLA = "della"
    BREADCRUMBS = "breadcrumbs"
    SCE = "sce"
    TSV = "tsv"
    ISO_C = "iso-c"
    ISO_CTS = "iso-cts"
    KNOTS = "knots"
    CORE = "core"
    REGMEAN = "regmean"
    CTM = "ctm"

    @classmethod
    def of(cls, name: str) -> MergeMethod:
        """Returns the method that a name means: `task_arithmetic` and `multislerp` too.

        Raises:
            CollectionError: there is none; the message lists all.
        """
        plain = name.strip().lower().replace("_", "-")
        plain = _OTHER_NAMES.get(plain, plain)
        if plain not in set(map(str, cls)):
            raise CollectionError(f"{name!r} is no merge method; there are {', '.join(map(str, cls))}")
        return cls(plain)


_OTHER_NAMES = {
    "multislerp": "multi-slerp",
    "dare-linear": "dare",
    "tsv-m": "tsv",
    "core-space": "core",
    "breadcrumbs-ties": "breadcrumbs",
    "wudi": "regmean",
}


class Need(StrEnum):
    """What of the models a method needs: their inner products, their thin factors (or SVDs), or every entry."""

    GRAM = "gram"
    FACTORS = "factors"
    ENTRIES = "entries"


class Convention(StrEnum):
    """Whose reading of a method is meant where programs differ."""

    PAPER = "paper"
    MERGEKIT = "mergekit"
    PEFT = "peft"

    @classmethod
    def of(cls, name: str) -> Convention:
        """Returns the convention of that name.

        Raises:
            CollectionError: there is none; the message lists all.
        """
        if name not in set(map(str, cls)):
            raise CollectionError(f"convention is one of {', '.join(map(str, cls))}; found {name!r}")
        return cls(name)


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """What a method needs and is called elsewhere; `uses` are the fields of `MergeRecipe` that change its result.

    `weighted` is False where weights have no part. `needs_base` is True where whole weights need a base. `mergekit` is
    the method's name in mergekit 0.1.5, empty where it has none.
    """

    need: Need
    says: str
    needs_base: bool = True
    weighted: bool = True
    most_members: int | None = None
    least_members: int = 2
    mergekit: str = ""
    uses: tuple[str, ...] = ()


_G, _F, _E = Need.GRAM, Need.FACTORS, Need.ENTRIES
METHODS: Mapping[MergeMethod, MethodFacts] = {
    MergeMethod.MEAN: MethodFacts(_G, "the plain mean", needs_base=False, weighted=False, mergekit="linear"),
    MergeMethod.LINEAR: MethodFacts(
        _G, "the weighted mean, weights over their sum", needs_base=False, mergekit="linear"
    ),
    MergeMethod.TASK_ARITHMETIC: MethodFacts(_G, "the weighted sum of the updates", mergekit="task_arithmetic"),
    MergeMethod.SLERP: MethodFacts(
        _G, "a point on the arc between two models", needs_base=False, weighted=False, most_members=2,
        mergekit="slerp", uses=("t",),
    ),
    MergeMethod.MULTI_SLERP: MethodFacts(
        _G, "one tangent step from the mean of the unit vectors, at the mean norm", needs_base=False,
        mergekit="multislerp",
    ),
    MergeMethod.KARCHER: MethodFacts(
        _G, "the mean on the sphere, at the mean norm", needs_base=False, mergekit="karcher"
    ),
    MergeMethod.MODEL_STOCK: MethodFacts(
        _G, "the mean drawn to the base, more the less the updates agree", weighted=False, mergekit="model_stock"
    ),
    MergeMethod.SUBSPACE: MethodFacts(
        _G, "the mean seen in the leading directions of the updates", uses=("rank",), needs_base=False
    ),
    MergeMethod.TIES: MethodFacts(
        _E, "the largest entries, those of the elected sign averaged", mergekit="ties", uses=("density",)
    ),
    MergeMethod.DARE: MethodFacts(
        _E, "entries dropped at random, the rest scaled up, summed", mergekit="dare_linear", uses=("density", "seed")
    ),
    MergeMethod.DARE_TIES: MethodFacts(
        _E, "entries dropped at random, then a sign vote", mergekit="dare_ties", uses=("density", "seed")
    ),
    MergeMethod.DELLA: MethodFacts(
        _E, "entries dropped at random, small ones sooner, then a sign vote", mergekit="della",
        uses=("density", "epsilon", "seed"),
    ),
    MergeMethod.BREADCRUMBS: MethodFacts(
        _E, "without the largest and the smallest entries, summed", mergekit="breadcrumbs", uses=("density", "gamma")
    ),
    MergeMethod.SCE: MethodFacts(
        _E, "entries of most variance, weighted by energy, the minority sign erased", weighted=False, mergekit="sce",
        uses=("density",),
    ),
    MergeMethod.TSV: MethodFacts(
        _F, "leading triplets of each update, their directions made orthogonal", uses=("rank",)
    ),
    MergeMethod.ISO_C: MethodFacts(_F, "the sum with all its singular values equal"),
    MergeMethod.ISO_CTS: MethodFacts(
        _F, "leading directions of the sum and of each rest, all singular values equal", uses=("common",)
    ),
    MergeMethod.KNOTS: MethodFacts(
        _F, "a rule on the updates in the joint basis of their columns", uses=("rule", "density", "seed")
    ),
    MergeMethod.CORE: MethodFacts(
        _F, "a rule on the cores in joint bases of both sides", uses=("rule", "density", "seed")
    ),
    MergeMethod.REGMEAN: MethodFacts(
        _F, "the least squares merge on inputs like each update's own, with a ridge", uses=("ridge",)
    ),
    MergeMethod.CTM: MethodFacts(
        _F, "compressed to one shared basis of rank r, then a rule on the cores",
        uses=("rule", "density", "seed", "joint_rank"),
    ),
}  # fmt: skip

# The rules that KnOTS, Core Space and CtM apply in their bases.
RULES = (
    MergeMethod.MEAN, MergeMethod.LINEAR, MergeMethod.TASK_ARITHMETIC, MergeMethod.TIES, MergeMethod.DARE,
    MergeMethod.DARE_TIES, MergeMethod.DELLA, MergeMethod.BREADCRUMBS, MergeMethod.SCE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MergeRecipe:
    """All that decides a merge beside the models.

    `weights` has one number a member, or is empty: all 1. The merge is `base + scale * method(updates)`. `density` is
    the share of entries kept (TIES, DARE, DELLA, Breadcrumbs, SCE), `gamma` the share of largest entries that
    Breadcrumbs drops, `epsilon` half the spread of DELLA's probabilities, `t` the place on SLERP's arc (0 is the first
    model), `ridge` that of data-free RegMean relative to the mean eigenvalue, `common` the share of common directions
    of Iso-CTS, `rule` what KnOTS, Core Space and CtM do in their bases, `joint_rank` the rank of CtM's basis. `rank` is
    that of a merged adapter, or the directions kept by TSV and the subspace merge (None: as many as there are).
    """

    method: MergeMethod = MergeMethod.MEAN
    weights: tuple[float, ...] = ()
    scale: float = 1.0
    convention: Convention = Convention.PAPER
    density: float = 0.5
    gamma: float = 0.01
    epsilon: float = 0.15
    t: float = 0.5
    ridge: float = 0.5
    common: float = 0.8
    rule: MergeMethod = MergeMethod.TIES
    rank: int | None = None
    joint_rank: int | None = None
    seed: int = 0

    @property
    def facts(self) -> MethodFacts:
        """What the method needs."""
        return METHODS[self.method]

    def weight_of(self, n: int) -> Floats:
        """The weights (n,), ones where none are given."""
        return np.asarray(self.weights, dtype=np.float64) if self.weights else np.ones(n)

    def checked(self, n: int) -> Self:
        """Returns the recipe, if `n` members can be merged by it.

        Raises:
            NotEnoughModels: too few or too many members.
            CollectionError: weights, scale or an option out of range; the message says the range.
        """
        facts, name = self.facts, str(self.method)
        if n < facts.least_members:
            raise NotEnoughModels(f"A merge by {name} needs at least {facts.least_members} models; {n} chosen")
        if facts.most_members is not None and n > facts.most_members:
            raise NotEnoughModels(
                f"{name} joins {facts.most_members} models; {n} chosen. Take karcher or multi-slerp for more"
            )
        if self.weights and len(self.weights) != n:
            raise CollectionError(f"{len(self.weights)} weights for {n} models; give one a model, or none")
        weights = self.weight_of(n)
        if not np.isfinite(weights).all():
            raise CollectionError(f"Weights are finite numbers; found {self.weights}")
        if not weights.any() or (self.method in _NORMALISED and abs(weights.sum()) < 1e-12):
            raise CollectionError(
                f"The weights sum to zero, and {name} divides by their sum; change a weight, or take task-arithmetic"
            )
        if not np.isfinite(self.scale) or abs(self.scale) > MOST_SCALE:
            raise CollectionError(
                f"The scale is a number between -{MOST_SCALE:g} and {MOST_SCALE:g}; found {self.scale}"
            )
        self._check_options()
        return self

    def _check_options(self) -> None:
        ranges = {
            "density": (0.0, 1.0), "gamma": (0.0, 1.0), "epsilon": (0.0, 0.5), "t": (0.0, 1.0), "common": (0.0, 1.0)
        }  # fmt: skip
        for option, (low, high) in ranges.items():
            value = getattr(self, option)
            if not low <= value <= high:
                raise CollectionError(f"{option} lies between {low:g} and {high:g}; found {value}")
        if not (np.isfinite(self.ridge) and self.ridge >= 0):
            raise CollectionError(f"ridge is at least 0 (0.1 to 1 is usual); found {self.ridge}")
        for option in ("rank", "joint_rank"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise CollectionError(f"{option} is at least 1; found {value}")
        if self.rule not in RULES:
            raise CollectionError(f"A rule in a basis is one of {', '.join(RULES)}; found {self.rule}")
        sampled = MergeMethod.DELLA in (self.method, self.rule if "rule" in self.facts.uses else None)
        if sampled and self.density < 1 and not self.epsilon < min(self.density, 1 - self.density):
            raise CollectionError(
                f"DELLA keeps entries with probability density +- epsilon, which must stay inside 0 to 1; found "
                f"{self.density} +- {self.epsilon}"
            )

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain values, without what the method does not use."""
        fields = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        always = ("method", "weights", "scale", "convention", "rank")
        kept = {name: value for name, value in fields.items() if name in always or name in self.facts.uses}
        return {name: str(value) if isinstance(value, StrEnum) else value for name, value in kept.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Returns the recipe that `as_dict` wrote.

        Raises:
            CollectionError: an unknown method or field.
        """
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise CollectionError(f"A recipe has no {', '.join(unknown)}; it has {', '.join(cls.__dataclass_fields__)}")
        typed = dict(values)
        for name in ("method", "rule"):
            if name in typed:
                typed[name] = MergeMethod.of(str(typed[name]))
        if "convention" in typed:
            typed["convention"] = Convention.of(str(typed["convention"]))
        if "weights" in typed:
            typed["weights"] = tuple(float(weight) for weight in typed["weights"])
        return replace(cls(), **typed)


# Methods whose weights are divided by their sum.
_NORMALISED = (MergeMethod.LINEAR, MergeMethod.MULTI_SLERP, MergeMethod.KARCHER, MergeMethod.SUBSPACE)


@dataclass(frozen=True)
class MergedLayer:
    """One layer of a merge: squared norms and distances of `lam method(updates)`, all about the base (or about zero).

    `norm2` is that of the merge, `mean_norm2` of the plain mean, `member_norms2` (n,) of the members; `to_mean2` and
    `to_members2` (n,) are squared distances of the merge. For a merged adapter `rank` is the rank written and `lost2`
    the squared norm that the cut to it loses; the distances are those of what is written.
    """

    layer: LayerKey
    norm2: float
    mean_norm2: float
    member_norms2: Floats
    to_mean2: float
    to_members2: Floats
    rank: int | None = None
    lost2: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "member_norms2", frozen(self.member_norms2))
        object.__setattr__(self, "to_members2", frozen(self.to_members2))

    def __add__(self, other: MergedLayer) -> MergedLayer:
        """Two layers as one: squared norms and distances add."""
        return replace(
            self,
            norm2=self.norm2 + other.norm2,
            mean_norm2=self.mean_norm2 + other.mean_norm2,
            member_norms2=self.member_norms2 + other.member_norms2,
            to_mean2=self.to_mean2 + other.to_mean2,
            to_members2=self.to_members2 + other.to_members2,
            rank=max(self.rank, other.rank) if self.rank is not None and other.rank is not None else None,
            lost2=self.lost2 + other.lost2,
        )

    @property
    def norm(self) -> float:
        """The merge's distance to the base."""
        return float(np.sqrt(self.norm2))

    @property
    def mean_norm(self) -> float:
        """The plain mean's distance to the base."""
        return float(np.sqrt(self.mean_norm2))

    @property
    def member_norms(self) -> Floats:
        """Each member's distance to the base (n,)."""
        return np.sqrt(self.member_norms2)

    @property
    def to_mean(self) -> float:
        """The merge's distance to the plain mean."""
        return float(np.sqrt(self.to_mean2))

    @property
    def to_members(self) -> Floats:
        """The merge's distance to each member (n,)."""
        return np.sqrt(self.to_members2)

    @property
    def off_mean(self) -> float:
        """The distance to the plain mean as a share of the mean's own norm: 0 is the mean; NaN for a zero mean."""
        return float(np.sqrt(self.to_mean2 / self.mean_norm2)) if self.mean_norm2 > 0 else float("nan")

    @property
    def survives(self) -> Floats:
        """The share of each member's update that the merge contains (n,): `<merge, tau_i> / |tau_i|^2`."""
        inner = (self.norm2 + self.member_norms2 - self.to_members2) / 2
        found = np.full(inner.shape, np.nan)
        return np.asarray(np.divide(inner, self.member_norms2, out=found, where=self.member_norms2 > 0))

    @property
    def lost(self) -> float:
        """The share of the merge's energy that the cut to `rank` loses."""
        whole = self.norm2 + self.lost2
        return self.lost2 / whole if whole > 0 else 0.0


@dataclass(frozen=True)
class Merge:
    """A merge measured before anything is written.

    `about` is the point that norms are taken from: `base`, or `zero` where whole weights have no base. `kind` is
    `weights` or `adapters`. `notes` say by sentences what was averaged, copied or cut, and what looks wrong.
    """

    recipe: MergeRecipe
    labels: tuple[str, ...]
    layers: tuple[MergedLayer, ...]
    about: str
    kind: str
    notes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> MergedLayer:
        """All layers as one."""
        return total(self.layers)


def total(layers: Sequence[MergedLayer]) -> MergedLayer:
    """Returns layers as one: their squared norms and distances added.

    Raises:
        CollectionError: there is no layer.
    """
    if not layers:
        raise CollectionError("No layer is merged; choose at least one")
    whole = layers[0]
    for layer in layers[1:]:
        whole = whole + layer
    return whole
