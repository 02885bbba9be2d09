"""The order in which like stands beside like, and the tree behind it."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from uws_core.nouns.angles import Order
from uws_core.nouns.arrays import Floats

# The optimal order of leaves costs n^2 log n to n^3: 0.1 s at 200, 3 s at 1000.
MOST_OPTIMAL = 256


def by_likeness(distances: Floats) -> Order:
    """The order (g,) and tree of average linkage on `distances` (g, g), e.g. mean angles; like things stand together.

    Things without a distance to some other (NaN) stand last, in their own order. Up to 256 the leaves are turned so
    that neighbours are as near as the tree allows. Source: Bar-Joseph, Gifford, Jaakkola 2001.
    """
    # The rows that take part: the one with most unknown distances is taken away until none is unknown.
    missing = np.isnan(distances)
    np.fill_diagonal(missing, False)
    there = np.ones(len(distances), dtype=np.bool_)
    while missing[np.ix_(there, there)].any():
        counts = (missing & there[:, None] & there[None, :]).sum(axis=1)
        there[int(counts.argmax())] = False
    known = np.flatnonzero(there)
    rest = np.setdiff1d(np.arange(len(distances)), known)
    if known.size < 2:
        return Order(np.concatenate([known, rest]), np.empty((0, 4)), np.empty((0, 4)))
    part = distances[np.ix_(known, known)]
    apart = squareform((part + part.T) / 2 - np.diag(np.diag(part)), checks=False)
    tree = linkage(apart, method="average")
    if known.size <= MOST_OPTIMAL:
        tree = optimal_leaf_ordering(tree, apart)
    leaves = np.asarray(leaves_list(tree), dtype=np.intp)
    # Four points a merge (g - 1, 4): up from one child, across, and down to the other.
    g = len(tree) + 1
    place, height = np.zeros(2 * g - 1), np.zeros(2 * g - 1)
    place[leaves] = np.arange(g)
    along, heights = np.zeros((g - 1, 4)), np.zeros((g - 1, 4))
    for step, (left, right, level, _) in enumerate(tree):
        first, second = sorted((int(left), int(right)), key=lambda child: place[child])
        along[step] = place[first], place[first], place[second], place[second]
        heights[step] = height[first], level, level, height[second]
        place[g + step], height[g + step] = (place[first] + place[second]) / 2, level
    return Order(np.concatenate([known[leaves], rest]), along, heights)
