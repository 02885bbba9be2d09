"""Principal angles between the shared subspaces of groups of models, and of random halves of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from uws_core.analysis.angle_tables import chance_overlap, clipped, pair_radians
from uws_core.analysis.angles import angle_floor, shared_angles
from uws_core.analysis.partitions import dealt
from uws_core.analysis.subspace import inner_products, subspace
from uws_core.errors import NotEnoughModels
from uws_core.nouns.angles import Angles, AngleTable, TableBand
from uws_core.nouns.arrays import Floats
from uws_core.nouns.chance import scalar_of, z_scores
from uws_core.nouns.gram import Gram, Members
from uws_core.nouns.spectrum import Subspace

Indices = NDArray[np.intp]


def group_angles(
    gram: Gram, groups: Sequence[Hashable], *, kept: int, members: Members = None, about: str = "mean"
) -> AngleTable:
    """The angles between the shared subspaces of all groups; `groups` holds one label for each model of the Gram.

    Each group lies about its own mean by default, so that a group of one model has no direction, and that is noted.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups among the members.
    """
    chosen = gram.chosen(members)
    parts = grouped(gram, groups, chosen)
    spaces = [subspace(gram, kept=kept, members=part, about=about) for part in parts.values()]
    counts = np.array([space.k for space in spaces], dtype=np.intp)
    return AngleTable(
        what="groups",
        labels=tuple(str(label) for label in parts),
        radians=_radians_of_groups(spaces, inner_products(gram, about), kept),
        kept=counts,
        sizes=np.array([part.size for part in parts.values()]),
        chance=chance_overlap(counts, np.full(len(spaces), spaces[0].dimension)),
        dimension=spaces[0].dimension,
        asked=kept,
        floor=max(angle_floor(space) for space in spaces),
        notes=clipped(counts, kept, "groups have too few models for that many"),
    )


def relabelled(
    gram: Gram,
    groups: Sequence[Hashable],
    *,
    kept: int,
    members: Members = None,
    about: str = "mean",
    draws: int = 100,
    seed: int = 0,
) -> TableBand:
    """The overlaps of `group_angles` against the same groups with the models shuffled among them.

    A pair below its band uses more different directions than two random sets of these models do. Price: `draws` times
    the eigen-decompositions of all groups.

    Raises:
        NotEnoughModels: as for `group_angles`.
    """
    chosen = gram.chosen(members)
    parts = grouped(gram, groups, chosen)
    inner, cuts = inner_products(gram, about), np.cumsum([part.size for part in parts.values()])[:-1]

    def overlaps(order: Indices) -> Floats:
        # The mean squared cosine (g, g) of each pair of groups; no angle is worked out.
        spaces = [subspace(gram, kept=kept, members=part, about=about) for part in np.split(order, cuts)]
        cosines, counts = _cosines(spaces, inner)
        with np.errstate(invalid="ignore"):
            return np.asarray((cosines**2).sum(axis=(2, 3)) / counts, dtype=np.float64)

    observed = overlaps(np.concatenate(list(parts.values())))
    rng = np.random.default_rng(seed)
    drawn = np.stack([overlaps(rng.permutation(chosen)) for _ in range(draws)])
    return _table_band(observed, drawn, seed)


def half_angles(
    gram: Gram,
    *,
    kept: int,
    repeats: int = 20,
    seed: int = 0,
    members: Members = None,
    groups: Sequence[Hashable] | None = None,
    about: str = "mean",
) -> tuple[Angles, ...]:
    """The angles between the shared subspaces of random halves of the models, once for each repeat.

    With `groups` (one label a model) the models of a group stay in one half: siblings of one task or author in both
    halves would make the halves alike whatever the rest does.

    Raises:
        NotEnoughModels: fewer than four models, or with `groups` fewer than two groups.
    """
    chosen = gram.chosen(members)
    labels = chosen.tolist() if groups is None else _labels(gram, groups, chosen)
    return tuple(
        shared_angles(gram, chosen[left], chosen[right], kept=kept, about=about)
        for left, right in random_halves(labels, repeats=repeats, seed=seed)
    )


def random_halves(labels: Sequence[Hashable], *, repeats: int, seed: int = 0) -> tuple[tuple[Indices, Indices], ...]:
    """Places of models dealt into two sets, once for each repeat: as even as whole groups of equal labels allow.

    Raises:
        NotEnoughModels: fewer than four models, or fewer than two groups.
    """
    parts: dict[Hashable, list[int]] = {}
    for place, label in enumerate(labels):
        parts.setdefault(label, []).append(place)
    if len(labels) < 4 or len(parts) < 2:
        raise NotEnoughModels(
            f"Two halves need at least 4 usable models in at least 2 groups; {len(labels)} in {len(parts)} are chosen"
        )
    blocks, rng = [np.array(rows, dtype=np.intp) for rows in parts.values()], np.random.default_rng(seed)
    return tuple(dealt(blocks, rng) for _ in range(max(repeats, 1)))


def grouped(gram: Gram, groups: Sequence[Hashable], chosen: Indices) -> dict[Hashable, Indices]:
    """The chosen models of each group, in the order in which the labels first appear.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups.
    """
    parts: dict[Hashable, list[int]] = {}
    for row, label in zip(chosen.tolist(), _labels(gram, groups, chosen), strict=True):
        parts.setdefault(label, []).append(row)
    if len(parts) < 2:
        raise NotEnoughModels(f"At least two groups are needed to compare or to hold one out, {len(parts)} was found")
    return {label: np.array(rows, dtype=np.intp) for label, rows in parts.items()}


def _labels(gram: Gram, groups: Sequence[Hashable], chosen: Indices) -> list[Hashable]:
    """The chosen models' labels."""
    if len(groups) != gram.n:
        raise NotEnoughModels(f"One group label for each of {gram.n} models was expected, {len(groups)} were given")
    return [groups[row] for row in chosen.tolist()]


def _radians_of_groups(spaces: Sequence[Subspace], inner: Floats, kept: int) -> NDArray[np.float32]:
    """The angles (g, g, kept) of subspaces in dual form, all pairs from one product."""
    cosines, counts = _cosines(spaces, inner)
    g, k = cosines.shape[1:3]
    floors = np.maximum.outer([angle_floor(s) for s in spaces], [angle_floor(s) for s in spaces])
    found = np.full((g, g, max(kept, k)), np.nan, dtype=np.float32)
    found[:, :, :k] = pair_radians(cosines, counts, floor=floors[:, :, None])
    return found


def _cosines(spaces: Sequence[Subspace], inner: Floats) -> tuple[Floats, Indices]:
    """Inner products (g, g, k, k) of all directions, zero beyond a subspace's own, and the number of angles (g, g)."""
    own = np.array([space.k for space in spaces], dtype=np.intp)
    g, k = own.size, max(int(own.max()), 1)
    stacked = np.zeros((len(inner), g, k))
    for index, space in enumerate(spaces):
        stacked[:, index, : space.k] = space.coefficients
    flat = stacked.reshape(len(inner), g * k)
    return (flat.T @ inner @ flat).reshape(g, k, g, k).swapaxes(1, 2), np.minimum.outer(own, own)


def _table_band(observed: Floats, drawn: Floats, seed: int) -> TableBand:
    low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=0)
    draws = len(drawn)
    tails = np.minimum((drawn <= observed).sum(axis=0), (drawn >= observed).sum(axis=0))
    apart = ~np.eye(len(observed), dtype=np.bool_) & ~np.isnan(observed)
    return TableBand(
        low=low,
        middle=middle,
        high=high,
        z=z_scores(observed, drawn),
        p=np.minimum(2 * (1 + tails) / (1 + draws), 1.0),
        between=scalar_of(
            float(observed[apart].mean()), drawn[:, apart].mean(axis=1), name="mean overlap", seed=seed, fewer=True
        ),
        draws=draws,
        seed=seed,
    )
