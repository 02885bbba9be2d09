"""The claims about ancestry and generalisation: groups, held-out models, one model a group, storage, soundness."""

from __future__ import annotations

import numpy as np

from uws_core.analysis.judging import count, excess, judged, percent, unknown
from uws_core.analysis.measures import about_mean, top
from uws_core.analysis.noise import Indices, as_strong, batches, centred, wishart
from uws_core.analysis.shared_findings import FEWEST, Ask, Drawn, few
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import rank_at, scalar_of, top_share
from uws_core.nouns.evidence import Finding, Verdict
from uws_core.nouns.lineage import COLLECTION, KINDS, Lineage


def sound(layer: str, family: Lineage) -> Finding:
    """Whether every model is what it seems, and is there once."""
    odd = len(family.suspects) + len(family.duplicates)
    if not odd:
        return Finding("sound", layer, Verdict.HOLDS, f"nothing odd about {count(family.s, 'model')}", value=0.0)
    fresh = any(one.model == COLLECTION for one in family.suspects)
    verdict = Verdict.CHANCE if fresh else Verdict.WEAK
    return Finding("sound", layer, verdict, "; ".join(_odd_ones(family)), value=float(odd))


def unseen(ask: Ask, found: Drawn, *, by_group: bool) -> Finding:
    """Whether the subspace of the others captures what sets held-out models (or whole groups) apart from each other."""
    claim = "unseen-groups" if by_group else "unseen"
    if by_group and ask.groups is None:
        return unknown(claim, ask.layer, no_groups(ask))
    if by_group and ask.groups is not None and ask.groups.max() < 3:
        few_groups = count(int(ask.groups.max()) + 1, "group")
        return unknown(claim, ask.layer, f"{few_groups}: to hold some out and compare them takes at least 4")
    every = [one.captured_groups if by_group else one.captured for one in (found.seen, *found.noise)]
    if ask.ceiling < FEWEST or np.isnan(every).any():
        return unknown(claim, ask.layer, few(ask))
    seen, samples = every[0], np.array(every[1:])
    what = "held-out groups" if by_group else "held-out models"
    reason = (
        f"the subspace of the others captures {percent(seen)} of the differences among {what}, of noise "
        f"{percent(float(np.median(samples)))}"
    )
    return judged(claim, ask.layer, seen, samples, seed=ask.seed, reason=reason)


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


def within(ask: Ask) -> Finding:
    """Whether variance still concentrates about the means of the groups."""
    if ask.groups is None:
        return unknown("within", ask.layer, no_groups(ask))
    free = min(ask.s - int(ask.groups.max()) - 1, ask.gram.d)
    if free < FEWEST:
        return unknown("within", ask.layer, f"about group means only {count(free, 'direction')} are left")
    kept = max(1, round(ask.kept * free / ask.ceiling))
    inside = centred(ask.inner[None], ask.groups)[0]
    rng, squares = ask.rng(6), np.maximum(np.diag(inside), 0.0)
    if squares.sum() <= ask.gram.floor:
        return unknown("within", ask.layer, "the models of each group are equal")
    samples = []
    for size in batches(ask.draws, ask.s):
        noise = as_strong(wishart(rng, count=size, side=ask.s, dof=ask.gram.effective_d), squares, ask.groups)
        samples += [_top_of(one, kept) for one in centred(noise, ask.groups)]
    seen = _top_of(inside, kept)
    reason = (
        f"about group means the first {count(kept, 'direction')} carry {percent(seen)}, of noise "
        f"{percent(float(np.median(samples)))}"
    )
    return judged("within", ask.layer, seen, np.array(samples), seed=ask.seed, reason=reason)


def one_each(ask: Ask) -> Finding:
    """Whether variance still concentrates with one model a group."""
    if ask.groups is None:
        return unknown("one-each", ask.layer, no_groups(ask))
    places = representatives(ask.inner, ask.groups)
    if places.size <= FEWEST:
        return unknown("one-each", ask.layer, f"{count(places.size, 'group')} give one model each, too few to judge")
    inner = about_mean(ask.inner[np.ix_(places, places)])
    kept = max(1, round(ask.kept * (places.size - 1) / ask.ceiling))
    squares, rng, alone = np.maximum(np.diag(inner), 0.0), ask.rng(7), np.zeros(places.size, dtype=np.intp)
    samples = []
    for size in batches(ask.draws, places.size):
        noise = as_strong(wishart(rng, count=size, side=places.size, dof=ask.gram.effective_d), squares, alone)
        samples += [_top_of(one, kept) for one in centred(noise, alone)]
    seen = _top_of(inner, kept)
    reason = (
        f"with one model of each of {places.size} groups the first {count(kept, 'direction')} carry {percent(seen)}, "
        f"of noise {percent(float(np.median(samples)))}"
    )
    return judged("one-each", ask.layer, seen, np.array(samples), seed=ask.seed, reason=reason)


def space(ask: Ask, found: Drawn, *, whole: int | None) -> Finding:
    """How much smaller the models become when their subspace is stored once, at the chosen share of the variance."""
    if ask.ceiling < FEWEST:
        return unknown("space", ask.layer, few(ask))
    ranks = rank_at(ask.share)(found.shares())
    rank = int(rank_at(ask.share)(found.seen.shares))
    seen, samples = times_smaller(ask.s, ask.gram.d, rank), times_smaller(ask.s, ask.gram.d, ranks)
    chance = float(np.median(samples))
    carried = top_share(rank)(found.shares())
    test = scalar_of(top(found.seen.shares, rank), carried, name="share of as many directions", seed=ask.seed)
    reason = (
        f"{count(rank, 'direction')} {'keeps' if rank == 1 else 'keep'} {percent(ask.share)} of the differences from "
        f"the mean: these layers become {float(seen):.2f} times smaller, of noise {chance:.2f} times"
    )
    if whole is not None and whole >= ask.gram.d:
        stored = ask.s * ask.gram.d / float(seen) + ask.s * (whole - ask.gram.d)
        reason += f"; whole checkpoints {ask.s * whole / stored:.2f} times"
    gained = excess(float(seen), chance, 2 * chance) if seen > 1 else 0.0
    return judged("space", ask.layer, float(seen), samples, seed=ask.seed, reason=reason, test=test, effect=gained)


def times_smaller(n: int, d: int, rank: float | Floats) -> Floats:
    """`n d / (r d + d + n r)`: all models at full size against basis and mean once and coefficients for each."""
    return np.asarray(n * d / (np.asarray(rank) * (d + n) + d))


def between_share(inner: Floats, groups: Indices) -> float:
    """The share of the variance that lies between groups; `inner` is about the models' mean."""
    member = np.eye(int(groups.max()) + 1)[groups]
    between = np.sum(np.einsum("sg,st,tg->g", member, inner, member, optimize=True) / member.sum(axis=0))
    total = float(np.trace(inner))
    return float(between / total) if total > 0 else 0.0


def representatives(inner: Floats, groups: Indices) -> Indices:
    """The model of each group that is nearest to its group's mean."""
    away = np.diag(centred(inner[None], groups)[0])
    found = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]
    return np.array([places[int(away[places].argmin())] for places in found], dtype=np.intp)


def no_groups(ask: Ask) -> str:
    """Why nothing can be said about groups."""
    return f"no groups are known among {count(ask.s, 'model')}: choose a column that divides them"


def _odd_ones(family: Lineage) -> list[str]:
    """What is odd, a phrase a kind, with the first model's reason."""
    said = [f"the {one.model} looks {one.kind}: {one.reason}" for one in family.suspects if one.model == COLLECTION]
    for kind in KINDS:
        found = [one for one in family.suspects if one.kind == kind and one.model != COLLECTION]
        if found:
            rest = f", and {len(found) - 1} more" if len(found) > 1 else ""
            said.append(f"{kind}: {found[0].model} ({found[0].reason}){rest}")
    if family.duplicates:
        first = family.duplicates[0]
        rest = f", and {count(len(family.duplicates) - 1, 'more pair')}" if len(family.duplicates) > 1 else ""
        said.append(f"nearly the same: {first.left} and {first.right}{rest}")
    return said


def _top_of(inner: Floats, kept: int) -> float:
    values = np.maximum(np.linalg.eigvalsh(inner)[::-1], 0.0)
    return top(values / values.sum(), kept) if values.sum() > 0 else 0.0
