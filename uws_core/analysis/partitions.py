"""Groups of alike things at a threshold, how they change with it, and how well two groupings agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from uws_core.nouns.arrays import Floats
from uws_core.nouns.lineage import Stability

Indices = NDArray[np.intp]

STEPS = 41
# So many times the largest cosine of noise is no accident of heavy tails or of a few effective weights.
CLEAR = 3.0


def components(cosines: Floats, threshold: float) -> Indices:
    """The group (s,) of each model, the largest group first: chains of cosines above `threshold` join a group.

    Equal sizes keep the order of their first models; a model without a direction (NaN) stands alone.
    """
    return _joined(np.nan_to_num(cosines, nan=-2.0) > threshold)


def by_size(groups: Indices) -> Indices:
    """The same grouping, numbered from 0 with the largest group first."""
    _, first, where, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(counts.size, dtype=np.intp)
    place[np.lexsort((first, -counts))] = np.arange(counts.size)
    return place[where]


def merge_cosines(cosines: Floats) -> Floats:
    """The s - 1 cosines (descending) at which two groups become one as the threshold falls: single linkage.

    Models without a direction never join; each stands for a cosine of -1.
    """
    return np.sort(_tree(cosines).data)[::-1]


def widest_gap(cosines: Floats, *, chance: float) -> float:
    """A threshold in the middle of the widest range of thresholds between `chance` and 1 that give the same groups.

    Every model alone is an answer only where no cosine stands clear of chance.
    """
    merges = np.clip(merge_cosines(cosines), chance, 1.0)
    levels = np.append(merges, chance)
    if merges.max(initial=chance) < min(CLEAR * chance, 1.0):
        levels = np.concatenate([[1.0], levels])
    gaps = levels[:-1] - levels[1:]
    widest = int(gaps.argmax())
    return float((levels[widest] + levels[widest + 1]) / 2)


def stability(cosines: Floats, threshold: float, groups: Indices) -> Stability:
    """The groups at `STEPS` thresholds from -1 or the lowest merge to 1, against those at the chosen one."""
    tree = _tree(cosines)
    merges = tree.data
    below, above = merges[merges <= threshold], merges[merges > threshold]
    lowest = max(-1.0, float(merges.min(initial=0.0)) - 0.05)
    thresholds = np.linspace(min(lowest, threshold), 1.0, STEPS)
    # The s - 1 edges of the tree join the same models as all s^2 cosines: 41 thresholds of 2,000 models took 6 s.
    found = [_joined(_above(tree, at)) for at in thresholds]
    return Stability(
        thresholds=thresholds,
        groups=np.array([one.max(initial=-1) + 1 for one in found]),
        largest=np.array([(one == 0).sum() for one in found]),
        agreement=np.array([adjusted_rand(one, groups) for one in found]),
        low=float(below.max(initial=-1.0)),
        high=float(above.min(initial=1.0)),
    )


def _joined(edges: NDArray[np.bool_] | coo_array) -> Indices:
    """The group (s,) of each model, the largest first, where `edges` (s, s) join."""
    _, found = connected_components(edges, directed=False)
    return by_size(np.asarray(found, dtype=np.intp))


def _above(tree: coo_array, threshold: float) -> coo_array:
    """The edges above a threshold; an entry that is stored as 0 would still join."""
    kept = tree.data > threshold
    rows, columns = tree.coords
    return coo_array((kept[kept], (rows[kept], columns[kept])), shape=tree.shape)


def _tree(cosines: Floats) -> coo_array:
    """The s - 1 cosines of the tree of largest cosines, where they stand; -1 for a model without a direction."""
    known = np.nan_to_num(cosines, nan=-1.0)
    # Distances are shifted to stay above 0, which a sparse tree takes for a missing edge.
    edges = minimum_spanning_tree(np.triu(2.0 - known, 1)).tocoo()
    return coo_array((known[edges.coords], edges.coords), shape=known.shape)


def adjusted_rand(left: Sequence[object] | Indices, right: Sequence[object] | Indices) -> float:
    """The agreement of two groupings of the same things: 1 if equal, 0 on average by chance.

    Two groupings that each put all in one, or each all apart, are equal. Source: Hubert and Arabie 1985.
    """
    counts = contingency(codes(left), codes(right))
    both, rows, columns = (pairs(part).sum() for part in (counts, counts.sum(axis=1), counts.sum(axis=0)))
    everything = pairs(counts.sum())
    if everything == 0:
        return 1.0
    expected, most = rows * columns / everything, (rows + columns) / 2
    return float((both - expected) / (most - expected)) if most != expected else 1.0


def codes(values: Sequence[object] | Indices) -> Indices:
    """Values of any kind as numbers from 0, in the order in which they first appear."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.intp)


def dealt(blocks: Sequence[Indices], rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Whole blocks dealt into two sets in random order, each to the smaller so far: halves as even as blocks allow."""
    sides: tuple[list[Indices], list[Indices]] = ([], [])
    for index in rng.permutation(len(blocks)):
        sizes = [sum(block.size for block in side) for side in sides]
        sides[int(sizes[1] < sizes[0])].append(blocks[index])
    return np.concatenate(sides[0]), np.concatenate(sides[1])


def contingency(left: Indices, right: Indices) -> Indices:
    """The counts of things in group i of one grouping and j of the other."""
    counts = np.zeros((left.max(initial=0) + 1, right.max(initial=0) + 1), dtype=np.intp)
    np.add.at(counts, (left, right), 1)
    return counts


def pairs(counts: Indices | np.integer) -> Floats:
    """The number of pairs in sets of these sizes."""
    sizes = np.asarray(counts, dtype=np.float64)
    return sizes * (sizes - 1) / 2
