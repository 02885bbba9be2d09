"""Like stands beside like, and the tree agrees with scipy's own drawing of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import pdist, squareform

from uws_core.analysis.order import by_likeness


def test_shuffled_families_stand_together():
    rng = np.random.default_rng(0)
    family = rng.permutation(np.repeat(range(4), 5))
    points = 10 * rng.standard_normal((4, 3))[family] + 0.1 * rng.standard_normal((20, 3))
    order = by_likeness(squareform(pdist(points)))
    assert sorted(order.leaves.tolist()) == list(range(20))
    assert (np.diff(family[order.leaves]) != 0).sum() == 3


@pytest.mark.parametrize("g", [2, 3, 12, 300])
def test_the_tree_is_the_one_scipy_draws(g: int):
    points = np.random.default_rng(g).standard_normal((g, 4))
    order = by_likeness(squareform(pdist(points)))
    drawn = dendrogram(linkage(pdist(points), method="average"), no_plot=True)
    ours = sorted(zip(order.heights[:, 1], order.heights[:, [0, 3]].tolist(), strict=True), key=lambda one: one[0])
    theirs = sorted(((y[1], [y[0], y[3]]) for y in drawn["dcoord"]), key=lambda one: one[0])
    for (level, ends), (expected, corners) in zip(ours, theirs, strict=True):
        assert level == pytest.approx(expected)
        assert sorted(ends) == pytest.approx(sorted(corners))
    assert (order.along[:, 0] < order.along[:, 3]).all()
    # Every leaf is reached by exactly one branch that starts at height 0.
    feet = np.concatenate([order.along[:, 0][order.heights[:, 0] == 0], order.along[:, 3][order.heights[:, 3] == 0]])
    np.testing.assert_array_equal(np.sort(feet), np.arange(g))


def test_what_has_no_distance_stands_last():
    distances = squareform(pdist(np.array([[0.0], [5.0], [0.1], [5.1], [2.0]])))
    distances[4, :4] = distances[:4, 4] = np.nan
    order = by_likeness(distances)
    assert order.leaves[-1] == 4
    assert {frozenset(order.leaves[:2].tolist()), frozenset(order.leaves[2:4].tolist())} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
    assert by_likeness(np.full((3, 3), np.nan)).leaves.tolist() in ([0, 1, 2], [2, 0, 1])
    assert by_likeness(np.zeros((1, 1))).leaves.tolist() == [0]
