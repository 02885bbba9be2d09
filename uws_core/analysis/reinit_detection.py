"""Whether entries look as if an initialiser had just drawn them: their shape, their spread, and what models share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import chi2
from scipy.stats import norm as normal

from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import LAYER, Indices, Outlier

# Norms agree better than this once in 10^4 collections of independent entries; cosines reach so far as seldom.
RARE = 1e-4
# Standardised moments 4, 6 and 8 of the ways in which weights are drawn: normal, uniform, normal cut at 2 deviations.
FRESH: Mapping[str, tuple[float, float, float]] = {
    "normal": (3.0, 15.0, 105.0),
    "uniform": (9 / 5, 27 / 7, 9.0),
    "normal cut at two deviations": (2.3655, 7.4712, 27.1893),
}
# What an initialiser is told (a deviation, or the bound of a uniform) over the deviation that its numbers have.
TOLD: Mapping[str, float] = {"normal": 1.0, "uniform": float(np.sqrt(3)), "normal cut at two deviations": 1 / 0.87963}
# With fewer numbers a deviation is not known well enough to recognise an initialiser by.
_CLOSE = 0.05
# So many standard errors what is drawn may be off.
_ERRORS = 3.0


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
        for name, (m4, _, _) in FRESH.items():
            if abs(kurtosis[row] - (m4 - 3)) <= _ERRORS * _spread_of_kurtosis(name, count):
                found.setdefault(int(row), name)
    return found


def initialiser(gram: Gram, rows: Indices, kind: str) -> str:
    """The usual initialiser whose numbers have the spread of these models' entries, in words; empty where none has.

    Training moves the spread by percents, and that of `s d` draws is known to `sqrt((m4 - 1) / 4 s d)`. Known are the
    round numbers that people write, and what follows from the number of inputs and outputs.

    Source: Glorot and Bengio 2010; He et al. 2015; LeCun et al. 1998.
    """
    stats, (outputs, inputs) = gram.entry_stats, gram.layer.shape
    if rows.size == 0 or len(gram.layers) > 1:
        return ""
    off = _ERRORS * float(np.sqrt((FRESH[kind][0] - 1) / (4 * rows.size * stats.count)))
    std = float(np.sqrt(np.mean(stats.std[rows] ** 2)))
    if off > _CLOSE or std <= 0:
        return ""
    told = std * TOLD[kind]
    place = 10.0 ** np.floor(np.log10(told * (1 + off)))
    digit = max(1.0, np.round(told / place))
    if abs(told / (digit * place) - 1) <= off:
        return f"{digit * place:.2g}"
    known = {
        "1 / sqrt(inputs)": 1 / inputs,
        "1 / sqrt(outputs)": 1 / outputs,
        "sqrt(2 / inputs)": 2 / inputs,
        "sqrt(2 / outputs)": 2 / outputs,
        "sqrt(2 / (inputs + outputs))": 2 / (inputs + outputs),
        "1 / sqrt(3 inputs)": 1 / (3 * inputs),
    }
    return next((name for name, square in known.items() if _near(np.sqrt(square), (std, told), off)), "")


def together(gram: Gram, cosines: Floats, *, related: bool) -> Iterator[Outlier]:
    """What the models of one layer show together: that none was trained, or that they are one model in many orders.

    `related` says that some of them are relatives: then none of both can be said of all.
    """
    rows, stats = gram.chosen(), gram.entry_stats
    norms, kurtosis = stats.norm[rows], stats.kurtosis[rows]
    if len(gram.layers) > 1 or np.isnan(kurtosis).any() or not norms.all() or rows.size < 5:
        return
    spread, expected = float(np.std(norms) / np.mean(norms)), norm_spread(gram, rows)
    agreed = chi2.cdf((rows.size - 1) * (spread / expected) ** 2, rows.size - 1)
    equal = [] if agreed > 1 - 10 * RARE else [*_equal(gram, rows, cosines)]
    if equal:
        yield from equal
    elif not related and agreed < RARE and _nearly_apart(cosines, gram.effective_d):
        reason = (
            f"norms agree to {percent(spread)} where independent entries give {percent(expected)}, yet few cosines "
            "exceed chance, as of one model with its neurons in different orders"
        )
        yield Outlier(LAYER, "reordered", reason, spread, expected)
    elif not related and agreed < 1 - 10 * RARE and _cosines_of_chance(cosines, gram.effective_d):
        yield from _untrained(gram, rows, spread, expected)


def norm_spread(gram: Gram, rows: Indices) -> float:
    """How far the norms of independent entries scatter, relative: `sqrt((m4 / m2^2 - 1) / 4 d)`."""
    stats = gram.entry_stats
    return float(np.sqrt(max(np.median(stats.kurtosis[rows]) + 2, 0.1) / (4 * stats.count)))


def agree_too_well(gram: Gram, rows: Indices, middle: float) -> bool:
    """Whether the norms of these models are nearer to `middle` than independent entries put them once in 10^4 times."""
    away = (gram.entry_stats.norm[rows] / middle - 1) / norm_spread(gram, rows)
    return bool(chi2.cdf(float(np.sum(away**2)), rows.size) < RARE)


def percent(share: float) -> str:
    """A share with two digits."""
    return f"{100 * share:.2g} %"


def _untrained(gram: Gram, rows: Indices, spread: float, expected: float) -> Iterator[Outlier]:
    fresh = fresh_shape(gram)
    if len(fresh) < 0.9 * rows.size:
        return
    kind = max(FRESH, key=list(fresh.values()).count)
    words = initialiser(gram, rows, kind)
    if words and _fresh_on_average(gram, rows, kind):
        what = "bound" if kind == "uniform" else "deviation"
        reason = (
            f"entries are {kind} random numbers with the {what} of an initialiser ({words}), norms differ by "
            f"{percent(spread)} (chance {percent(expected)}), no two models are alike"
        )
        yield Outlier(LAYER, "as if never trained", reason, spread, expected)


def _equal(gram: Gram, rows: Indices, cosines: Floats) -> Iterator[Outlier]:
    """Every model the same common part and numbers of its own that point nowhere: all cosines are one number."""
    between = _pairs(cosines)
    own = _pairs(gram.cosines("mean"))
    if np.isnan(own).any() or np.isnan(between).any():
        return
    chance = 1 / float(np.sqrt(gram.effective_d))
    # A spread of so many pairs is known to 1 / sqrt(2 pairs) of itself.
    most = chance * (1 + 4 / np.sqrt(2 * own.size))
    spread, kurtosis = float(np.std(own)), gram.entry_stats.kurtosis[rows]
    light = np.mean(kurtosis <= _ERRORS * _spread_of_kurtosis("normal", gram.entry_stats.count))
    if between.mean() > 5 * chance / np.sqrt(own.size) and spread <= most and light >= 0.9:
        reason = (
            f"all cosines are {between.mean():.3g} (+- {between.std():.2g}), norms agree, entries have no heavier "
            f"tails than fresh ones, and about the mean cosines scatter by {spread:.2g} where fresh numbers give "
            f"{chance:.2g}: a common part, and fresh random numbers in each model"
        )
        yield Outlier(LAYER, "equal cosines", reason, spread, chance)


def _fresh_on_average(gram: Gram, rows: Indices, kind: str) -> bool:
    off = abs(float(np.mean(gram.entry_stats.kurtosis[rows])) - (FRESH[kind][0] - 3))
    return off <= _ERRORS * _spread_of_kurtosis(kind, gram.entry_stats.count * rows.size)


def _nearly_apart(cosines: Floats, d: float) -> bool:
    """Whether most models' nearest one is hardly beyond chance: of reordered neurons a few stay where they were."""
    others = np.nan_to_num(cosines, nan=-1.0) - 3 * np.eye(len(cosines))
    chance = normal.isf(1 - 0.95 ** (1 / _pairs(cosines).size)) / np.sqrt(d)
    return bool(np.median(others.max(axis=1)) <= 2 * chance)


def _cosines_of_chance(cosines: Floats, d: float) -> bool:
    """Whether largest, mean and mean square of the cosines are those of independent directions."""
    scores = _pairs(cosines) * np.sqrt(d)
    if np.isnan(scores).any():
        return False
    largest = np.abs(scores).max() <= normal.isf(RARE / scores.size)
    mean = abs(scores.mean()) * np.sqrt(scores.size) <= 4
    return bool(largest and mean and np.mean(scores**2) <= 1 + 4 * np.sqrt(2 / scores.size))


def _pairs(cosines: Floats) -> Floats:
    return np.asarray(cosines[np.triu_indices(len(cosines), 1)])


def _near(value: float, either: tuple[float, ...], off: float) -> bool:
    return any(abs(one / value - 1) <= off for one in either)


def _spread_of_kurtosis(kind: str, count: int) -> float:
    m4, m6, m8 = FRESH[kind]
    return float(np.sqrt((m8 - 4 * m4 * m6 + 4 * m4**3 - m4**2) / count))
