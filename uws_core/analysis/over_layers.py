"""Each claim over many layers, with the tests of all layers corrected together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from uws_core.analysis.judging import count
from uws_core.nouns.chance import discoveries
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import LEVEL, WEAK, Evidence, Finding, Pooled, Verdict

# Beyond all draws, Student's tail with so many degrees of freedom at most: heavier than those of the skewed numbers
# of the table (largest shares, overlaps of few directions), whose far tails a normal one would underrate.
TAIL_DOF = 5


def over_layers(layers: Sequence[Evidence]) -> tuple[Pooled, ...]:
    """Each claim over many layers, with the tests of all layers corrected together.

    A claim holds over the layers when it passes the corrected test in at least half of those that can be tested, and
    half of these are not weak; it is weak when it passes in some. Claims that no layer was asked are not there.
    """
    asked = {claim: [one[claim] for one in layers if claim in one] for claim in CLAIMS}
    return tuple(_pooled(claim, findings) for claim, findings in asked.items() if findings)


def corrected_p(finding: Finding) -> float:
    """The p with which a finding stands in the correction over layers.

    Draws alone give no p below `1 / (1 + draws)`, which a correction over many layers asks for. A number beyond all
    draws therefore has the p of Student's tail at its z, as of one more draw: `z / sqrt(1 + 1 / draws)`. Where draws
    do not vary there is no tail, and p stays. A claim that its own number contradicts has p = 1.

    Source: Student 1908 (prediction interval for one more draw).
    """
    if finding.verdict is Verdict.CHANCE and finding.p <= LEVEL:
        return 1.0
    if not _at_floor(finding) or not np.isfinite(finding.z):
        return finding.p
    dof = min(finding.draws - 1, TAIL_DOF)
    return min(finding.p, float(student.sf(finding.z / np.sqrt(1 + 1 / finding.draws), dof)))


def _pooled(claim: str, findings: Sequence[Finding]) -> Pooled:
    tally = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
    tests = [one for one in findings if not np.isnan(one.p)]
    stand = discoveries(np.array([corrected_p(one) for one in tests]), level=LEVEL)
    passed = [one for one, stands in zip(tests, stand, strict=True) if stands]
    verdict = _verdict(findings, tests, passed)
    return Pooled(
        claim=claim,
        layers=len(findings),
        holds=tally[Verdict.HOLDS],
        weak=tally[Verdict.WEAK],
        chance=tally[Verdict.CHANCE],
        unknown=tally[Verdict.UNKNOWN],
        tested=len(tests),
        discoveries=len(passed),
        value=_middle([one.value for one in findings]),
        middle=_middle([one.middle for one in findings]),
        z=_middle([one.z for one in tests]),
        verdict=verdict,
        reason=_reason(verdict, findings, tests, passed),
    )


def _verdict(findings: Sequence[Finding], tests: Sequence[Finding], passed: Sequence[Finding]) -> Verdict:
    known = [one.verdict for one in findings if one.verdict is not Verdict.UNKNOWN]
    if not known:
        return Verdict.UNKNOWN
    if not tests:
        return max(known, key=known.count)
    if not passed:
        # Beyond draws that do not vary lies only a p that no correction can pass.
        stuck = [_at_floor(one) and np.isinf(one.z) and one.verdict is not Verdict.CHANCE for one in tests]
        return Verdict.UNKNOWN if 2 * sum(stuck) >= len(tests) else Verdict.CHANCE
    strong = sum(one.effect >= WEAK for one in passed)
    return Verdict.HOLDS if 2 * len(passed) >= len(tests) and 2 * strong >= len(passed) else Verdict.WEAK


def _reason(verdict: Verdict, findings: Sequence[Finding], tests: Sequence[Finding], passed: Sequence[Finding]) -> str:
    if not tests:
        reasons = [one.reason for one in findings if one.verdict is verdict]
        where = "" if len(reasons) == len(findings) else f" (in {len(reasons)} of {count(len(findings), 'layer')})"
        return max(reasons, key=reasons.count) + where
    if verdict is Verdict.UNKNOWN:
        return f"too few draws to survive the correction of {count(len(tests), 'layer')}: draw chance more often"
    beyond = f"{len(passed)} of {count(len(tests), 'layer')} pass at a false discovery rate of 5 %"
    left = len(findings) - len(tests)
    return beyond + (f"; {left} cannot be tested" if left else "")


def _at_floor(finding: Finding) -> bool:
    """Whether no draw speaks for the claim as much."""
    return finding.p * (1 + finding.draws) < 1.5


def _middle(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")
