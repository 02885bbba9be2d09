"""Principal angles: planted ones come out, scipy agrees, and chance is what the formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from tests.planted import families, gram_of, noise, side_gram_of, spiked
from uws_core.analysis.angle_tables import chance_level, model_angles, side_table
from uws_core.analysis.angles import chance_band, pair_angles, random_degrees, shared_angles, side_angles
from uws_core.analysis.group_angles import group_angles, half_angles, relabelled
from uws_core.analysis.subspace import subspace
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.angles import Factors
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import LayerKey

PLANTED = np.array([0.0, 1e-3, 30.0, 90.0])


def planted_pair(*, d: int = 60, degrees: Floats = PLANTED, seed: int = 0) -> tuple[Floats, Floats]:
    """Orthonormal bases (d, k) of two subspaces with exactly these principal angles, each turned inside itself."""
    rng = np.random.default_rng(seed)
    k = len(degrees)
    frame = np.linalg.qr(rng.standard_normal((d, 2 * k)))[0]
    left, radians = frame[:, :k], np.radians(degrees)
    right = left * np.cos(radians) + frame[:, k:] * np.sin(radians)
    turn = [np.linalg.qr(rng.standard_normal((k, k)))[0] for _ in range(2)]
    return left @ turn[0], right @ turn[1]


def models_in(basis: Floats, *, n: int, seed: int) -> Floats:
    """`n` models (n, d) whose differences span exactly the columns of `basis`, somewhere away from zero."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, basis.shape[1])) @ basis.T + 5 * rng.standard_normal(len(basis))


def factors_of(stack: Floats, *, kept: int, labels: tuple[str, ...] | None = None) -> Factors:
    """The plain singular value decompositions of `stack` (n, m, p) about zero."""
    left, singular, right = np.linalg.svd(stack, full_matrices=False)
    return Factors(
        layer=LayerKey("blocks.0.attn.q.weight", stack.shape[1:]),
        labels=labels or tuple(f"model-{i}" for i in range(len(stack))),
        about="zero",
        left=left[:, :, :kept],
        right=right[:, :kept].swapaxes(1, 2),
        singular=singular,
        norm2=(stack**2).sum(axis=(1, 2)),
        residual=np.zeros(len(stack)),
    )


def test_planted_angles_come_out_on_the_models_axis():
    left, right = planted_pair()
    rows = np.concatenate([models_in(left, n=9, seed=1), models_in(right, n=8, seed=2)])
    found = shared_angles(gram_of(rows), range(9), range(9, 17), kept=4)
    assert found.radians[0] == 0
    np.testing.assert_allclose(found.degrees[1:], PLANTED[1:], rtol=1e-3)
    np.testing.assert_allclose(found.overlap, (1 + 1 + 0.75 + 0) / 4, atol=1e-9)
    assert found.floor < np.radians(PLANTED[1])


def test_planted_angles_come_out_between_models_own_directions():
    left, right = planted_pair(d=40)
    rng = np.random.default_rng(3)
    outputs = np.linalg.qr(rng.standard_normal((2, 50, 4)))[0] * [4, 3, 2, 1]
    stack = outputs @ np.stack([left.T, right.T])
    factors = factors_of(stack, kept=4)
    table = model_angles(factors, side="in", kept=4)
    pair = pair_angles(factors, 0, 1, side="in", kept=4)
    for radians in (table.radians[0, 1], table.radians[1, 0], pair.radians):
        np.testing.assert_allclose(np.degrees(radians[1:]), PLANTED[1:], rtol=2e-2)
        # Stored in float32, a direction is known to about 1e-7; 3e-5 degrees is five times that.
        assert np.degrees(radians[0]) < 3e-5
    np.testing.assert_allclose(np.degrees(pair.radians[2:]), PLANTED[2:], rtol=1e-6)
    np.testing.assert_array_equal(table.radians[[0, 1], [0, 1]], 0)


def test_shared_angles_agree_with_scipy_on_flattened_weights():
    rows = spiked(30, 200, strengths=(60, 40, 20, 10), seed=4)
    left, right = list(range(0, 30, 2)), list(range(1, 30, 2))
    bases = [PCA(5, svd_solver="full").fit(rows[side]).components_.T for side in (left, right)]
    found = shared_angles(gram_of(rows), left, right, kept=5)
    np.testing.assert_allclose(found.radians, subspace_angles(*bases)[::-1], atol=1e-10)
    np.testing.assert_allclose(np.abs(found.cosines), np.abs(bases[0].T @ bases[1]), atol=1e-10)


@pytest.mark.parametrize("about", ["zero", "base"])
def test_shared_angles_about_a_fixed_centre_agree_with_scipy(about: str):
    rows, base = noise(12, 80, seed=5), noise(1, 80, seed=6)[0]
    away = rows - (base if about == "base" else 0)
    bases = [np.linalg.svd(part, full_matrices=False)[2][:3].T for part in (away[:6], away[6:])]
    found = shared_angles(gram_of(rows, base=base), range(6), range(6, 12), kept=3, about=about)
    np.testing.assert_allclose(found.radians, subspace_angles(*bases)[::-1], atol=1e-9)


@pytest.mark.parametrize(("axis", "side"), [(Axis.IN, 2), (Axis.OUT, 1)])
def test_side_angles_agree_with_scipy_on_stacked_rows(axis: Axis, side: int):
    stack = noise(8, 15 * 12, seed=7).reshape(8, 15, 12)
    halves = stack[:4], stack[4:]
    bases = []
    for half in halves:
        vectors = np.moveaxis(half - half.mean(axis=0), side, -1).reshape(-1, stack.shape[side])
        bases.append(np.linalg.svd(vectors, full_matrices=False)[2][:4].T)
    found = side_angles(*(side_gram_of(half, axis=axis) for half in halves), kept=4)
    np.testing.assert_allclose(found.radians, subspace_angles(*bases)[::-1], atol=1e-9)
    assert found.chance == pytest.approx(4 / stack.shape[side])


def test_model_angles_agree_with_scipy_for_every_pair():
    stack = noise(7, 20 * 30, seed=8).reshape(7, 20, 30)
    table = model_angles(factors_of(stack, kept=6), side="out", kept=5)
    left = np.linalg.svd(stack, full_matrices=False)[0][:, :, :5]
    for i in range(7):
        for j in range(i):
            np.testing.assert_allclose(table.radians[i, j], subspace_angles(left[i], left[j])[::-1], atol=1e-5)
    assert table.mean_degrees[3, 1] == pytest.approx(np.degrees(table.radians[3, 1]).mean(), rel=1e-6)
    assert table.largest_degrees[3, 1] == pytest.approx(np.degrees(table.radians[3, 1, -1]), rel=1e-6)


def test_model_angles_are_the_same_when_pairs_come_in_many_blocks(monkeypatch: pytest.MonkeyPatch):
    factors = factors_of(noise(9, 60, seed=9).reshape(9, 6, 10), kept=3)
    whole = model_angles(factors, side="in", kept=3).radians
    monkeypatch.setattr("uws_core.analysis.angle_tables.BLOCK_BYTES", 2 * 8 * 30)
    np.testing.assert_allclose(model_angles(factors, side="in", kept=3).radians, whole, atol=1e-7)


def test_models_of_low_rank_or_zero_have_only_the_angles_they_have():
    stack = noise(4, 12 * 10, seed=10).reshape(4, 12, 10)
    stack[1] = stack[1, :, :2] @ stack[1, :2, :]
    stack[2] = 0
    table = model_angles(factors_of(stack, kept=5), side="in", kept=5)
    assert table.kept.tolist() == [5, 2, 0, 5]
    assert np.isfinite(table.radians[0, 1]).tolist() == [True, True, False, False, False]
    assert np.isnan(table.mean_degrees[2]).all()
    assert "2 of 4 models have fewer directions" in table.notes[0]
    right = np.linalg.svd(stack, full_matrices=False)[2]
    expected = subspace_angles(right[0, :5].T, right[1, :2].T)[::-1]
    np.testing.assert_allclose(table.radians[0, 1, :2], expected, atol=1e-5)


def test_group_angles_say_the_same_as_each_pair_alone():
    rows = families((6, 5, 7), 120, likeness=0.3, seed=11)
    groups = ["a"] * 6 + ["b"] * 5 + ["c"] * 7
    table = group_angles(gram_of(rows), groups, kept=3)
    assert table.labels == ("a", "b", "c")
    assert table.sizes.tolist() == [6, 5, 7]
    alone = shared_angles(gram_of(rows), range(6), range(11, 18), kept=3)
    np.testing.assert_allclose(table.radians[0, 2], alone.radians, atol=1e-6)
    np.testing.assert_allclose(table.overlap[0, 2], alone.overlap, atol=1e-6)


def test_a_group_of_one_model_has_no_direction_about_its_own_mean():
    table = group_angles(gram_of(noise(6, 40, seed=12)), ["a", "a", "a", "b", "b", "c"], kept=2)
    assert table.kept.tolist() == [2, 1, 0]
    assert np.isnan(table.overlap[2]).all()
    assert "2 of 3 groups have too few models" in table.notes[0]
    assert group_angles(gram_of(noise(6, 40, seed=12)), list("aaabbc"), kept=1, about="zero").kept.tolist() == [1, 1, 1]


def test_group_angles_need_labels_for_all_and_two_groups():
    gram = gram_of(noise(5, 30, seed=13))
    with pytest.raises(NotEnoughModels, match="each of 5 models was expected, 4 were given"):
        group_angles(gram, list("aabb"), kept=1)
    with pytest.raises(NotEnoughModels, match="At least two groups"):
        group_angles(gram, list("aabbb"), kept=1, members=[2, 3, 4])


def test_relabelling_finds_groups_with_their_own_directions_and_passes_noise():
    rng = np.random.default_rng(14)
    own = [np.linalg.qr(rng.standard_normal((100, 2)))[0] for _ in range(2)]
    rows = np.concatenate([models_in(basis, n=10, seed=i) for i, basis in enumerate(own)])
    rows = rows - rows.mean(axis=0) + 0.1 * noise(20, 100, seed=15)
    groups = ["a"] * 10 + ["b"] * 10
    apart = relabelled(gram_of(rows), groups, kept=2, draws=60, seed=1)
    assert apart.between.p < 0.05
    assert apart.z[0, 1] < -3
    calm, again = (relabelled(gram_of(noise(20, 100, seed=16)), groups, kept=2, draws=60, seed=1) for _ in range(2))
    assert calm.between.p > 0.05
    np.testing.assert_array_equal(calm.low, again.low)


def test_halves_share_a_planted_subspace_and_noise_only_chance():
    planted = half_angles(gram_of(spiked(40, 300, strengths=(800, 800), seed=17)), kept=2, repeats=5, seed=2)
    chance = half_angles(gram_of(noise(40, 300, seed=18)), kept=2, repeats=20, seed=2)
    assert min(angles.overlap for angles in planted) > 0.8
    assert np.mean([angles.overlap for angles in chance]) == pytest.approx(2 / 300, rel=1.0)
    assert {angles.overlap for angles in chance} != {chance[0].overlap}


def test_siblings_stay_in_one_half():
    rows = np.repeat(noise(6, 300, seed=19), 4, axis=0) + 0.01 * noise(24, 300, seed=20)
    groups = np.repeat(np.arange(6), 4).tolist()
    split = half_angles(gram_of(rows), kept=5, repeats=10, seed=3)
    whole = half_angles(gram_of(rows), kept=5, repeats=10, seed=3, groups=groups)
    assert np.mean([a.overlap for a in split]) > 0.6
    assert np.mean([a.overlap for a in whole]) < 0.2


def test_layers_of_another_width_have_no_angles():
    layers = [noise(5, 8 * width, seed=width).reshape(5, 8, width) for width in (12, 10, 12)]
    grams = [side_gram_of(layer, axis=Axis.IN, name=f"blocks.{i}.up.weight") for i, layer in enumerate(layers)]
    table = side_table(grams, kept=3)
    assert table.labels == ("0.up", "1.up", "2.up")
    np.testing.assert_allclose(table.radians[0, 2], side_angles(grams[0], grams[2], kept=3).radians, atol=1e-6)
    assert np.isnan(table.radians[0, 1]).all()
    assert table.notes == ("layers of different width have no angles between them",)
    with pytest.raises(LayerError, match="equally wide"):
        side_angles(grams[0], grams[1], kept=3)
    with pytest.raises(LayerError, match="of one side are compared"):
        side_table([gram_of(noise(4, 10, seed=0))], kept=2)


def test_overlapping_subsets_are_noted():
    found = shared_angles(gram_of(noise(6, 40, seed=21)), [0, 1, 2, 3], [2, 3, 4, 5], kept=2)
    assert found.notes == ("2 models are in both subsets, and what they share says nothing about the others",)
    mask = np.arange(6) < 3
    same = shared_angles(gram_of(noise(6, 40, seed=21)), mask, mask, kept=2)
    np.testing.assert_array_equal(same.radians, 0)


def test_more_directions_than_there_are_is_clipped_and_said():
    space = subspace(gram_of(noise(5, 40, seed=22)), kept=9)
    assert (space.k, space.ceiling) == (4, 4)
    assert space.notes == ("9 directions were asked for, 5 models give 4",)
    np.testing.assert_allclose(space.coefficients.sum(axis=0), 0, atol=1e-12)


def test_directions_in_dual_form_are_principal_components():
    rows = noise(10, 50, seed=23)
    space = subspace(gram_of(rows), kept=4, members=[0, 2, 4, 5, 6, 9])
    directions = space.coefficients.T @ rows
    expected = PCA(4, svd_solver="full").fit(rows[[0, 2, 4, 5, 6, 9]]).components_
    signs = np.sign((directions * expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(directions, expected * signs, atol=1e-10)
    largest = np.abs(space.coefficients).argmax(axis=0)
    assert (space.coefficients[largest, range(4)] > 0).all()


def test_a_cut_between_equal_variances_is_noted():
    rows = 2.0 * np.eye(4)
    assert "equal variance" in subspace(gram_of(rows), kept=2).notes[0]
    assert subspace(gram_of(rows), kept=3).notes == ()


def test_unusable_models_bring_nothing():
    rows = noise(7, 40, seed=24)
    rows[3, 5] = np.nan
    found = shared_angles(gram_of(rows), [0, 1, 2, 3], [4, 5, 6], kept=2)
    clean = shared_angles(gram_of(np.delete(rows, 3, axis=0)), [0, 1, 2], [3, 4, 5], kept=2)
    np.testing.assert_allclose(found.radians, clean.radians, atol=1e-10)


@pytest.mark.parametrize(("k", "other", "dimension"), [(3, 3, 40), (2, 5, 30), (4, 4, 6)])
def test_random_subspaces_overlap_by_k_over_d(k: int, other: int, dimension: int):
    drawn = random_degrees(k, other, dimension, draws=4000, seed=0)
    assert np.mean(np.cos(np.radians(drawn)) ** 2) == pytest.approx(other / dimension, rel=0.03)
    rng = np.random.default_rng(1)
    plain = [
        subspace_angles(rng.standard_normal((dimension, k)), rng.standard_normal((dimension, other)))[::-1]
        for _ in range(2000)
    ]
    np.testing.assert_allclose(drawn.mean(axis=0), np.degrees(plain).mean(axis=0), atol=1.2)


def test_the_band_places_angles_among_random_ones():
    gram = gram_of(noise(20, 400, seed=25))
    calm = chance_band(shared_angles(gram, range(10), range(10, 20), kept=3), draws=300, seed=5)
    assert (calm.p > 0.01).all()
    near = chance_band(shared_angles(gram, range(10), range(12), kept=3), draws=300, seed=5)
    assert near.p[0] == pytest.approx(1 / 301)
    assert near.z[0] > 3


def test_the_chance_level_of_a_table_is_that_of_random_bases():
    rng = np.random.default_rng(26)
    bases = np.linalg.qr(rng.standard_normal((40, 12, 3)))[0]
    right = np.linalg.qr(rng.standard_normal((40, 30, 3)))[0]
    table = model_angles(factors_of(bases * [3, 2, 1] @ right.swapaxes(1, 2), kept=3), side="in", kept=3)
    pairs = ~np.eye(40, dtype=bool)
    level = chance_level(table)
    assert level.overlap == pytest.approx(3 / 30)
    for name in ("overlap", "mean_degrees", "largest_degrees"):
        assert getattr(table, name)[pairs].mean() == pytest.approx(getattr(level, name), rel=0.04)
    inside = (table.overlap[pairs] > level.low) & (table.overlap[pairs] < level.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.03)


def test_the_chance_level_is_that_of_pairs_that_can_be_compared():
    widths = (40, 12, 12, 12)
    grams = [
        side_gram_of(noise(5, 8 * width, seed=i).reshape(5, 8, width), axis=Axis.IN) for i, width in enumerate(widths)
    ]
    assert chance_level(side_table(grams, kept=3)).overlap == pytest.approx(3 / 12)
    assert np.isnan(chance_level(side_table(grams[:2], kept=3)).overlap)
