"""What the data say to each claim: a number, what chance gives, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.claims import CLAIMS, Claim
from uws_core.nouns.lineage import Indices

# The level of every test, and the share of what is possible above chance below which an effect is weak.
LEVEL = 0.05
WEAK = 0.1


class Verdict(StrEnum):
    """What the data say to a claim."""

    HOLDS = "holds"
    WEAK = "weak"
    CHANCE = "chance"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One claim for one layer (or several summed to one).

    `value` stands against `low`, `middle`, `high` (2.5, 50 and 97.5 %) of the `draws` in `samples`; `z` and the
    one-sided `p` speak for the claim. `effect` is the excess over chance as a share of what is possible,
    `(value - middle) / (best - middle)`. Numbers that do not exist are NaN. `reason` says in words what decided.
    """

    claim: str
    layer: str
    verdict: Verdict
    reason: str
    value: float = float("nan")
    low: float = float("nan")
    middle: float = float("nan")
    high: float = float("nan")
    z: float = float("nan")
    p: float = float("nan")
    effect: float = float("nan")
    draws: int = 0
    seed: int = 0
    samples: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", frozen(self.samples))
        if self.claim not in CLAIMS:
            raise ValueError(f"No claim is called {self.claim!r}; there are {', '.join(CLAIMS)}")

    @property
    def about(self) -> Claim:
        """The claim in words."""
        return CLAIMS[self.claim]


@dataclass(frozen=True)
class Determined:
    """Up to which k the leading subspace is determined: at each of `kept` (k,) the eigengap and the Davis-Kahan bound.

    `gaps` (k,) are `l_k - l_(k+1)` as shares of the variance, `bounds` (k,) the root mean squared sine of the angles to
    the subspace of infinitely many models, at most. `k` is the largest with a bound of at most 1/2, 0 if there is none.
    """

    kept: Indices
    gaps: Floats
    bounds: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "gaps", frozen(self.gaps))
        object.__setattr__(self, "bounds", frozen(self.bounds))

    @property
    def k(self) -> int:
        """The largest k whose subspace is determined to a root mean squared sine of 1/2."""
        known = self.kept[self.bounds <= 0.5]
        return int(known.max(initial=0))


@dataclass(frozen=True)
class SampleCurve:
    """How numbers change with the number of models: at each of `sizes` (t,) the repeats' low, middle and high.

    `statistics` maps a name (`share`, `rank`, `effective_rank`, `overlap`, `captured`) to an array (t, 3), NaN where it
    cannot be computed; `noise` maps the same names to the middle for noise of the same strengths (t,). `kept` is the k
    of the shares, overlaps and captured shares, `share` that of the rank. `growth` is the power of n with which the
    effective rank grows over the upper half of the sizes; `outlook` says whether that may be carried further.
    """

    sizes: Indices
    statistics: Mapping[str, Floats]
    noise: Mapping[str, Floats]
    kept: int
    share: float
    growth: float
    outlook: str
    repeats: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("statistics", "noise"):
            object.__setattr__(self, name, {key: frozen(values) for key, values in getattr(self, name).items()})


@dataclass(frozen=True)
class Evidence:
    """All claims for one layer, or for several summed to one, with what was set: same settings and seed, same table."""

    layer: str
    findings: tuple[Finding, ...]
    n: int
    groups: int
    grouped_by: str
    kept: int
    share: float
    draws: int
    seed: int
    determined: Determined | None = None

    def __contains__(self, claim: object) -> bool:
        """Whether a claim was asked: those about the lineage's groups are not where there are no others."""
        return any(finding.claim == claim for finding in self.findings)

    def __getitem__(self, claim: str) -> Finding:
        """The finding on one claim."""
        return next(finding for finding in self.findings if finding.claim == claim)


@dataclass(frozen=True, slots=True)
class Pooled:
    """One claim over many layers: how many layers say what, and how many tests stand after correction.

    `discoveries` counts the layers that pass at a false discovery rate of 5 % (Benjamini and Hochberg) among `tested`,
    those beyond all draws with the p of a fitted tail (`analysis.over_layers.corrected_p`).
    """

    claim: str
    layers: int
    holds: int
    weak: int
    chance: int
    unknown: int
    tested: int
    discoveries: int
    value: float
    middle: float
    z: float
    verdict: Verdict
    reason: str
