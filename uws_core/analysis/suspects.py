"""Models that look odd, each with the reason in words: from the moments of entries, norms and cosines alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import chi2

from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import COLLECTION, Duplicate, Suspect

# Robust deviations from the median beyond which a norm is odd: 1 in 3 million of a normal distribution.
FAR = 5.0
# A smaller factor between norms is not worth a look, however alike the other models are.
LEAST = float(np.log(1.5))
# Norms agree better than this once in 10^4 collections of independent entries.
RARE = 1e-4
# A copy is 20 times nearer than the nearest model usually is, or differs in the fifth digit only.
COPY = 0.05
SAME = 1e-5
# Standardised moments 4, 6 and 8 of the ways in which weights are drawn: normal, uniform, normal cut at 2 deviations.
FRESH: Mapping[str, tuple[float, float, float]] = {
    "normal": (3.0, 15.0, 105.0),
    "uniform": (9 / 5, 27 / 7, 9.0),
    "normal cut at two deviations": (2.3655, 7.4712, 27.1893),
}


def suspects(gram: Gram, *, chance: float) -> tuple[Suspect, ...]:
    """Everything odd about single models of a Gram and about all of them; `chance` is the largest cosine of noise.

    Likeness is that of raw weights. The tests on entries need a single layer: a network's layers differ in spread, so
    that their mixture has no shape.
    """
    found = [*_broken(gram)]
    if gram.chosen().size >= 3:
        cosines = gram.cosines("zero")
        found += _unlike(gram, cosines, chance=chance)
        named = {one.model for one in found}
        found += (one for one in _strengths(gram) if one.model not in named)
        found += _collection(gram, cosines, chance=chance)
    return tuple(found)


def duplicates(gram_labels: tuple[str, ...], inner: Floats, cosines: Floats, *, blur: Floats) -> tuple[Duplicate, ...]:
    """Pairs that are far nearer than usual pairs, nearest first; `inner` (s, s) is about any centre.

    A pair counts when its distance is at most `COPY` times the usual distance to the nearest model, or next to nothing.
    `blur` (s,) is how far off rounding may put each model.
    """
    if len(inner) < 2:
        return ()
    squares = np.diag(inner)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * inner, 0.0))
    left, right = np.triu_indices(len(inner), 1)
    apart = distances[left, right]
    norms = np.sqrt(np.maximum(squares, 0.0))
    mean = np.maximum((norms[left] + norms[right]) / 2, np.finfo(np.float64).tiny)
    # With two models there is no usual distance to compare with. Siblings of a base are all near, which is usual there:
    # so the nearest models count, and three quarters of them may be copies before a copy looks usual.
    nearest = (distances + np.diag(np.full(len(inner), np.inf))).min(axis=1)
    usual = float(np.quantile(nearest, 0.75)) if len(inner) > 2 else 0.0
    near = np.flatnonzero(apart <= np.maximum(np.maximum(COPY * usual, blur[left] + blur[right]), SAME * mean))
    return tuple(
        Duplicate(
            left=gram_labels[left[i]],
            right=gram_labels[right[i]],
            cosine=float(cosines[left[i], right[i]]),
            distance=float(apart[i] / mean[i]),
        )
        for i in near[np.argsort(apart[near], kind="stable")]
    )


def fresh_shape(gram: Gram) -> dict[int, str]:
    """Which usable models' entries have the kurtosis of fresh random numbers, and of which kind; empty over layers.

    The kurtosis of `d` draws has the variance `(m8 - 4 m4 m6 + 4 m4^3 - m4^2) / d`; three deviations are allowed.
    Source: Kendall and Stuart 1977, section 10.
    """
    kurtosis, count = gram.entry_stats.kurtosis, gram.entry_stats.count
    if len(gram.layers) > 1 or count < 20:
        return {}
    found: dict[int, str] = {}
    for row in gram.chosen():
        for name, (m4, m6, m8) in FRESH.items():
            spread = np.sqrt((m8 - 4 * m4 * m6 + 4 * m4**3 - m4**2) / count)
            if abs(kurtosis[row] - (m4 - 3)) <= 3 * spread:
                found.setdefault(int(row), name)
    return found


def _broken(gram: Gram) -> Iterator[Suspect]:
    stats = gram.entry_stats
    for row, label in enumerate(gram.labels):
        if not gram.usable[row]:
            count = float(stats.non_finite[row])
            reason = (
                f"{count:.0f} of {stats.count} entries are NaN or infinite" if count > 0 else "it could not be used"
            )
            yield Suspect(label, "non-finite", reason, count, 0.0)
        elif stats.std[row] <= 1e-12 * max(float(stats.largest[row]), np.finfo(np.float64).tiny):
            value = float(stats.mean[row])
            yield Suspect(label, "constant", f"all {stats.count} entries are {value:.3g}", value, float("nan"))


def _unlike(gram: Gram, cosines: Floats, *, chance: float) -> Iterator[Suspect]:
    """Models without a relative while most others have one: at least half, or two thirds to call it odd by itself."""
    rows, near = gram.chosen(), _nearest(cosines)
    related = near > max(chance, 0.0)
    typical = float(np.nanmedian(near[related])) if related.any() else float("nan")
    if related.sum() * 2 < rows.size or typical < 3 * chance:
        return
    fresh = fresh_shape(gram)
    usual_shape = sum(int(row) in fresh for row in rows[related]) * 2 > related.sum()
    for place in np.flatnonzero(near <= np.maximum(2 * chance, 0.1 * typical)):
        row, value = int(rows[place]), float(near[place])
        words = f"its nearest model has cosine {value:.2f}; the others' have {typical:.2f}, chance gives {chance:.2f}"
        if row in fresh and not usual_shape:
            kurtosis = float(gram.entry_stats.kurtosis[row])
            words = f"its entries are {fresh[row]} random numbers (excess kurtosis {kurtosis:.2f}), and {words}"
            yield Suspect(gram.labels[row], "never trained", words, value, typical)
        elif related.sum() * 3 >= rows.size * 2:
            yield Suspect(gram.labels[row], "no relative", words, value, typical)


def _strengths(gram: Gram) -> Iterator[Suspect]:
    """Norms about the mean far outside the others', on a logarithmic scale."""
    rows = gram.chosen()
    squares = np.diag(gram.about("mean"))
    alive = squares > gram.floor
    if alive.sum() < 5:
        return
    logs = np.log(squares[alive]) / 2
    middle = float(np.median(logs))
    # 1.4826 makes the median deviation that of a normal distribution.
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    for row, log in zip(rows[alive], logs, strict=True):
        if abs(log - middle) > max(FAR * spread, LEAST):
            times = float(np.exp(abs(log - middle)))
            reason = f"it lies {times:.3g} times {'farther from' if log > middle else 'nearer to'} the mean than usual"
            yield Suspect(gram.labels[row], "strength", reason, float(np.exp(log)), float(np.exp(middle)))


def _collection(gram: Gram, cosines: Floats, *, chance: float) -> Iterator[Suspect]:
    """What the models together show: that none was trained, or that they are one model in many orders."""
    rows = gram.chosen()
    stats = gram.entry_stats
    norms, kurtosis = stats.norm[rows], stats.kurtosis[rows]
    if len(gram.layers) > 1 or np.isnan(kurtosis).any() or not norms.all() or rows.size < 5:
        return
    seen = float(np.std(norms) / np.mean(norms))
    # The norm of d independent entries scatters by sqrt((m4 / m2^2 - 1) / 4 d).
    expected = float(np.sqrt(max(np.median(kurtosis) + 2, 0.1) / (4 * stats.count)))
    unrelated = _nearest(cosines) <= chance
    fresh = fresh_shape(gram)
    if unrelated.mean() > 0.5 and chi2.cdf((rows.size - 1) * (seen / expected) ** 2, rows.size - 1) < RARE:
        reason = (
            f"norms agree to {_percent(seen)} where independent entries give {_percent(expected)}, yet few cosines "
            "exceed chance, as of one model with its neurons in different orders"
        )
        yield Suspect(COLLECTION, "reordered", reason, seen, expected)
    elif unrelated.all() and len(fresh) >= 0.9 * rows.size and seen < 1.5 * expected:
        kind = max(set(fresh.values()), key=list(fresh.values()).count)
        reason = (
            f"entries are {kind} random numbers, norms differ by {_percent(seen)} (chance {_percent(expected)}), "
            "no two models are alike"
        )
        yield Suspect(COLLECTION, "as if never trained", reason, seen, expected)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _nearest(cosines: Floats) -> Floats:
    """Each model's largest cosine with another; -1 for one without a direction."""
    others = np.nan_to_num(cosines, nan=-1.0) - 3 * np.eye(len(cosines))
    return np.asarray(others.max(axis=1))
