"""The claims about shared structure: concentration, components, halves, growth, and how well the subspace is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from uws_core.analysis import caveats
from uws_core.analysis.cores import on_every_core
from uws_core.analysis.judging import count, denied, excess, judged, percent, unknown, with_effect
from uws_core.analysis.measures import Cuts, Measured, measure_each, top
from uws_core.analysis.noise import Indices, as_strong, batches, centred, strong, wishart
from uws_core.analysis.nulls import share_band
from uws_core.analysis.shared_directions import COUNT_DRAWS, about_common_points, flipped, shared_directions
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import BEYOND_EQUAL_NOISE, ScalarNull, scalar_of, top_share
from uws_core.nouns.evidence import LEVEL, Determined, Finding, Verdict
from uws_core.nouns.gram import Gram

Report = Callable[[float, str], None]
# Fewer directions than these, and any share of any noise is carried by nearly all of them.
FEWEST = 5
# So many draws are measured together where models are few, and fewer where one takes long: s^3 times draws.
TOGETHER, MOST_TOGETHER = 8, 10**7
# What a profile of variances would give is said, not tested.
MOST_DOUBTS = 59


@dataclass(frozen=True)
class Ask:
    """What was asked, the models (rows of the Gram) it is about, and their inner products (s, s) about their mean.

    `groups` (s,) numbers the models' groups; None where none are known. `kin` (s,) numbers those of the lineage where a
    column makes the others and they are not the same. `cuts` divide the models in two.
    """

    gram: Gram
    rows: Indices
    inner: Floats
    groups: Indices | None
    kin: Indices | None
    cuts: Cuts
    kept: int
    share: float
    draws: int
    seed: int
    report: Report
    # Grams of blocks (B, s, s) about the mean of these models: what the profile null flips. None draws directions.
    blocks: Floats | None = None
    # The last such blocks about common points and what they were of: many batches of draws are of the same.
    _turned: dict[tuple[bytes, bytes], Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.gram.layer.name

    @property
    def s(self) -> int:
        """The number of models."""
        return self.rows.size

    @property
    def ceiling(self) -> int:
        """The most directions that these models can have about their mean."""
        return min(self.s - 1, self.gram.d)

    def rng(self, stream: int) -> np.random.Generator:
        """Random numbers of one claim, so that leaving out another changes nothing."""
        return np.random.default_rng([self.seed, stream])

    def noise(self, rng: np.random.Generator, size: int, groups: Indices, rows: Indices | None = None) -> Floats:
        """Returns draws (size, s, s) of models that share nothing, about the means of `groups` (s,).

        With blocks, every model's part in every block has a random sign; without, directions are random and distances
        to the means are those observed. `rows` takes some of the models only.
        """
        chosen = np.arange(self.s) if rows is None else rows
        if self.blocks is not None:
            name = (chosen.tobytes(), groups.tobytes())
            if name not in self._turned:
                turn = about_common_points(self.inner[np.ix_(chosen, chosen)], groups)
                self._turned.clear()
                self._turned[name] = turn @ self.blocks[:, chosen][:, :, chosen] @ turn.T
            return centred(flipped(self._turned[name], rng, size), groups)
        inside = centred(self.inner[np.ix_(chosen, chosen)][None], groups)[0]
        squares = np.maximum(np.diag(inside), 0.0)
        drawn = as_strong(wishart(rng, count=size, side=chosen.size, dof=self.gram.effective_d), squares, groups)
        return centred(drawn, groups)


@dataclass(frozen=True)
class Drawn:
    """What the models show, and what each draw of noise of the same strengths shows."""

    seen: Measured
    noise: tuple[Measured, ...]

    def shares(self, *, unit: bool = False) -> Floats:
        """The shares (draws, s) of the noise's components."""
        return np.array([one.unit_shares if unit else one.shares for one in self.noise])


def drawn(ask: Ask) -> Drawn:
    """The measures of the models and of `draws` collections that share nothing; see `Ask.noise`."""
    rng, one_center = ask.rng(1), np.zeros(ask.s, dtype=np.intp)
    noise: list[Measured] = []

    def measured(some: Floats) -> list[Measured]:
        return measure_each(some, ask.cuts, kept=ask.kept)

    # Where a pass over all draws takes long, it must be possible to stop between any two.
    few = max(1, min(TOGETHER, MOST_TOGETHER // ask.s**3))
    for size in batches(ask.draws, ask.s):
        batch = ask.noise(rng, size, one_center)
        ask.report(len(noise) / ask.draws, f"noise {len(noise) + 1} of {ask.draws}")
        for some in on_every_core(measured, [batch[start : start + few] for start in range(0, size, few)]):
            noise += some
            ask.report(len(noise) / ask.draws, f"noise {len(noise)} of {ask.draws}")
    return Drawn(measured(ask.inner[None])[0], tuple(noise))


def concentrated(ask: Ask, comparison: Drawn, *, unit: bool) -> Finding:
    """Whether the first directions carry more than those of noise, as they are or with every model scaled to 1."""
    claim = "concentrated-unit" if unit else "concentrated"
    if ask.ceiling < FEWEST:
        return unknown(claim, ask.layer, few(ask))
    seen = top(comparison.seen.unit_shares if unit else comparison.seen.shares, ask.kept)
    samples = np.array([top(one.unit_shares if unit else one.shares, ask.kept) for one in comparison.noise])
    reason = (
        f"the first {count(ask.kept, 'direction')} carry {percent(seen)} of the variance, "
        f"of noise {percent(float(np.median(samples)))}"
    )
    finding = judged(claim, ask.layer, seen, samples, seed=ask.seed, reason=reason)
    doubt = "" if unit else _doubt(ask, finding)
    return replace(finding, reason=f"{reason}: {doubt}") if doubt else finding


def components(ask: Ask, comparison: Drawn) -> Finding:
    """How many directions the models share beyond chance: the one count, see `shared_directions`."""
    if ask.ceiling < FEWEST:
        return unknown("components", ask.layer, few(ask))
    shared = shared_directions(ask.gram, draws=COUNT_DRAWS, seed=ask.seed, members=ask.rows)
    if not shared.known:
        return unknown("components", ask.layer, shared.reason)
    carried = top(comparison.seen.shares, shared.count)
    chance = float(np.median(top_share(shared.count)(comparison.shares())))
    reason = f"{count(shared.count, 'direction')} shared beyond chance"
    if len(set(dict(shared.by_view).values())) > 1:
        reason += " (" + ", ".join(f"{found} by {view}" for view, found in shared.by_view) + ")"
    doubt = BEYOND_EQUAL_NOISE if shared.beyond_equal_noise else shared.doubt
    reason += f": {doubt}" if doubt else ""
    test = ScalarNull(
        statistic="first direction",
        value=float(shared.count),
        low=0.0,
        middle=0.0,
        high=0.0,
        z=float(shared.z[0]),
        p=float(shared.p[0]),
        draws=shared.draws,
        seed=ask.seed,
    )
    finding = judged(
        "components",
        ask.layer,
        float(shared.count),
        np.zeros(ask.draws),
        seed=ask.seed,
        reason=reason,
        test=test,
    )
    return with_effect(finding, excess(carried, chance, 1.0) if shared.count else 0.0)


def halves(ask: Ask, comparison: Drawn) -> Finding:
    """Whether random halves of the models use the same directions."""
    samples = np.array([one.overlap for one in comparison.noise])
    if ask.s < 2 * FEWEST or np.isnan(samples).any() or np.isnan(comparison.seen.overlap):
        return unknown("halves", ask.layer, f"halves of {count(ask.s, 'model')} have too few directions to compare")
    whole = " (groups kept whole)" if ask.cuts.whole is not ask.cuts.plain else ""
    return judged(
        "halves",
        ask.layer,
        comparison.seen.overlap,
        samples,
        seed=ask.seed,
        reason=f"random halves{whole} overlap by {comparison.seen.overlap:.2g}, of noise by {np.median(samples):.2g}",
    )


def saturates(ask: Ask, comparison: Drawn) -> Finding:
    """Whether the number of directions has stopped growing with the number of models."""
    samples = np.array([one.growth for one in comparison.noise])
    if ask.s < 2 * FEWEST or np.isnan(samples).any() or np.isnan(comparison.seen.growth):
        return unknown("saturates", ask.layer, f"{count(ask.s, 'model')} are too few to see growth")
    reason = (
        f"from half of the models to all, the effective rank grows as n^{comparison.seen.growth:.2f}, "
        f"of noise as n^{np.median(samples):.2f}"
    )
    effect = excess(comparison.seen.growth, float(np.median(samples)), 0.0)
    # Half of the way to no growth at all: below that, new models bring more new directions than known ones.
    settled = effect if effect >= 0.5 else min(effect, 0.0)
    finding = judged("saturates", ask.layer, comparison.seen.growth, samples, seed=ask.seed, reason=reason)
    return with_effect(finding, settled)


def determined(ask: Ask, comparison: Drawn) -> tuple[Finding, Determined | None]:
    """Up to which k the leading subspace is determined, and the bound for every k."""
    if ask.ceiling < FEWEST:
        return unknown("determined", ask.layer, few(ask)), None
    known = _determined(comparison.seen, ask.ceiling)
    noise = [_determined(one, ask.ceiling) for one in comparison.noise]
    tight = [float(np.max(1 / one.bounds, initial=0.0)) for one in (known, *noise)]
    test = scalar_of(tight[0], np.array(tight[1:]), name="1 / smallest bound", seed=ask.seed)
    if known.k:
        reason = f"the subspace of the first {count(known.k, 'direction')} is determined to a sine of 1/2"
    else:
        smallest = f"the smallest bound on the sine is {1 / max(tight[0], 1e-9):.2g}"
        reason = f"not determined: {smallest}, where 1/2 says something"
    samples = np.array([one.k for one in noise], dtype=np.float64)
    effect = 1.0 if known.k else 0.0
    finding = judged("determined", ask.layer, float(known.k), samples, seed=ask.seed, reason=reason, test=test)
    finding = with_effect(finding, effect)
    return (finding if known.k else denied(finding, reason)), known


def mean(ask: Ask, directions: Finding) -> Finding:
    """Whether what is shared is more than the mean: `directions` is the finding on concentration about it."""
    center = "base" if ask.gram.base is not None else "zero"
    energy = ask.gram.about(center, members=ask.rows)
    if np.trace(energy) <= ask.gram.floor:
        return unknown("mean", ask.layer, f"the models have no weights about {center}")
    seen = mean_share(energy)
    rng, norms = ask.rng(2), np.sqrt(np.maximum(np.diag(energy), 0.0))
    blocks = None if ask.blocks is None else _blocks_about(ask, center)
    drawn_batches = (
        strong(wishart(rng, count=size, side=ask.s, dof=ask.gram.effective_d), norms)
        if blocks is None
        else flipped(blocks, rng, size)
        for size in batches(ask.draws, ask.s)
    )
    samples = np.concatenate([mean_share(batch) for batch in drawn_batches])
    what = "of the changes from the base" if center == "base" else "of the weights"
    reason = f"the mean carries {percent(float(seen))} of the energy {what}, by chance {percent(1 / ask.s)}"
    about = judged("mean", ask.layer, float(seen), samples, seed=ask.seed, reason=reason)
    return _beyond_mean(about, directions)


def mean_share(energy: Floats) -> Floats:
    """The share of the energy (...) that the mean carries, from inner products (..., s, s) about any fixed point."""
    traces = np.trace(energy, axis1=-2, axis2=-1)
    return np.asarray(energy.sum(axis=(-2, -1)) / (energy.shape[-1] * traces))


def few(ask: Ask) -> str:
    """The reason why few models decide nothing."""
    return f"{count(ask.s, 'model')} give at most {count(ask.ceiling, 'direction')}"


def _beyond_mean(about: Finding, directions: Finding) -> Finding:
    """The claim on the mean, judged by `directions`: what is left when the mean is taken away."""
    if directions.verdict is Verdict.UNKNOWN:
        return unknown(about.claim, about.layer, f"{about.reason}; what is left cannot be judged: {directions.reason}")
    nothing = about.p > LEVEL
    left = {
        Verdict.HOLDS: "what is left concentrates",
        Verdict.WEAK: "what is left concentrates a little",
        Verdict.CHANCE: "nothing is shared beyond chance" if nothing else "what is left is no more than noise",
    }[directions.verdict]
    shown = f"{about.reason}: there is no shared mean" if nothing else about.reason
    return replace(
        about,
        verdict=directions.verdict,
        reason=f"{shown}; {left}",
        z=directions.z,
        p=directions.p,
        effect=directions.effect,
    )


def _determined(one: Measured, ceiling: int) -> Determined:
    # All directions that the models have are no subspace among others: what follows them is zero for any models.
    most = max(min(ceiling - 1, one.bounds.size), 1)
    gaps = one.shares[:-1] - one.shares[1:]
    return Determined(np.arange(1, most + 1), gaps[:most], one.bounds[:most])


def _blocks_about(ask: Ask, center: str) -> Floats:
    """The row blocks of the energy about a fixed point."""
    assert ask.gram.blocks is not None
    return ask.gram.blocks.about(ask.gram.combinations(center, members=ask.rows))


def _doubt(ask: Ask, finding: Finding) -> str:
    """What else than shared directions makes variance concentrate here, in words."""
    if ask.blocks is not None:
        equal = share_band(ask.gram, kind="strength", draws=ask.draws, seed=ask.seed, members=ask.rows)
        beyond = equal.scalar(top_share(ask.kept), name="top share").p <= LEVEL
        return BEYOND_EQUAL_NOISE if finding.verdict is Verdict.CHANCE and beyond else ""
    if finding.verdict is Verdict.CHANCE:
        band = share_band(ask.gram, kind="gaussian", draws=ask.draws, seed=ask.seed, members=ask.rows)
        beyond_equal = band.scalar(top_share(ask.kept), name="top share").p <= LEVEL
        return caveats.unequal_norms(ask.inner) if beyond_equal else ""
    return caveats.profile(
        ask.gram,
        ask.rows,
        ask.inner,
        kept=ask.kept,
        chance=finding.middle,
        draws=min(ask.draws, MOST_DOUBTS),
        rng=ask.rng(9),
    )
