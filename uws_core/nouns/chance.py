"""Comparisons with chance: one number, a whole spectrum, and the count of directions that models share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nan

import numpy as np

from uws_core.nouns.arrays import Bools, Floats, frozen

# Below it a collection is too small for a count: with four directions taken away nothing is left to compare with.
LEAST_MODELS = 5
LEVEL = 0.05
# The sentence where models differ by a common profile of scales only.
BEYOND_EQUAL_NOISE = "beyond equal noise, not beyond the common scale of rows"


@dataclass(frozen=True)
class SharedDirections:
    """Directions shared beyond chance, one after another, until the first that is not.

    `p` (t,) are the tests in order, found ones first and then the one that failed: `(1 + hits) / (1 + draws)`, never
    below `1 / (1 + draws)`. `tail` (t,) are p-values of a Tracy-Widom law fitted to the draws, for ranking what no draw
    reached; `z` (t,) counts standard deviations of the draws. `loadings` (count, n) are each model's
    coordinates along each direction, in its own noise units; their squares sum to 1 a
    direction. `noise` (n,) is each model's own noise strength. Both are of the Gram's models `rows` (n,).
    `view` is what was flipped: rows, columns, or nothing for the strength null.
    """

    count: int
    p: Floats
    tail: Floats
    z: Floats
    loadings: Floats
    noise: Floats
    kind: str
    view: str
    draws: int
    seed: int
    rows: tuple[int, ...] = ()
    # Why there is no count; empty where there is one.
    reason: str = ""
    # The count of each view that was flipped, of which `count` is the smaller; empty where nothing was.
    by_view: tuple[tuple[str, int], ...] = ()
    # Whether a direction stands beyond noise of equal variances; asked where the profile null finds none.
    beyond_equal_noise: bool = False
    # What else than sharing may be behind the count; empty where entry statistics show nothing.
    doubt: str = ""

    def __post_init__(self) -> None:
        for name in ("p", "tail", "z", "loadings", "noise"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def known(self) -> bool:
        """Whether the collection is large enough for a count."""
        return not self.reason

    def carriers(self, direction: int) -> tuple[int, ...]:
        """Returns the fewest models (rows of the Gram) with 80 % of a direction's squared loadings, strongest first."""
        squares = np.square(self.loadings[direction])
        order = np.argsort(-squares, kind="stable")
        most = int(np.searchsorted(np.cumsum(squares[order]), 0.8 * squares.sum())) + 1
        return tuple(int(self.rows[place]) if self.rows else int(place) for place in order[:most])


# Maps shares (..., k) to numbers (...): one made of the observed shares, one of each draw's.
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class ScalarNull:
    """One observed number against chance: the draws' 2.5, 50 and 97.5 % points, z, and one-sided p.

    `z` is positive on the side that `p` tests, so a large z always means "more than chance", also where less is more.
    """

    statistic: str
    value: float
    low: float
    middle: float
    high: float
    z: float
    p: float
    draws: int
    seed: int


@dataclass(frozen=True)
class NullBand:
    """What chance alone would show for one statistic, component by component.

    `observed`, `low`, `middle`, `high` (2.5, 50 and 97.5 % of the draws), `z` and `p` (one-sided,
    `(1 + hits) / (1 + draws)`) are (k,). `samples` (draws, k) are the draws themselves, so that any other statistic
    gets its band from the same ones. `edge` is the analytic bulk edge where the null has one, else NaN.
    Only the first `resolved` components are more than rounding (None is all): the others have no z and no p (NaN).
    """

    kind: str
    statistic: str
    observed: Floats
    low: Floats
    middle: Floats
    high: Floats
    z: Floats
    p: Floats
    samples: Floats
    draws: int
    seed: int
    edge: float = float("nan")
    resolved: int | None = None
    # The count of shared directions under the same null; None on the side axes and for other statistics.
    shared: SharedDirections | None = None
    # The component (from 0) that each shared direction lies along most: behind a strong model it is not the first.
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("observed", "low", "middle", "high", "z", "p", "samples"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def above(self) -> int:
        """How many directions are shared beyond chance: the count of `shared`.

        Without one (side axes, too few models) the leading components above the band, counted from the first.
        """
        if self.shared is not None and self.shared.known:
            return self.shared.count
        inside = np.flatnonzero(self.observed[: self._most] <= self.high[: self._most])
        return int(inside[0]) if inside.size else self._most

    @property
    def beyond(self) -> Bools:
        """Which components (k,) hold a shared direction; without a count those above the band, from the first."""
        if self.shared is not None and self.shared.known:
            return np.isin(np.arange(self.observed.size), self.places)
        return np.asarray(np.arange(self.observed.size) < self.above)

    @property
    def _most(self) -> int:
        """The number of components above rounding."""
        return self.observed.size if self.resolved is None else min(self.resolved, self.observed.size)

    def scalar(self, statistic: Statistic, *, name: str, fewer: bool = False) -> ScalarNull:
        """One number made of the shares, against the same number made of each draw.

        `top_share`, `rank_at` and `effective_rank` are such statistics. `fewer` tests the lower tail: a rank is
        remarkable when it is small.
        """
        seen = float(statistic(self.observed))
        result = scalar_of(seen, statistic(self.samples), name=name, seed=self.seed, fewer=fewer)
        return result if self._most else _untested(result)

    def rank(self, share: float) -> ScalarNull:
        """The fewest directions that carry `share` of the variance, against noise; no z and p beyond rounding."""
        result = self.scalar(rank_at(share), name=f"rank at {share:.0%}", fewer=True)
        return result if result.value <= self._most else _untested(result)

    def concentration(self, share: float) -> ScalarNull:
        """The share that as many directions carry as hold at least `share` here, against as many of noise.

        One number for "more concentrated than chance" that, unlike a count of directions, still varies when n is small.
        No z and p (NaN) where that takes directions that are rounding.
        """
        k = int(rank_at(share)(self.observed))
        result = self.scalar(top_share(k), name=f"share of the first {k}")
        return result if k <= self._most else _untested(result)


def scalar_of(value: float, samples: Floats, *, name: str, seed: int, fewer: bool = False) -> ScalarNull:
    """One number against draws of it (draws,); `fewer` tests the lower tail."""
    side = -1.0 if fewer else 1.0
    low, middle, high = (float(q) for q in np.quantile(samples, (0.025, 0.5, 0.975)))
    # Equal up to rounding counts as a hit, or a statistic that takes few values would look rarer than it is.
    hits = int((side * samples >= side * value - 1e-12 * max(1.0, abs(value))).sum())
    return ScalarNull(
        statistic=name,
        value=value,
        low=low,
        middle=middle,
        high=high,
        z=side * float(z_scores(np.array(value), samples)),
        p=(1 + hits) / (1 + len(samples)),
        draws=len(samples),
        seed=seed,
    )


def _untested(result: ScalarNull) -> ScalarNull:
    """The values without z and p, because what is seen is rounding."""
    return replace(result, z=nan, p=nan)


def z_scores(observed: Floats, samples: Floats) -> Floats:
    """Standard deviations between what is seen and the mean of the draws (axis 0).

    Where the draws do not vary it is 0 if they equal what is seen, else infinite.
    """
    away = observed - samples.mean(axis=0)
    spread = samples.std(axis=0, ddof=1)
    flat = spread <= 1e-14 * np.maximum(np.abs(observed), np.abs(samples).max(axis=0))
    same = np.abs(away) <= 1e-12 * np.maximum(1.0, np.abs(observed))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flat, np.where(same, 0.0, np.sign(away) * inf), away / np.where(flat, 1.0, spread))


def top_share(k: int) -> Statistic:
    """The share of the variance that the first `k` directions carry."""
    return lambda shares: np.asarray(shares[..., :k].sum(axis=-1))


def rank_at(share: float) -> Statistic:
    """The fewest directions that carry `share` of the variance."""
    return lambda shares: np.asarray(1.0 + (np.cumsum(shares, axis=-1) < share - 1e-12).sum(axis=-1))


def effective_rank(shares: Floats) -> Floats:
    """`exp(entropy)` of the shares along the last axis. Source: Roy and Vetterli 2007."""
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return np.asarray(np.exp(-np.sum(shares * logs, axis=-1)))


def discoveries(p: Floats, *, level: float = 0.05) -> Bools:
    """Which of many p-values (L,) stand when at most a share `level` of those named may be false.

    NaN is no test. Valid for independent and for positively dependent tests, such as layers of one network.
    Source: Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001.
    """
    order, tests = np.argsort(p), int(np.count_nonzero(~np.isnan(p)))
    passed = np.flatnonzero(p[order] <= level * np.arange(1, p.size + 1) / max(tests, 1))
    result = np.zeros(p.size, dtype=np.bool_)
    result[order[: passed[-1] + 1 if passed.size else 0]] = True
    return result
