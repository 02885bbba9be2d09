"""From a number and what chance gives to a verdict."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np

from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import ScalarNull, scalar_of
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import LEVEL, WEAK, Finding, Verdict


def judged(
    claim: str,
    layer: str,
    value: float,
    samples: Floats,
    *,
    seed: int,
    reason: str,
    test: ScalarNull | None = None,
) -> Finding:
    """The finding on a claim: it holds when chance rarely gives such a number and the excess is not small.

    `test` brings z and p where they are of another number than the one shown. The excess is `(value - middle) /
    (best - middle)`; see `with_effect` where it is measured otherwise.
    """
    about = CLAIMS[claim]
    shown = scalar_of(value, samples, name=about.statistic, seed=seed, fewer=about.fewer)
    tested = test if test is not None else shown
    gained = excess(value, shown.middle, about.best)
    return Finding(
        claim=claim,
        layer=layer,
        verdict=verdict_of(tested.p, gained),
        reason=reason,
        value=value,
        low=shown.low,
        middle=shown.middle,
        high=shown.high,
        z=tested.z,
        p=tested.p,
        effect=gained,
        draws=samples.size,
        seed=seed,
        samples=samples,
    )


def with_effect(finding: Finding, effect: float) -> Finding:
    """The finding with its excess over chance measured in another way, and the verdict that follows."""
    return replace(finding, verdict=verdict_of(finding.p, effect), effect=effect)


def denied(finding: Finding, reason: str) -> Finding:
    """The finding on a claim that its own number contradicts, however rarely chance gives such a number."""
    return replace(finding, verdict=Verdict.CHANCE, reason=reason)


def unknown(claim: str, layer: str, reason: str) -> Finding:
    """The finding that the data cannot decide, and why."""
    return Finding(claim=claim, layer=layer, verdict=Verdict.UNKNOWN, reason=reason)


def verdict_of(p: float, effect: float) -> Verdict:
    """The verdict of a p-value and an excess over chance."""
    if not p <= LEVEL:
        return Verdict.CHANCE
    return Verdict.HOLDS if effect >= WEAK else Verdict.WEAK


def excess(value: float, chance: float, best: float) -> float:
    """The share of the way from chance to the best possible value; 0 where chance is the best possible."""
    way = best - chance
    return (value - chance) / way if isfinite(way) and abs(way) > 1e-12 else 0.0


def percent(share: float) -> str:
    """A share in words."""
    value = 100 * share
    return f"{value:.0f} %" if abs(value) >= 10 or value == 0 else f"{value:.2g} %"


def count(number: int | np.integer, noun: str) -> str:
    """`1 model`, `2 models`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
