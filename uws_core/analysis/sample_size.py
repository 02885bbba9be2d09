"""How the numbers change with the number of models: subsamples of growing size, and whether that may be carried on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uws_core.analysis.cores import on_every_core
from uws_core.analysis.judging import count
from uws_core.analysis.measures import MANY, about_mean, half_overlap, held_out_share, leading_half
from uws_core.analysis.noise import Indices, as_strong, wishart
from uws_core.analysis.nulls import wider_view
from uws_core.analysis.shared_directions import flipped
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import effective_rank, rank_at
from uws_core.nouns.evidence import SampleCurve
from uws_core.nouns.gram import Axis, Gram, Members

STATISTICS = ("share", "rank", "effective_rank", "overlap", "captured")
SMALLEST, STEPS, FOLDS = 4, 8, 5
# A power of n below which the number of directions has settled, and one above which every model brings its own.
SETTLED, OPEN = 0.1, 0.9


def sample_curve(
    gram: Gram,
    *,
    members: Members = None,
    kept: int = 4,
    share: float = 0.9,
    repeats: int = 20,
    seed: int = 0,
    report: Callable[[float, str], None] | None = None,
) -> SampleCurve:
    """Share of `kept` directions, rank at `share`, overlap of halves and captured share for random subsets of models.

    Sizes grow by equal factors from 4 to all; each is drawn `repeats` times, those of more than 200 models a quarter as
    often. Subsets that are nearly everything are nearly the same, so that intervals narrow to the right by themselves.
    Models that share nothing (flipped blocks, or random directions of the same norms) go through the same.
    Price: `repeats` times some ten decompositions a size.

    Raises:
        NotEnoughModels: fewer than eight usable models.
        LayerError: a side axis.
    """
    rows = _enough(gram, members)
    inner, rng = gram.about("mean", members=rows), np.random.default_rng(seed)
    blocks = wider_view(gram, rows, seed=seed)
    if blocks is not None:
        noise = flipped(blocks, rng, 1)[0]
    else:
        squares, one_center = np.maximum(np.diag(inner), 0.0), np.zeros(rows.size, dtype=np.intp)
        noise = as_strong(wishart(rng, count=1, side=rows.size, dof=gram.effective_d), squares, one_center)[0]
    sizes = _sizes(rows.size)
    seen, chance = np.zeros((sizes.size, len(STATISTICS), 3)), np.zeros((sizes.size, len(STATISTICS)))
    for step, size in enumerate(sizes):
        if report is not None:
            report(step / sizes.size, f"{size} of {rows.size} models")
        times = repeats if size <= MANY else max(repeats // 4, 3)
        picks = [_pick(rng, rows.size, int(size)) for _ in range(times)]
        draws = list(on_every_core(lambda pick: _pair(inner, noise, pick, kept, share), picks))
        seen[step] = _middle([one for one, _ in draws])
        chance[step] = _middle([other for _, other in draws])[:, 1]
    growth = _growth(sizes, seen[:, STATISTICS.index("effective_rank"), 1])
    return SampleCurve(
        sizes=sizes,
        statistics={name: seen[:, place] for place, name in enumerate(STATISTICS)},
        noise={name: chance[:, place] for place, name in enumerate(STATISTICS)},
        kept=kept,
        share=share,
        growth=growth,
        outlook=_outlook(growth, rows.size, seen[-1, STATISTICS.index("rank"), 1], share),
        repeats=repeats,
        seed=seed,
    )


def _enough(gram: Gram, members: Members) -> Indices:
    if gram.axis is not Axis.MODELS:
        raise LayerError(f"{gram.layer.name}: sample sizes are of models; found a Gram on the {gram.axis} axis")
    rows = gram.chosen(members)
    if rows.size < 2 * SMALLEST:
        raise NotEnoughModels(
            f"{gram.layer.name}: a curve over sample sizes needs at least {2 * SMALLEST} models; found {rows.size}. "
            "Choose more models"
        )
    return rows


def _sizes(n: int) -> Indices:
    return np.unique(np.round(np.geomspace(SMALLEST, n, STEPS)).astype(np.intp))


def _pick(rng: np.random.Generator, n: int, size: int) -> tuple[Indices, Indices, Indices]:
    """A random subset of `size` of n models, an order of it, whose halves are compared, and its folds."""
    return rng.permutation(n)[:size], rng.permutation(size), rng.permutation(size) % FOLDS


def _pair(
    inner: Floats, noise: Floats, pick: tuple[Indices, Indices, Indices], kept: int, share: float
) -> tuple[Floats, Floats]:
    """The statistics of one subset, and of the same subset of the noise."""
    rows, order, folds = pick
    part = np.ix_(rows, rows)
    return _statistics(inner[part], order, folds, kept, share), _statistics(noise[part], order, folds, kept, share)


def _statistics(inner: Floats, order: Indices, folds: Indices, kept: int, share: float) -> Floats:
    values = np.maximum(np.linalg.eigvalsh(about_mean(inner))[::-1], 0.0)
    total = values.sum()
    if total <= 0:
        return np.full(len(STATISTICS), np.nan)
    shares, half = values / total, len(inner) // 2
    left, right = (leading_half(inner, np.sort(part)) for part in (order[:half], order[half:]))
    # Halves of fewer models than twice the directions, and folds of single models, have nothing to compare.
    enough = half - 1 >= kept
    return np.array(
        [
            float(shares[:kept].sum()),
            float(rank_at(share)(shares)),
            float(effective_rank(shares)),
            half_overlap(inner, left, right, kept=kept) if enough else np.nan,
            held_out_share(inner, folds, kept=kept) if len(inner) >= max(2 * FOLDS, 2 * kept) else np.nan,
        ]
    )


def _middle(draws: list[Floats]) -> Floats:
    """The 2.5, 50 and 97.5 % points (statistics, 3) of some draws; NaN where there is none."""
    stack = np.array(draws)
    known = ~np.isnan(stack).any(axis=0)
    found = np.full((stack.shape[1], 3), np.nan)
    found[known] = np.quantile(stack[:, known], (0.025, 0.5, 0.975), axis=0).T
    return found


def _growth(sizes: Indices, ranks: Floats) -> float:
    """The power of n with which the effective rank grows over the sizes from a third of the models on."""
    late = sizes >= sizes[-1] / 3
    if late.sum() < 2 or not np.all(ranks[late] > 0):
        return float("nan")
    return float(np.polyfit(np.log(sizes[late]), np.log(ranks[late]), 1)[0])


def _outlook(growth: float, n: int, rank: float, share: float) -> str:
    """What may be said of more models than there are."""
    directions = f"{count(round(rank), 'direction')} for {100 * share:.4g} %"
    if np.isnan(growth):
        return "one cannot tell what more models would show"
    if growth <= SETTLED:
        return f"settled: {directions} at {n} models, and growth has stopped (n^{growth:.2f})"
    if growth >= OPEN:
        return f"open: every model brings its own directions (n^{growth:.2f}); nothing can be said of more models"
    return f"still growing as n^{growth:.2f}: {directions} at {n} models is a lower bound, and is not extrapolated"
