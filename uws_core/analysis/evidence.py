"""All claims for a layer, and each claim over many layers: what holds, what is chance, what is ancestry."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from uws_core.analysis import group_findings, shared_findings
from uws_core.analysis.judging import count, unknown
from uws_core.analysis.lineage import lineage
from uws_core.analysis.measures import cut
from uws_core.analysis.noise import Indices
from uws_core.analysis.partitions import by_size, codes
from uws_core.analysis.shared_findings import Ask, Report
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.chance import discoveries
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import LEVEL, WEAK, Determined, Evidence, Finding, Pooled, Verdict
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.lineage import Lineage


def evidence(
    gram: Gram,
    *,
    groups: Sequence[Hashable] | None = None,
    grouped_by: str = "",
    members: Members = None,
    kept: int | None = None,
    share: float = 0.9,
    draws: int = 99,
    seed: int = 0,
    whole: int | None = None,
    report: Report | None = None,
) -> Evidence:
    """Every claim of the table for one layer (or a sum of layers) of the chosen models.

    `groups` holds one label for each model of the Gram (None: not known, a group of its own); without it the groups of
    the lineage are taken, where there are any. `kept` is the k of all subspaces, by default a quarter of the directions
    there can be. `whole` is the number of weights of a whole checkpoint, for the second storage ratio. `report` is
    called between any two draws and may raise to stop. Price: `draws` times about ten decompositions of s models.

    Raises:
        NotEnoughModels: fewer than two usable models, or another number of labels than models.
        LayerError: a side axis.
        ValueError: fewer than 19 draws, with which no test can reach 5 %.
    """
    if gram.axis is not Axis.MODELS:
        raise LayerError(f"{gram.layer.name}: evidence is about models; found a Gram on the {gram.axis} axis")
    if draws < 19:
        raise ValueError(f"A test at 5 % needs at least 19 draws; found {draws}")
    family = lineage(gram, members=members)
    rows = family.members
    labels, said = _grouping(gram, rows, groups, grouped_by, family)
    ask = _asked(gram, rows, labels, kept=kept, share=share, draws=draws, seed=seed, report=report)
    findings, known = _findings(ask, family, whole)
    return Evidence(
        layer=gram.layer.name,
        findings=findings,
        n=rows.size,
        groups=0 if labels is None else int(labels.max()) + 1,
        grouped_by=said if labels is not None else "",
        kept=ask.kept,
        share=share,
        draws=draws,
        seed=seed,
        determined=known,
    )


def over_layers(layers: Sequence[Evidence]) -> tuple[Pooled, ...]:
    """Each claim over many layers, with the tests of all layers corrected together.

    A claim holds over the layers when it passes the corrected test in at least half of those that can be tested, and
    half of these are not weak; it is weak when it passes in some.
    """
    return tuple(_pooled(claim, [one[claim] for one in layers]) for claim in CLAIMS) if layers else ()


def _asked(
    gram: Gram,
    rows: Indices,
    labels: Indices | None,
    *,
    kept: int | None,
    share: float,
    draws: int,
    seed: int,
    report: Report | None,
) -> Ask:
    ceiling = max(min(rows.size - 1, gram.d), 1)
    cuts = np.random.default_rng([seed, 0])
    return Ask(
        gram=gram,
        rows=rows,
        inner=gram.about("mean", members=rows),
        groups=labels,
        cuts=cut(rows.size, rng=cuts, groups=labels),
        kept=min(max(1, round(ceiling / 4)) if kept is None else max(kept, 1), ceiling),
        share=share,
        draws=draws,
        seed=seed,
        report=report if report is not None else (lambda fraction, message: None),
    )


def _findings(ask: Ask, family: Lineage, whole: int | None) -> tuple[tuple[Finding, ...], Determined | None]:
    if np.trace(ask.inner) <= ask.gram.floor:
        reason = f"these {count(ask.s, 'model')} do not differ in this layer"
        return tuple(unknown(claim, ask.layer, reason) for claim in CLAIMS), None
    found = shared_findings.drawn(ask)
    known_to, known = shared_findings.determined(ask, found)
    directions = shared_findings.concentrated(ask, found, unit=False)
    every = (
        group_findings.sound(ask.layer, family),
        directions,
        shared_findings.concentrated(ask, found, unit=True),
        shared_findings.components(ask, found),
        shared_findings.mean(ask, directions),
        shared_findings.halves(ask, found),
        group_findings.unseen(ask, found, by_group=False),
        group_findings.unseen(ask, found, by_group=True),
        group_findings.relatives(ask),
        group_findings.within(ask),
        group_findings.one_each(ask),
        shared_findings.saturates(ask, found),
        known_to,
        group_findings.space(ask, found, whole=whole),
    )
    return every, known


def _grouping(
    gram: Gram, rows: Indices, groups: Sequence[Hashable] | None, grouped_by: str, family: Lineage
) -> tuple[Indices | None, str]:
    """The groups (s,) of the chosen models and what made them; None where they divide nothing or name every model."""
    if groups is not None and len(groups) != gram.n:
        raise NotEnoughModels(f"One group label for each of {gram.n} models was expected, {len(groups)} were given")
    if groups is None:
        found, said = family.groups, f"lineage at a cosine of {family.threshold:.2f}"
    else:
        # A model whose label is not known is nobody's relative.
        found = by_size(codes([groups[row] if groups[row] is not None else ("not known", int(row)) for row in rows]))
        said = grouped_by or "the given groups"
    return (found, said) if 1 <= found.max(initial=0) < rows.size - 1 else (None, "")


def _pooled(claim: str, findings: Sequence[Finding]) -> Pooled:
    tally = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
    tests = [one for one in findings if not np.isnan(one.p)]
    stand = discoveries(np.array([one.p for one in tests]), level=LEVEL)
    passed = [one for one, stands in zip(tests, stand, strict=True) if stands]
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
        verdict=_verdict(claim, findings, tests, passed),
        reason=_reason(findings, tests, passed),
    )


def _verdict(claim: str, findings: Sequence[Finding], tests: Sequence[Finding], passed: Sequence[Finding]) -> Verdict:
    known = [one.verdict for one in findings if one.verdict is not Verdict.UNKNOWN]
    if not known:
        return Verdict.UNKNOWN
    if claim in ("sound", "mean") or not tests:
        # These judge more than one number: what most layers say counts.
        return max(known, key=known.count)
    if not passed:
        return Verdict.CHANCE
    strong = sum(one.effect >= WEAK for one in passed)
    return Verdict.HOLDS if 2 * len(passed) >= len(tests) and 2 * strong >= len(passed) else Verdict.WEAK


def _reason(findings: Sequence[Finding], tests: Sequence[Finding], passed: Sequence[Finding]) -> str:
    if not tests:
        reasons = [one.reason for one in findings]
        return max(reasons, key=reasons.count)
    beyond = f"{len(passed)} of {count(len(tests), 'layer')} pass at a false discovery rate of 5 %"
    left = len(findings) - len(tests)
    return beyond + (f"; {left} cannot be tested" if left else "")


def _middle(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")
