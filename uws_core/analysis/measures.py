"""The numbers of the evidence table as functions of inner products alone: the same for models and for drawn noise.

`inner` is (s, s) about any centre: whatever is measured is about the mean of the models or of a part of them. It may be
a stack (..., s, s), of which each matrix is measured for itself: a number is then an array of the shape in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uws_core.analysis.noise import Indices, centred
from uws_core.analysis.partitions import dealt
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import effective_rank

# Cuts and folds for each draw: with many models one cut varies little, and costs much.
HALVES, HALVES_OF_MANY = 4, 2
FOLDS, FOLDS_OF_MANY = 5, 2
MANY = 200

Halves = tuple[tuple[Indices, Indices], ...]


@dataclass(frozen=True)
class Cuts:
    """Cuts of the models into two: `plain` at random, `whole` with each group in one half (the same without groups).

    `folds` (s,) numbers the fold in which each model is held out, `group_folds` folds of whole groups, None without;
    `kin_folds` those of the lineage's groups, where a column makes the others.
    """

    plain: Halves
    whole: Halves
    folds: Indices
    group_folds: Indices | None = None
    kin_folds: Indices | None = None


@dataclass(frozen=True)
class Measured:
    """What one matrix of inner products shows; see `measure`."""

    shares: Floats
    unit_shares: Floats
    overlap: float
    growth: float
    bounds: Floats
    captured: float
    captured_groups: float
    captured_kin: float


def measure(inner: Floats, cuts: Cuts, *, kept: int) -> Measured:
    """What one matrix (s, s) shows; see `measure_each`."""
    return measure_each(inner[None], cuts, kept=kept)[0]


def measure_each(inner: Floats, cuts: Cuts, *, kept: int) -> list[Measured]:
    """The shares of the components, plain and with unit norms, the overlap of halves, growth, and Davis-Kahan bounds.

    One for each matrix of a stack (b, s, s). Price of one: two eigen-decompositions of all models, for each cut one of
    all and two of half of them (four where groups are kept whole), and one for each fold.
    """
    about = about_mean(inner)
    values, vectors = descending(about)
    shares = _shares(values)
    parts = [(leading_half(inner, left), leading_half(inner, right)) for left, right in cuts.plain]
    whole = parts
    if cuts.whole is not cuts.plain:
        whole = [(leading_half(inner, left), leading_half(inner, right)) for left, right in cuts.whole]
    nothing = np.full(values.shape[:-1], np.nan)
    overlaps = [half_overlap(inner, *pair, kept=kept) for pair in whole]
    ranks = [effective_rank(_shares(half.values)) for pair in parts for half in pair]
    own = effective_rank(shares)
    usual = np.mean(ranks, axis=0) if ranks else nothing
    growth = np.log2(np.where((own > 0) & (usual > 0), own / np.where(usual > 0, usual, 1.0), np.nan))
    overlap = np.mean(overlaps, axis=0) if overlaps else nothing
    bounds, unit_shares = davis_kahan(values, vectors, cuts.plain), _unit_shares(about)
    captured = [held_out_share(inner, folds, kept=kept) for folds in (cuts.folds, cuts.group_folds, cuts.kin_folds)]
    return [
        Measured(
            shares[i], unit_shares[i], float(overlap[i]), float(growth[i]), bounds[i], *(float(x[i]) for x in captured)
        )
        for i in range(len(inner))
    ]


def cut(
    s: int, *, rng: np.random.Generator, groups: Indices | None = None, lineage_groups: Indices | None = None
) -> Cuts:
    """Cuts of `s` models into random halves and folds, and as many that keep groups whole, where they are known.

    `lineage_groups` (s,) are the lineage's beside a column's: halves keep them whole too, or them alone where both
    leave no halves. Groups that leave no half with at least a third of the models are ignored.
    """
    repeats, folds = (HALVES, FOLDS) if s <= MANY else (HALVES_OF_MANY, FOLDS_OF_MANY)
    plain = _halves(np.arange(s), repeats, rng)
    both = joined(groups, lineage_groups) if groups is not None and lineage_groups is not None else None
    even = [
        one for one in (both, lineage_groups, groups) if one is not None and int(np.bincount(one).max()) <= 2 * s / 3
    ]
    return Cuts(
        plain=plain,
        whole=_halves(even[0], repeats, rng) if even else plain,
        folds=_folds(np.arange(s), folds, rng),
        group_folds=None if groups is None else _folds(groups, folds, rng),
        kin_folds=None if lineage_groups is None else _folds(lineage_groups, folds, rng),
    )


def held_out_share(inner: Floats, folds: Indices | None, *, kept: int) -> Floats:
    """The share of the differences among held-out models that the others' leading directions capture, over all folds.

    The models of a fold lie about their own mean, so that nothing of the others' mean enters: a mean of models of
    unequal strength leans towards their leading directions, and chance would capture more than k / d of the way to it.
    """
    inside, total = np.zeros(inner.shape[:-2]), np.zeros(inner.shape[:-2])
    for fold in range(0 if folds is None or folds.max(initial=0) < 1 else int(folds.max()) + 1):
        rest, out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        across = _part(inner, rest, out)
        leading = directions(leading_half(inner, rest), kept)
        # The directions' coefficients sum to 0, so only the mean of those held out has to be taken away.
        cosines = np.swapaxes(leading, -1, -2) @ (across - across.mean(axis=-1, keepdims=True))
        inside += np.sum(cosines**2, axis=(-1, -2))
        total += np.trace(about_mean(_part(inner, out, out)), axis1=-2, axis2=-1)
    return np.asarray(np.divide(inside, total, out=np.full(total.shape, np.nan), where=total > 0))


def mean_only_share(energy: Floats, folds: Indices) -> float:
    """The share of the held-out models' energy that the mean of the others takes away; `energy` is about any fixed
    point. Below 0 where the others' mean leads away from them.
    """
    if folds.max(initial=0) < 1:
        return float("nan")
    left = 0.0
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        across = energy[np.ix_(~out, out)].mean(axis=0)
        left += float(np.sum(np.diag(energy)[out] - 2 * across + energy[np.ix_(~out, ~out)].mean()))
    total = float(np.trace(energy))
    return 1 - left / total if total > 0 else float("nan")


@dataclass(frozen=True)
class Half:
    """A part of the models with its principal directions in dual form: `values` (h,) descending, `vectors` (h, h)."""

    rows: Indices
    values: Floats
    vectors: Floats


def leading_half(inner: Floats, rows: Indices) -> Half:
    """The principal directions of some of the models about their own mean."""
    values, vectors = descending(about_mean(_part(inner, rows, rows)))
    return Half(rows, values, vectors)


def half_overlap(inner: Floats, left: Half, right: Half, *, kept: int) -> Floats:
    """The mean squared cosine of the principal angles between the `kept` leading directions of two parts."""
    first, second = (directions(half, kept) for half in (left, right))
    across = _part(inner, left.rows, right.rows)
    across = across - across.mean(axis=-2, keepdims=True) - across.mean(axis=-1, keepdims=True)
    # What is the same for all models of a part does not count, because the coefficients sum to 0.
    cosines = np.swapaxes(first, -1, -2) @ across @ second
    fewer = np.minimum(*(np.count_nonzero(one.any(axis=-2), axis=-1) for one in (first, second)))
    found = np.sum(cosines**2, axis=(-1, -2))
    return np.asarray(np.divide(found, fewer, out=np.full(found.shape, np.nan), where=fewer > 0))


def davis_kahan(values: Floats, vectors: Floats, halves: Halves) -> Floats:
    """The bound (s - 1,) on the root mean squared sine of the k leading angles to the true subspace, k = 1, 2, ...

    `2 min(sqrt(k) |E|, |E|_F) / (sqrt(k) (l_k - l_k+1))`, with `l` the eigenvalues of the covariance of all models and
    E its error: half the difference of the covariances of two halves, which scatters as the error of the whole does.
    Norms are means over the halves. A missing gap has the bound infinity.

    Source: Yu, Wang and Samworth 2015, theorem 2.
    """
    s, stack = values.shape[-1], values.shape[:-1]
    if s < 2 or not halves:
        return np.full((*stack, max(s - 1, 0)), np.inf)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    largest, total = np.zeros(stack), np.zeros(stack)
    for left, right in halves:
        sign = np.zeros(s)
        sign[left], sign[right] = 1 / left.size, -1 / right.size
        # W^T diag(sign) W has the eigenvalues of this small matrix, without W.
        spread = np.linalg.eigvalsh(np.swapaxes(root, -1, -2) @ (sign[:, None] * root)) / 2
        largest += np.abs(spread).max(axis=-1) / len(halves)
        total += np.sqrt(np.sum(spread**2, axis=-1)) / len(halves)
    k = np.arange(1, s)
    error = np.minimum(np.sqrt(k) * largest[..., None], total[..., None])
    gaps = np.maximum(values[..., :-1] - values[..., 1:], 0.0) / s
    there = gaps > 1e-12 * values[..., :1] / s
    return np.asarray(np.divide(2 * error, np.sqrt(k) * gaps, out=np.full((*stack, s - 1), np.inf), where=there))


def descending(inner: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (s,), not below 0, and their vectors, the largest first."""
    values, vectors = np.linalg.eigh(inner)
    return np.maximum(values[..., ::-1], 0.0), vectors[..., ::-1]


def about_mean(inner: Floats) -> Floats:
    """Inner products about the mean of exactly these models."""
    s = inner.shape[-1]
    return np.asarray(centred(inner.reshape(-1, s, s), np.zeros(s, dtype=np.intp)).reshape(inner.shape))


def top(shares: Floats, kept: int) -> float:
    """The share of the first `kept` components."""
    return float(shares[:kept].sum())


def directions(half: Half, kept: int) -> Floats:
    """Combinations (h, k) of a part's centred models that are orthonormal directions; 0 where there are no more."""
    k = min(kept, half.rows.size - 1)
    values = half.values[..., None, :k]
    there = values > 1e-12 * half.values.max(axis=-1, initial=0.0)[..., None, None]
    return np.asarray(half.vectors[..., :k] / np.sqrt(np.where(there, values, np.inf)))


def _part(inner: Floats, rows: Indices, columns: Indices) -> Floats:
    return np.asarray(inner[..., rows[:, None], columns])


def _shares(values: Floats) -> Floats:
    """Each component's share of the variance; 0 where there is none."""
    total = values.sum(axis=-1, keepdims=True)
    return np.asarray(values / np.where(total > 0, total, 1.0))


def _unit_shares(about: Floats) -> Floats:
    """The shares where every model is scaled to norm 1, but for those that lie in the centre."""
    squares = np.diagonal(about, axis1=-2, axis2=-1)
    alive = squares > 1e-14 * squares.max(axis=-1, keepdims=True, initial=0.0)
    scale = np.divide(1.0, np.sqrt(np.maximum(squares, 0.0)), out=np.zeros(squares.shape), where=alive)
    values = np.linalg.eigvalsh(about * scale[..., :, None] * scale[..., None, :])
    return _shares(np.maximum(values[..., ::-1], 0.0))


def joined(first: Indices, second: Indices) -> Indices:
    """The finest groups (s,) that divide no group of either: chains of models that share one of both."""
    found = np.asarray(first, dtype=np.intp).copy()
    for group in range(int(second.max(initial=-1)) + 1):
        inside = np.unique(found[second == group])
        if inside.size:
            found[np.isin(found, inside)] = inside[0]
    return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.intp)


def _halves(labels: Indices, repeats: int, rng: np.random.Generator) -> Halves:
    blocks = [np.flatnonzero(labels == label) for label in range(int(labels.max(initial=-1)) + 1)]
    if len(blocks) < 2:
        return ()
    halves = (dealt(blocks, rng) for _ in range(repeats))
    return tuple((np.sort(left), np.sort(right)) for left, right in halves)


def _folds(labels: Indices, folds: int, rng: np.random.Generator) -> Indices:
    """A fold (s,) for each model, whole groups together and at least two in each: one fold where there are too few."""
    count = int(labels.max(initial=-1)) + 1
    return np.asarray((rng.permutation(count) % max(min(folds, count // 2), 1))[labels], dtype=np.intp)
