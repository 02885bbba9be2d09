"""The claims about ancestry and generalisation: groups, held-out models, one model a group, storage, soundness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.analysis.judging import count, denied, excess, judged, percent, unknown, with_effect
from uws_core.analysis.measures import Measured, about_mean, mean_only_share, top
from uws_core.analysis.noise import Indices, batches, centred
from uws_core.analysis.shared_findings import FEWEST, Ask, Drawn, few
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import rank_at, scalar_of, top_share
from uws_core.nouns.claims import KIN
from uws_core.nouns.evidence import Finding, Verdict
from uws_core.nouns.gram import RESOLVED
from uws_core.nouns.lineage import KINDS, Lineage


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is stored without sharing: numbers of a `whole` checkpoint, and those of all models' analysed layers.

    None: a whole checkpoint is not known; the models store every weight.
    """

    whole: int | None = None
    stored: int | None = None


def sound(layer: str, family: Lineage) -> Finding:
    """Whether every model is what it seems, and is there once."""
    odd = len(family.outliers) + len(family.duplicates)
    if not odd:
        return Finding("sound", layer, Verdict.HOLDS, f"nothing odd about {count(family.s, 'model')}", value=0.0)
    fresh = any(one.everywhere for one in family.outliers)
    verdict = Verdict.CHANCE if fresh else Verdict.WEAK
    # What is odd, a phrase a kind, with the first model's reason.
    said = [f"{one.kind}, {one.model}: {one.reason}" for one in family.outliers if one.together]
    for kind in KINDS:
        outliers = [one for one in family.outliers if one.kind == kind and not one.together]
        if outliers:
            rest = f", and {len(outliers) - 1} more" if len(outliers) > 1 else ""
            said.append(f"{kind}: {outliers[0].model} ({outliers[0].reason}){rest}")
    if family.duplicates:
        first = family.duplicates[0]
        rest = f", and {count(len(family.duplicates) - 1, 'more pair')}" if len(family.duplicates) > 1 else ""
        said.append(f"nearly the same: {first.left} and {first.right} (cosine {first.cosine:.4g}){rest}")
    return Finding("sound", layer, verdict, "; ".join(said), value=float(odd))


def unseen(ask: Ask, comparison: Drawn) -> Finding:
    """Whether the subspace of the others captures what sets held-out models apart from each other."""
    return _captured(ask, "unseen", "held-out models", ask.cuts.folds, [one.captured for one in _all(comparison)])


def unseen_groups(ask: Ask, comparison: Drawn, *, by_lineage: bool = False) -> Finding:
    """The same for whole groups: the column's, or the lineage's (`by_lineage`) where a column makes the others."""
    claim, groups = asked_of("unseen-groups", ask, by_lineage=by_lineage)
    folds = ask.cuts.kin_folds if by_lineage else ask.cuts.group_folds
    if groups is None or folds is None:
        return unknown(claim, ask.layer, no_groups(ask))
    if groups.max() < 3:
        few_groups = count(int(groups.max()) + 1, "group")
        return unknown(claim, ask.layer, f"{few_groups}: to hold some out and compare them takes at least 4")
    every = [one.captured_kin if by_lineage else one.captured_groups for one in _all(comparison)]
    return _captured(ask, claim, "held-out groups", folds, every)


def relatives(ask: Ask) -> Finding:
    """Whether models of one group are more alike than models of different groups."""
    if ask.groups is None:
        return unknown("relatives", ask.layer, no_groups(ask))
    rng, seen = ask.rng(5), between_share(ask.inner, ask.groups)
    samples = np.array([between_share(ask.inner, rng.permutation(ask.groups)) for _ in range(ask.draws)])
    reason = (
        f"{percent(seen)} of the variance lies between {count(int(ask.groups.max()) + 1, 'group')}, "
        f"{percent(float(np.median(samples)))} when labels are shuffled"
    )
    return judged("relatives", ask.layer, seen, samples, seed=ask.seed, reason=reason)


def within(ask: Ask, *, by_lineage: bool = False) -> Finding:
    """Whether variance still concentrates about the means of the groups."""
    claim, groups = asked_of("within", ask, by_lineage=by_lineage)
    if groups is None:
        return unknown(claim, ask.layer, no_groups(ask))
    free = min(ask.s - int(groups.max()) - 1, ask.gram.d)
    if free < FEWEST:
        return unknown(claim, ask.layer, f"about group means only {count(free, 'direction')} are left")
    kept = max(1, round(ask.kept * free / ask.ceiling))
    inside = centred(ask.inner[None], groups)[0]
    rng = ask.rng(6)
    if np.trace(inside) <= RESOLVED * ask.gram.rounding(members=ask.rows):
        return unknown(claim, ask.layer, "the models of each group are equal, as far as rounding can tell")
    samples = []
    for size in batches(ask.draws, ask.s):
        samples += [_top_of(one, kept) for one in ask.noise(rng, size, groups)]
    seen = _top_of(inside, kept)
    reason = (
        f"about group means the first {count(kept, 'direction')} carry {percent(seen)}, of noise "
        f"{percent(float(np.median(samples)))}"
    )
    return judged(claim, ask.layer, seen, np.array(samples), seed=ask.seed, reason=reason)


def one_each(ask: Ask, *, by_lineage: bool = False) -> Finding:
    """Whether variance still concentrates with one model a group."""
    claim, groups = asked_of("one-each", ask, by_lineage=by_lineage)
    if groups is None:
        return unknown(claim, ask.layer, no_groups(ask))
    places = representatives(ask.inner, groups)
    if places.size <= FEWEST:
        return unknown(claim, ask.layer, f"{count(places.size, 'group')} give one model each, too few to judge")
    inner = about_mean(ask.inner[np.ix_(places, places)])
    kept = max(1, round(ask.kept * (places.size - 1) / ask.ceiling))
    rng, alone = ask.rng(7), np.zeros(places.size, dtype=np.intp)
    samples = []
    for size in batches(ask.draws, places.size):
        samples += [_top_of(one, kept) for one in ask.noise(rng, size, alone, places)]
    seen = _top_of(inner, kept)
    reason = (
        f"with one model of each of {places.size} groups the first {count(kept, 'direction')} carry {percent(seen)}, "
        f"of noise {percent(float(np.median(samples)))}"
    )
    return judged(claim, ask.layer, seen, np.array(samples), seed=ask.seed, reason=reason)


def space(ask: Ask, comparison: Drawn, sizes: Sizes) -> Finding:
    """How much smaller the models become when their subspace is stored once, at the chosen share of the variance."""
    if ask.ceiling < FEWEST:
        return unknown("space", ask.layer, few(ask))
    ranks = rank_at(ask.share)(comparison.shares())
    rank = int(rank_at(ask.share)(comparison.seen.shares))
    seen, samples = (times_smaller(ask.s, ask.gram.d, one, stored=sizes.stored) for one in (rank, ranks))
    chance = float(np.median(samples))
    carried = top_share(rank)(comparison.shares())
    test = scalar_of(top(comparison.seen.shares, rank), carried, name="share of as many directions", seed=ask.seed)
    reason = (
        f"{count(rank, 'direction')} {'keeps' if rank == 1 else 'keep'} {percent(ask.share)} of the differences from "
        f"the mean: these layers become {float(seen):.2f} times smaller, of noise {chance:.2f} times"
    )
    if sizes.stored is not None:
        reason += f" (than the {sizes.stored:,} numbers of the stored factors)"
    whole = sizes.whole
    if whole is not None and whole >= ask.gram.d and sizes.stored is None:
        stored = ask.s * ask.gram.d / float(seen) + ask.s * (whole - ask.gram.d)
        reason += f"; whole checkpoints {ask.s * whole / stored:.2f} times"
    gained = excess(float(seen), chance, 2 * chance) if seen > 1 else 0.0
    finding = judged("space", ask.layer, float(seen), samples, seed=ask.seed, reason=reason, test=test)
    finding = with_effect(finding, gained)
    return finding if seen > 1 else denied(finding, f"sharing saves nothing: {reason}")


def times_smaller(n: int, d: int, rank: float | Floats, *, stored: int | None = None) -> Floats:
    """`n d / (r d + d + n r)`: all models at full size against basis and mean once and coefficients for each.

    Adapters store `stored` numbers of factors; their basis is combinations of these where that is smaller than dense
    directions, and takes `stored` numbers then.
    """
    shared = np.asarray(rank) * d + d
    if stored is not None:
        shared = np.minimum(shared, stored)
    return np.asarray((n * d if stored is None else stored) / (shared + n * np.asarray(rank)))


def between_share(inner: Floats, groups: Indices) -> float:
    """The share of the variance that lies between groups; `inner` is about the models' mean."""
    member = np.eye(int(groups.max()) + 1)[groups]
    between = np.sum(np.einsum("sg,st,tg->g", member, inner, member, optimize=True) / member.sum(axis=0))
    total = float(np.trace(inner))
    return float(between / total) if total > 0 else 0.0


def representatives(inner: Floats, groups: Indices) -> Indices:
    """The model of each group that is nearest to its group's mean."""
    away = np.diag(centred(inner[None], groups)[0])
    members = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]
    return np.array([places[int(away[places].argmin())] for places in members], dtype=np.intp)


def asked_of(claim: str, ask: Ask, *, by_lineage: bool) -> tuple[str, Indices | None]:
    """The claim about groups and the groups (s,) it is about: as chosen, or those of the lineage beside a column's."""
    return (KIN[claim], ask.kin) if by_lineage else (claim, ask.groups)


def no_groups(ask: Ask) -> str:
    """The reason why nothing can be said about groups."""
    return f"no groups are known among {count(ask.s, 'model')}: choose a column that divides them"


def _all(comparison: Drawn) -> tuple[Measured, ...]:
    return (comparison.seen, *comparison.noise)


def _captured(ask: Ask, claim: str, what: str, folds: Indices, every: list[float]) -> Finding:
    """What the others' subspace captures, with what their mean and random directions do beside it."""
    if ask.ceiling < FEWEST or np.isnan(every).any():
        return unknown(claim, ask.layer, few(ask))
    seen, samples = every[0], np.array(every[1:])
    center = "base" if ask.gram.base is not None else "zero"
    alone = mean_only_share(ask.gram.about(center, members=ask.rows), folds)
    whole = "changes from the base" if center == "base" else "weights"
    reason = (
        f"the subspace of the others captures {percent(seen)} of the differences among {what}, of noise "
        f"{percent(float(np.median(samples)))}, {count(ask.kept, 'random direction')} "
        f"{percent(min(ask.kept / ask.gram.d, 1.0))}, their mean alone 0 % (and {percent(max(alone, 0.0))} of their "
        f"{whole})"
    )
    return judged(claim, ask.layer, seen, samples, seed=ask.seed, reason=reason)


def _top_of(inner: Floats, kept: int) -> float:
    values = np.maximum(np.linalg.eigvalsh(inner)[::-1], 0.0)
    return top(values / values.sum(), kept) if values.sum() > 0 else 0.0
