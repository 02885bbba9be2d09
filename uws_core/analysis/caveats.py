"""What else than shared directions concentrates variance: unequal norms, and a profile of variances in all models."""

from __future__ import annotations

import numpy as np

from uws_core.analysis.judging import percent
from uws_core.analysis.measures import top
from uws_core.analysis.noise import Indices, as_strong, batches, wishart
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram

# Norms that differ by less do not bend a spectrum so that anybody could see it.
UNEQUAL = 1.5
# A share of the excess over even noise that may be called most of it.
MOST_OF_IT = 0.5
# An excess kurtosis below it leaves more than 9 in 10 of the entries.
HEAVY = 0.3
# Means of entries that differ so many times as much as those of independent ones.
MEANS_APART = 3.0


def unequal_norms(inner: Floats) -> str:
    """That unequal distances from the mean alone give such a decay; empty where they are nearly equal."""
    distances = np.sqrt(np.maximum(np.diag(inner), 0.0))
    low, high = np.quantile(distances, (0.1, 0.9))
    if high < UNEQUAL * low:
        return ""
    times = f"{high / low:.2g}" if low > 0 else "many"
    return f"unequal norms alone give this decay (the 90th percentile is {times} times the 10th)"


def profile(
    gram: Gram, rows: Indices, inner: Floats, *, kept: int, chance: float, draws: int, rng: np.random.Generator
) -> str:
    """That a profile of variances common to all models would give most of the excess over `chance`, if entries have it.

    Normal entries whose variances v differ from place to place have the excess kurtosis `3 var(v) / mean(v)^2`, and
    inner products that scatter as those of `d / (1 + kurtosis / 3)` entries. Heavy tails of independent entries have
    such a kurtosis too and concentrate nothing, so it is a doubt and no verdict. Empty where such noise gives less, and
    where raw entries tell nothing of the differences: for several layers, and for models with most weights in common.
    """
    kurtosis = float(np.median(gram.entry_stats.kurtosis[rows]))
    own = float(np.trace(inner)) > 0.5 * float(np.trace(gram.about("zero", members=rows)))
    if len(gram.layers) > 1 or not own or not kurtosis >= HEAVY:
        return ""
    dof, squares = gram.effective_d / (1 + kurtosis / 3), np.maximum(np.diag(inner), 0.0)
    alone, samples = np.zeros(rows.size, dtype=np.intp), []
    for size in batches(draws, rows.size):
        noise = as_strong(wishart(rng, count=size, side=rows.size, dof=dof), squares, alone)
        samples += [_top_of(one, kept) for one in noise]
    middle, seen = float(np.median(samples)), _top_of(inner, kept)
    if middle - chance < MOST_OF_IT * (seen - chance):
        return ""
    return (
        f"entries have an excess kurtosis of {kurtosis:.2g}; if all models have a profile of variances in common, "
        f"noise gives {percent(middle)}, and most of it may be that"
    )


def common_sign(gram: Gram, rows: Indices) -> str:
    """That weights of one sign, whose means differ, alone make a shared direction; empty where they do not.

    The all-ones direction is the one kind of agreement that entry statistics show and flipped blocks do not cover.
    """
    stats = gram.entry_stats
    means, deviations = stats.mean[rows], stats.std[rows]
    if len(gram.layers) > 1 or not np.isfinite(means).all() or not (deviations > 0).all():
        return ""
    one_sign = bool((np.sign(means) == np.sign(means[0])).all()) and float(np.median(np.abs(means) / deviations)) > 0.5
    # Means of d independent entries differ by 1 in these units.
    spread = float(means.std(ddof=1) * np.sqrt(stats.count) / np.median(deviations)) if rows.size > 1 else 0.0
    if not one_sign or spread < MEANS_APART:
        return ""
    return (
        "the weights of every model have one sign and means that differ: that alone makes a shared direction, which "
        "flipped blocks do not take away"
    )


def _top_of(inner: Floats, kept: int) -> float:
    inner = inner - inner.mean(axis=0) - inner.mean(axis=1)[:, None] + inner.mean()
    values = np.maximum(np.linalg.eigvalsh(inner)[::-1], 0.0)
    return top(values / values.sum(), kept) if values.sum() > 0 else 0.0
