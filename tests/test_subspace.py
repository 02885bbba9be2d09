"""Subspaces in dual form, and the small print of angles: unequal sizes, floors, usual pairs, two-sided p."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planted import gram_of, noise, side_gram_of
from tests.test_angles import factors_of
from uws_core.analysis.angle_tables import chance_level, model_angles, side_table
from uws_core.analysis.angles import angle_floor, pair_angles, shared_angles
from uws_core.analysis.group_angles import group_angles, random_halves, relabelled
from uws_core.analysis.subspace import subspace
from uws_core.errors import NotEnoughModels
from uws_core.nouns.gram import Axis


@pytest.mark.parametrize(("axis", "most"), [(Axis.IN, 2 * 3), (Axis.OUT, 3)])
def test_a_side_has_as_many_directions_as_free_rows_or_its_width(axis: Axis, most: int):
    gram = side_gram_of(noise(3, 3 * 20, seed=0).reshape(3, 3, 20), axis=axis)
    space = subspace(gram, kept=20)
    assert (space.ceiling, space.k, space.dimension) == (most, most, 20 if axis is Axis.IN else 3)
    with pytest.raises(NotEnoughModels, match="already summed over its 3 models"):
        subspace(gram, kept=2, members=[0])


def test_chance_is_that_of_the_larger_subspace_wherever_it_is_told():
    rows = noise(10, 80, seed=1)
    pair = shared_angles(gram_of(rows), [0, 1, 2], range(3, 10), kept=5)
    assert (pair.k, pair.chance) == (2, pytest.approx(5 / 80))
    table = group_angles(gram_of(rows), ["a"] * 3 + ["b"] * 7, kept=5)
    assert table.chance[0, 1] == pytest.approx(5 / 80)
    stack = noise(2, 200, seed=2).reshape(2, 10, 20)
    stack[0] = stack[0, :, :2] @ stack[0, :2, :]
    factors = factors_of(stack, kept=6)
    assert pair_angles(factors, 0, 1, side="in", kept=6).chance == pytest.approx(6 / 20)
    assert model_angles(factors, side="in", kept=6).chance[0, 1] == pytest.approx(6 / 20)


def test_the_floor_of_an_angle_is_that_of_the_weakest_direction():
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((60, 2)))[0]
    rows = (rng.standard_normal((9, 2)) * [1.0, 1e-4]) @ basis.T
    one, two = (angle_floor(subspace(gram_of(rows), kept=k)) for k in (1, 2))
    assert two > 1e3 * one
    assert angle_floor(subspace(gram_of(np.ones((3, 5))), kept=1)) == 1e-8


def test_the_usual_pair_is_neither_the_first_nor_the_most_crowded():
    widths = (5, 5, 40, 40, 40, 40)
    grams = [side_gram_of(noise(5, 8 * w, seed=i).reshape(5, 8, w), axis=Axis.IN) for i, w in enumerate(widths)]
    assert chance_level(side_table(grams, kept=3)).overlap == pytest.approx(3 / 40)


def test_a_cell_is_tested_on_both_sides():
    groups = ["a"] * 8 + ["b"] * 8
    band = relabelled(gram_of(noise(16, 60, seed=4)), groups, kept=2, draws=49)
    table = group_angles(gram_of(noise(16, 60, seed=4)), groups, kept=2)
    hits = round(band.p[0, 1] * 50 / 2) - 1
    assert 0 <= hits <= 25
    # One of 50 is the observed one itself: the most extreme of all has p = 2 / 50.
    assert band.p.min() >= 2 / 50
    assert band.between.value == pytest.approx(table.overlap[0, 1], abs=1e-6)
    assert band.p_between == pytest.approx(min(2 * min(band.between.p, 1 - band.between.p + 1 / 50), 1), abs=1e-9)


def test_halves_keep_groups_whole_and_are_as_even_as_that_allows():
    labels = list("aaaabbbbccccddddee")
    for left, right in random_halves(labels, repeats=20, seed=5):
        assert sorted([*left, *right]) == list(range(18))
        assert not {labels[i] for i in left} & {labels[i] for i in right}
        assert abs(left.size - right.size) <= 2
    with pytest.raises(NotEnoughModels, match="at least 4 usable models in at least 2 groups; 3 in 3 are chosen"):
        random_halves(range(3), repeats=1)
    with pytest.raises(NotEnoughModels, match="6 in 1 are chosen"):
        random_halves("aaaaaa", repeats=1)
