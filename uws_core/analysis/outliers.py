"""Models that look odd, each with the reason in words: from the moments of entries, norms and cosines alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from uws_core.analysis.partitions import CLEAR, Indices, components
from uws_core.analysis.reinit_detection import agree_too_well, fresh_shape, initialiser, together
from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import COLLECTION, LAYERS, Duplicate, Outlier

# Robust deviations from the median beyond which a norm is odd: 1 in 3 million of a normal distribution.
FAR = 5.0
# A smaller factor between norms is not worth a look, however alike the other models are.
LEAST = float(np.log(1.5))
# A copy is 20 times nearer than the nearest model usually is, or differs in the fifth digit only. A near copy is five
# times nearer and apart by a quarter of its norm at most, as two snapshots of one run at cosine 0.98 are among
# independent models (0.14 and 0.2); weak models among strong ones are near to each other by their norms alone.
COPY, NEAR, NEAR_NORM = 0.05, 0.2, 0.25
SAME = 1e-5
# Fewer relatives are no family to be missing from, and fewer norms have no usual one.
FAMILY, MANY = 3, 5
# What nine layers in ten show is the whole collection's; each test misses a few.
MOST_LAYERS = 0.9


def outliers(gram: Gram, *, chance: float) -> tuple[Outlier, ...]:
    """Everything odd about single models of a Gram and about all of them; `chance` is the largest cosine of noise.

    Likeness is that of raw weights. The tests on entries need a single layer: a network's layers differ in spread, so
    that their mixture has no shape. For several layers see `over_layers`.
    """
    found = [*_broken(gram)]
    if gram.chosen().size >= 3:
        cosines = gram.cosines("zero")
        found += _unlike(gram, cosines, chance=chance)
        named = {one.model for one in found}
        found += (one for one in _strengths(gram, cosines, chance=chance) if one.model not in named)
        found += together(gram, cosines, related=_relatives(cosines, chance) is not None)
    return tuple(found)


def over_layers(whole: Sequence[Outlier], layers: Sequence[tuple[str, Sequence[Outlier]]]) -> tuple[Outlier, ...]:
    """What is odd about several layers taken as one (`whole`), and what is odd in some of them, each said once.

    `layers` are names with what is odd there. Strengths are those of the whole: among many layers one always scatters.
    """
    found = list(whole)
    said = {(one.model, one.kind) for one in whole}
    places: dict[tuple[str, str], list[tuple[str, Outlier]]] = {}
    for name, odd in layers:
        for one in odd:
            key = (COLLECTION if one.together else one.model, one.kind)
            if one.kind != "strength" and key not in said:
                places.setdefault(key, []).append((name, one))
    # Why a model has no relative is told by its layers where they can.
    told = {model for model, kind in places if kind != "no relative"}
    found = [one for one in found if one.kind != "no relative" or one.model not in told]
    for (model, kind), seen in places.items():
        if kind == "no relative" and model in told:
            continue
        name, first = seen[0]
        reason = f"in {len(seen)} of {len(layers)} layers, as in {name}: {first.reason}"
        if first.together and len(seen) < MOST_LAYERS * len(layers):
            model = f"{len(seen)} of {len(layers)}{LAYERS}"
        found.append(Outlier(model, kind, reason, first.value, first.usual))
    return tuple(found)


def duplicates(gram_labels: tuple[str, ...], inner: Floats, cosines: Floats, *, blur: Floats) -> tuple[Duplicate, ...]:
    """Pairs that are far nearer than usual pairs, nearest first; `inner` (s, s) is about any centre.

    A pair counts when its distance is at most `COPY` times the usual distance to the nearest model, or next to nothing;
    or `NEAR` times, where it is `NEAR_NORM` of their norms at most too.
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
    # so the nearest models count, and three quarters of them may be copies before a copy looks usual (two of three).
    nearest = (distances + np.diag(np.full(len(inner), np.inf))).min(axis=1)
    usual = float(np.quantile(nearest, 0.75, method="higher")) if len(inner) > 2 else 0.0
    limits = (np.full(mean.shape, COPY * usual), np.minimum(NEAR * usual, NEAR_NORM * mean))
    near = np.flatnonzero(apart <= np.maximum.reduce([*limits, blur[left] + blur[right], SAME * mean]))
    return tuple(
        Duplicate(
            left=gram_labels[left[i]],
            right=gram_labels[right[i]],
            cosine=float(cosines[left[i], right[i]]),
            distance=float(apart[i] / mean[i]),
        )
        for i in near[np.argsort(apart[near], kind="stable")]
    )


def _broken(gram: Gram) -> Iterator[Outlier]:
    stats = gram.entry_stats
    for row, label in enumerate(gram.labels):
        if not gram.usable[row]:
            count = float(stats.non_finite[row])
            reason = (
                f"{count:.0f} of {stats.count} entries are NaN or infinite" if count > 0 else "it could not be used"
            )
            yield Outlier(label, "non-finite", reason, count, 0.0)
        elif stats.std[row] <= 1e-12 * max(float(stats.largest[row]), np.finfo(np.float64).tiny):
            value = float(stats.mean[row])
            yield Outlier(label, "constant", f"all {stats.count} entries are {value:.3g}", value, float("nan"))


def _relatives(cosines: Floats, chance: float) -> tuple[Floats, Bools, float] | None:
    """Each model's nearest cosine, who has a relative, and the relatives' usual cosine; None without a family."""
    # Each model's largest cosine with another; -1 for one without a direction.
    others = np.nan_to_num(cosines, nan=-1.0) - 3 * np.eye(len(cosines))
    near: Floats = others.max(axis=1)
    related = near > max(chance, 0.0)
    typical = float(np.nanmedian(near[related])) if related.any() else float("nan")
    return (near, related, typical) if related.sum() >= FAMILY and typical >= CLEAR * chance else None


def _unlike(gram: Gram, cosines: Floats, *, chance: float) -> Iterator[Outlier]:
    """Models without a relative while others have one: fresh, in another order, or, among a minority, just alone."""
    relatives, rows = _relatives(cosines, chance), gram.chosen()
    if relatives is None:
        return
    near, related, typical = relatives
    strange = near <= np.maximum(2 * chance, 0.1 * typical)
    fresh, most = _untrained(gram, rows, related, strange), related.sum() * 2 > rows.size
    others = rows[strange & ~np.isin(rows, list(fresh))]
    moved = _moved(gram, others, rows[related & ~strange])
    for row, value in zip(rows[strange], near[strange], strict=True):
        label, at = gram.labels[row], float(value)
        words = f"its nearest model has cosine {at:.2f}; the relatives' have {typical:.2f}, chance gives {chance:.2f}"
        if int(row) in fresh:
            kurtosis = float(gram.entry_stats.kurtosis[row])
            drawn = f"its entries are {fresh[int(row)]} random numbers (excess kurtosis {kurtosis:.2f}), and "
            yield Outlier(label, "never trained", drawn + words, at, typical)
        elif moved:
            drawn = "its norm is that of the relatives, nearer than independent entries have it, yet "
            yield Outlier(label, "reordered", drawn + words, at, typical)
        elif most:
            yield Outlier(label, "no relative", words, at, typical)


def _untrained(gram: Gram, rows: Indices, related: Bools, strange: Bools) -> dict[int, str]:
    """Which strangers' entries look fresh while the relatives' do not, and how they were drawn.

    Strangers that are no minority may be what the others are not, so they need the spread of an initialiser too.
    """
    shapes = fresh_shape(gram)
    family = rows[related & ~strange]
    if sum(int(row) in shapes for row in family) * 2 > family.size:
        return {}
    found = {int(row): shapes[int(row)] for row in rows[strange] if int(row) in shapes}
    kinds = [*found.values()]
    if related.sum() * 2 > rows.size or not found:
        return found
    return found if initialiser(gram, np.array([*found]), max(kinds, key=kinds.count)) else {}


def _moved(gram: Gram, strangers: Indices, family: Indices) -> bool:
    """Whether models that look like nobody have the norm of a family, as copies with reordered neurons have."""
    norms = gram.entry_stats.norm
    if len(gram.layers) > 1 or strangers.size < MANY or not family.size or np.isnan(gram.entry_stats.kurtosis).any():
        return False
    middle = float(np.median(norms[family]))
    return middle > 0 and agree_too_well(gram, strangers, middle)


def _strengths(gram: Gram, cosines: Floats, *, chance: float) -> Iterator[Outlier]:
    """Distances from the mean far outside the others', family by family: a small family is far from all others' mean.

    Models of small families are taken together.
    """
    rows = gram.chosen()
    groups = components(cosines, min(CLEAR * chance, 1.0))
    sizes = np.bincount(groups)
    for group in np.unique(np.where(sizes[groups] < MANY, -1, groups)):
        inside = rows[np.where(sizes[groups] < MANY, -1, groups) == group]
        yield from _strong(gram, inside)


def _strong(gram: Gram, rows: Indices) -> Iterator[Outlier]:
    squares = np.diag(gram.about("mean", members=rows))
    alive = squares > gram.floor
    if alive.sum() < MANY:
        return
    logs = np.log(squares[alive]) / 2
    middle = float(np.median(logs))
    # 1.4826 makes the median deviation that of a normal distribution.
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    for row, log in zip(rows[alive], logs, strict=True):
        if abs(log - middle) > max(FAR * spread, LEAST):
            times = float(np.exp(abs(log - middle)))
            reason = f"it lies {times:.3g} times {'farther from' if log > middle else 'nearer to'} the mean than usual"
            yield Outlier(gram.labels[row], "strength", reason, float(np.exp(log)), float(np.exp(middle)))
