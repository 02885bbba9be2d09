"""Which models are relatives: cosines, groups at a threshold, copies, and what looks odd; no weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import norm as normal

from uws_core.analysis.order import by_likeness
from uws_core.analysis.outliers import duplicates, outliers, over_layers
from uws_core.analysis.partitions import Indices, components, stability, widest_gap
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, EntryStats, Gram, Members
from uws_core.nouns.lineage import Lineage, Outlier


def lineage(
    gram: Gram,
    *,
    threshold: float | None = None,
    members: Members = None,
    about: str = "zero",
    layers: Sequence[Gram] = (),
) -> Lineage:
    """The groups of alike models among the chosen ones, at a cosine `threshold` about `about`.

    `zero` compares raw weights: siblings of one base are alike whatever they learned. `base` or `mean` compares what
    was learned. For adapters, the Gram of a layer's A factors tells who shares a random start. Without a threshold, the
    middle of the widest range of thresholds that give the same groups is taken. Where `gram` is a sum, `layers` are its
    summands: what entries look like is told layer by layer, so that without them nothing is said of it. Price:
    `s^2 log s`, and `s^2` a layer.

    Raises:
        NotEnoughModels: fewer than two usable models.
        LayerError: a side axis, or an unknown centre.
        ValueError: a threshold outside -1 to 1.

    Source: single linkage, Gower and Ross 1969.
    """
    if gram.axis is not Axis.MODELS:
        raise LayerError(f"{gram.layer.name}: lineage compares models; found a Gram on the {gram.axis} axis")
    if threshold is not None and not -1 <= threshold <= 1:
        raise ValueError(f"A threshold is a cosine from -1 to 1; found {threshold}")
    rows = gram.chosen(members)
    if rows.size < 2:
        raise NotEnoughModels(
            f"{gram.layer.name}: a lineage needs at least 2 usable models; found {rows.size} of {gram.n}. "
            "Choose more models"
        )
    return replace(_made(gram, rows, threshold, about), outliers=_odd(gram, rows, layers))


def chance_cosine(s: int, d: float) -> float:
    """The largest cosine among the pairs of `s` independent directions in `R^d` that 1 in 20 such collections exceeds.

    A cosine of random directions is normal with deviation `1 / sqrt(d)` for large d.
    """
    pairs = max(s * (s - 1) / 2, 1.0)
    return float(min(normal.isf(1 - 0.95 ** (1 / pairs)) / np.sqrt(d), 1.0))


def scattered_d(gram: Gram, rows: Indices, about: str) -> float:
    """Returns how many equal entries scatter cosines as entries of these models' profile do.

    Scales of rows or columns in common raise the variance of a chance cosine from `1 / d` to
    `sum_b G_b,ii G_b,jj / (d_b G_ii G_jj)`. Rows and columns count each for themselves. Agreement between models does
    not enter, so that relatives do not raise their own chance level. Without blocks, `effective_d`.
    """
    center = "mean" if gram.pivot(about) is not None else about
    if gram.blocks is None or rows.size < 2:
        return gram.effective_d
    share = 1.0
    apart = ~np.eye(rows.size, dtype=np.bool_)
    for columns in (False, True):
        blocks = gram.blocks.about(gram.combinations(center, members=rows), columns=columns)
        energy = np.maximum(np.einsum("bii->bi", blocks), 0.0)
        energy = energy / np.maximum(energy.sum(axis=0), 1e-300)
        # The variance against that of equal blocks.
        share /= max(float(len(blocks) * (energy.T @ energy)[apart].mean()), 1.0)
    return max(gram.effective_d * share, 1.0)


def part_of(gram: Gram, rows: Indices) -> Gram:
    """The Gram of only these models, about the same centre, entry statistics included."""
    stats, base = gram.entry_stats, gram.base
    names = ("power1", "power2", "power3", "power4", "largest", "non_finite")
    return replace(
        gram,
        labels=tuple(gram.labels[row] for row in rows),
        values=gram.values[np.ix_(rows, rows)],
        to_center=gram.to_center[rows],
        entry_stats=EntryStats(count=stats.count, **{name: getattr(stats, name)[rows] for name in names}),
        base=replace(base, to_models=base.to_models[rows]) if base is not None else None,
        usable=gram.usable[rows],
        blocks=None,
    )


def _made(gram: Gram, rows: Indices, threshold: float | None, about: str) -> Lineage:
    inner = gram.about(about, members=rows)
    cosines = gram.cosines(about, members=rows)
    labels = tuple(gram.labels[row] for row in rows)
    chance = chance_cosine(rows.size, scattered_d(gram, rows, about))
    at = widest_gap(cosines, chance=chance) if threshold is None else threshold
    groups = components(cosines, at)
    # `s^2 / sum(cos^2)` over models with a direction: s for independent ones, 1 for copies.
    alive = ~np.isnan(np.diag(cosines))
    part = cosines[np.ix_(alive, alive)]
    effective_models = float(alive.sum() ** 2 / np.sum(part**2)) if alive.any() else 0.0
    return Lineage(
        what=gram.layer.name,
        about=about,
        labels=labels,
        members=rows,
        cosines=cosines,
        threshold=at,
        groups=groups,
        representatives=_representatives(cosines, groups),
        norms=np.sqrt(np.maximum(np.diag(inner), 0.0)),
        chance=chance,
        order=by_likeness(1 - cosines),
        stability=stability(cosines, at, groups),
        effective_models=effective_models,
        duplicates=duplicates(labels, inner, cosines, blur=gram.blur[rows]),
    )


def _odd(gram: Gram, rows: Indices, layers: Sequence[Gram]) -> tuple[Outlier, ...]:
    """Everything odd about the chosen models and broken ones, in the Gram and in each of its layers."""
    whole = _odd_in(gram, rows)
    if len(layers) < 2:
        return whole
    return over_layers(whole, [(one.layer.short, _odd_in(one, rows)) for one in layers])


def _odd_in(gram: Gram, rows: Indices) -> tuple[Outlier, ...]:
    chance = chance_cosine(rows.size, gram.effective_d)
    broken = np.setdiff1d(np.flatnonzero(~gram.usable), rows)
    return outliers(part_of(gram, np.concatenate([rows, broken])), chance=chance)


def _representatives(cosines: Floats, groups: Indices) -> Indices:
    """The place of the model in each group that is most like the others of it."""
    known = np.nan_to_num(cosines, nan=-1.0)
    found = []
    for group in range(groups.max(initial=-1) + 1):
        places = np.flatnonzero(groups == group)
        found.append(int(places[known[np.ix_(places, places)].sum(axis=1).argmax()]))
    return np.array(found, dtype=np.intp)
