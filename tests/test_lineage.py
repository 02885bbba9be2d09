"""Lineage against planted families, built-in collections with a known artefact, and scikit-learn's agreement."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tests.planted import families, gram_of, noise, side_gram_of, spiked
from uws_core.analysis.attributes import explained, overlap, overlaps
from uws_core.analysis.lineage import chance_cosine, lineage
from uws_core.analysis.model_map import model_map, neighbours
from uws_core.analysis.partitions import adjusted_rand, components, merge_cosines, stability
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.lineage import LAYER, Lineage
from uws_core.zoo import synthetic
from uws_core.zoo.synthetic import SyntheticCollection

UP = "blocks.0.mlp.up.weight"


def of(made: SyntheticCollection, layer: str = UP) -> Gram:
    rows = made.layers[layer]
    base = None if made.base is None else made.base[layer]
    return gram_of(rows.reshape(len(rows), -1), shape=rows.shape[1:], name=layer, base=base)


def kinds(family: Lineage) -> set[str]:
    return {one.kind for one in family.outliers}


def test_planted_families_are_found_largest_first() -> None:
    order = np.random.default_rng(0).permutation(12)
    family = lineage(gram_of(families([2, 7, 3], 4000, likeness=0.8, seed=1)[order]))
    truth = np.repeat([2, 0, 1], [2, 7, 3])[order]
    np.testing.assert_array_equal(family.groups, truth)
    assert family.sizes.tolist() == [7, 3, 2]
    assert family.effective_groups == pytest.approx(144 / (49 + 9 + 4))
    assert sorted(truth[family.representatives]) == [0, 1, 2]
    assert set(family.of_group(1)) == set(np.flatnonzero(truth == 1))


def test_the_threshold_decides_and_its_range_is_told() -> None:
    gram = gram_of(families([4, 4], 4000, likeness=0.6, seed=2))
    at = {t: lineage(gram, threshold=t) for t in (-1.0, 0.3, 0.99)}
    assert [family.sizes.size for family in at.values()] == [1, 2, 8]
    steady = at[0.3].stability
    assert steady.low < 0.1
    assert 0.55 < steady.high < 0.65
    for threshold in (steady.low + 1e-9, steady.high - 1e-9):
        assert lineage(gram, threshold=threshold).sizes.size == 2
    assert lineage(gram, threshold=steady.high + 1e-9).sizes.size > 2
    inside = (steady.thresholds > steady.low) & (steady.thresholds < steady.high)
    np.testing.assert_allclose(steady.agreement[inside], 1)
    assert steady.groups[0] == 1
    assert steady.groups[-1] == 8
    assert steady.agreement[-1] == pytest.approx(0, abs=1e-12)


def test_single_linkage_merges_are_where_components_change() -> None:
    cosines = gram_of(noise(9, 30, seed=3)).cosines()
    for level, joined in zip(merge_cosines(cosines), range(8, 0, -1), strict=True):
        assert components(cosines, level - 1e-12).max() + 1 == joined
        assert components(cosines, level + 1e-12).max() + 1 == joined + 1


@pytest.mark.parametrize("case", ["plain", "ties", "unknown"])
def test_groups_at_every_threshold_are_those_of_all_cosines(case: str) -> None:
    points = np.random.default_rng(3).normal(size=(30, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cosines = points @ points.T
    if case == "ties":
        cosines = np.round(cosines, 1)
    elif case == "unknown":
        cosines[4] = cosines[:, 4] = np.nan
    shown = stability(cosines, 0.5, components(cosines, 0.5))
    each = [components(cosines, threshold) for threshold in shown.thresholds]
    assert shown.groups.tolist() == [groups.max() + 1 for groups in each]
    assert shown.largest.tolist() == [(groups == 0).sum() for groups in each]
    assert len(set(shown.groups.tolist())) > 5


def test_without_a_threshold_loose_families_are_found_and_noise_stays_apart() -> None:
    assert lineage(gram_of(families([4, 4], 4000, likeness=0.35, seed=2))).sizes.tolist() == [4, 4]
    assert lineage(gram_of(noise(8, 4000, seed=2))).sizes.size == 8


def test_centres_change_the_question() -> None:
    rng = np.random.default_rng(4)
    base = 20 * rng.standard_normal(2000)
    gram = gram_of(base + families([4, 4], 2000, likeness=0.7, seed=5), base=base)
    assert lineage(gram).sizes.tolist() == [8]
    assert lineage(gram, about="base").sizes.tolist() == [4, 4]


def test_cosines_above_chance_are_one_in_twenty_collections() -> None:
    beyond = [np.triu(gram_of(noise(12, 400, seed=s)).cosines(), 1).max() > chance_cosine(12, 400) for s in range(400)]
    assert 0.02 <= np.mean(beyond) <= 0.09


def test_copies_are_found_and_relatives_are_not_copies() -> None:
    rows = families([6, 6], 500, likeness=0.9, seed=6)
    rows[3] = rows[8]
    rows[5] = rows[1] + 1e-4 * rows[2]
    found = lineage(gram_of(rows)).duplicates
    assert [(one.left, one.right) for one in found] == [("model-3", "model-8"), ("model-1", "model-5")]
    assert found[0].distance < 1e-6
    assert found[1].distance == pytest.approx(1e-4 * np.linalg.norm(rows[2]) / np.linalg.norm(rows[1]), rel=1e-3)
    for likeness in (0.9, 0.99999):
        assert not lineage(gram_of(families([6, 6], 500, likeness=likeness, seed=6))).duplicates
    everyone = np.repeat(noise(1, 500, seed=1), 4, axis=0) + 1e-6 * noise(4, 500, seed=2)
    assert len(lineage(gram_of(everyone)).duplicates) == 6


def test_effective_models_count_copies_once() -> None:
    rows = np.repeat(noise(3, 5000, seed=7), [4, 4, 4], axis=0)
    assert lineage(gram_of(rows)).effective_models == pytest.approx(3, rel=0.01)


def test_neighbours_of_a_model_are_its_family() -> None:
    family = lineage(gram_of(families([3, 5], 1000, likeness=0.5, seed=8)))
    assert {label for label, _ in neighbours(family, "model-0", count=2)} == {"model-1", "model-2"}
    assert [cosine for _, cosine in neighbours(family, "model-0", count=7)] == sorted(family.cosines[0, 1:])[::-1]
    with pytest.raises(ValueError, match="called 'x'; choose one of the 8"):
        neighbours(family, "x")


def test_silently_reinitialised_models_are_named_and_only_those() -> None:
    made = synthetic.reinitialised(fraction=0.2)
    family = lineage(of(made))
    fresh = {f"model-{i}" for i in np.flatnonzero(made.truth["reinitialised"])}
    assert {one.model for one in family.outliers if one.kind == "never trained"} == fresh
    assert "normal random numbers" in family.outliers[0].reason
    assert not lineage(of(synthetic.reinitialised(fraction=0.0))).outliers


def test_a_stranger_with_trained_entries_has_no_relative() -> None:
    made = synthetic.reinitialised(fraction=0.0)
    rows = made.layers[UP].reshape(40, -1)
    rows[5] = np.random.default_rng(1).permutation(rows[5])
    odd = lineage(gram_of(rows)).outliers
    assert [(one.model, one.kind) for one in odd] == [("model-5", "no relative")]


def test_shuffled_neurons_are_guessed_from_norms_that_agree_too_well() -> None:
    assert kinds(lineage(of(synthetic.permuted()))) == {"reordered"}
    assert not kinds(lineage(of(synthetic.permuted(fraction=0.0))))


@pytest.mark.parametrize("draw", ["normal", "uniform", "cut"])
def test_collections_that_were_never_trained_look_so(draw: str) -> None:
    rng = np.random.default_rng(9)
    rows = {
        "normal": rng.standard_normal((20, 3000)),
        "uniform": rng.uniform(-1, 1, (20, 3000)),
        "cut": np.clip(rng.standard_normal((20, 9000)), -2.0, 2.0)[:, :3000],
    }[draw]
    if draw == "cut":
        more = rng.standard_normal((20, 9000))
        rows = np.stack([row[np.abs(row) < 2][:3000] for row in more])
    odd = lineage(gram_of(rows)).outliers
    assert [(one.model, one.kind) for one in odd] == [(LAYER, "as if never trained")]
    trained = rng.laplace(size=(20, 3000))
    assert "as if never trained" not in kinds(lineage(gram_of(trained)))


def test_broken_and_constant_models_are_named_with_what_they_hold() -> None:
    rows = noise(8, 200, seed=10)
    rows[2, :3] = np.inf
    rows[6] = 0.5
    odd = {one.model: one for one in lineage(gram_of(rows)).outliers}
    assert odd["model-2"].reason == "3 of 200 entries are NaN or infinite"
    assert odd["model-6"].reason == "all 200 entries are 0.5"


def test_one_strong_model_is_named_and_a_wide_spread_is_not() -> None:
    rows = noise(20, 500, seed=11)
    rows[4] *= 6
    odd = [one for one in lineage(gram_of(rows)).outliers if one.kind == "strength"]
    assert [one.model for one in odd] == ["model-4"]
    assert "times farther from the mean" in odd[0].reason
    assert "strength" not in kinds(lineage(of(synthetic.unequal(spread=1.0))))


def test_a_network_has_no_shape_of_entries() -> None:
    made = synthetic.noise()
    assert kinds(lineage(of(made))) == {"as if never trained"}
    assert not kinds(lineage(of(made) + of(made, "blocks.0.mlp.down.weight")))
    left, right = (gram_of(noise(20, 800, seed=seed, norms=np.ones(20))) for seed in (1, 2))
    assert kinds(lineage(left)) == {"reordered"}
    assert not kinds(lineage(left + right))


def test_two_lineages_and_a_shared_start_read_as_they_were_made() -> None:
    made = synthetic.two_lineages(fraction=0.3)
    family = lineage(of(made))
    assert adjusted_rand(family.groups, made.truth["lineage"]) == 1
    made = synthetic.shared_start(fraction=0.4)
    family = lineage(of(made))
    assert set(family.of_group(0)) == set(np.flatnonzero(made.truth["shares_start"]))
    assert family.sizes.tolist() == [16] + [1] * 24
    assert lineage(of(synthetic.shared_start(fraction=0.0))).sizes.size == 40


@pytest.mark.parametrize("models", [2, 3])
def test_two_or_three_models_have_a_lineage(models: int) -> None:
    family = lineage(gram_of(noise(models, 100, seed=12)))
    assert family.sizes.tolist() == [1] * models
    assert not family.duplicates


def test_a_model_at_the_centre_is_alone_and_breaks_nothing() -> None:
    rows = families([3, 3], 300, likeness=0.8, seed=13)
    rows[1] = 0
    family = lineage(gram_of(rows))
    assert family.sizes.tolist() == [3, 2, 1]
    assert family.groups[1] == 2
    assert np.isnan(family.cosines[1]).all()


def test_members_and_bad_input() -> None:
    gram = gram_of(families([4, 4], 500, likeness=0.8, seed=14))
    part = lineage(gram, members=[6, 0, 5, 1])
    assert part.labels == ("model-6", "model-0", "model-5", "model-1")
    assert set(part.one_each) <= {0, 1, 5, 6}
    assert part.sizes.tolist() == [2, 2]
    with pytest.raises(NotEnoughModels, match="found 1 of 8"):
        lineage(gram, members=[1])
    with pytest.raises(ValueError, match="from -1 to 1; found 2"):
        lineage(gram, threshold=2.0)
    with pytest.raises(LayerError, match="found a Gram on the in axis"):
        lineage(side_gram_of(noise(4, 20, seed=0).reshape(4, 4, 5), axis=Axis.IN))


def test_agreement_is_scikit_learns() -> None:
    rng = np.random.default_rng(15)
    for _ in range(20):
        left, right = rng.integers(0, 4, 30), rng.integers(0, 3, 30)
        assert adjusted_rand(left, right) == pytest.approx(adjusted_rand_score(left, right))
    assert adjusted_rand(["a", None, "a"], [1, 0, 1]) == 1
    assert adjusted_rand([0, 0, 0], [0, 1, 2]) == adjusted_rand_score([0, 0, 0], [0, 1, 2]) == 0


def test_the_column_that_made_the_groups_explains_them() -> None:
    groups = np.repeat([0, 1, 2], 6)
    rng = np.random.default_rng(16)
    table = {
        "coin": [bool(coin) for coin in rng.integers(0, 2, 18)],
        "task": [f"task-{g}" for g in groups],
        "name": [f"n{i}" for i in range(18)],
        "author": ["me"] * 18,
    }
    best, *rest = overlaps(groups, table)
    assert (best.column, best.agreement, best.p, best.values) == ("task", 1, 0.001, 3)
    assert rest[0].column == "coin"
    assert rest[0].p > 0.05
    assert "names models" in next(one.reason for one in rest if one.column == "name")
    assert "one value only" in next(one.reason for one in rest if one.column == "author")
    assert "one group" in overlap(np.zeros(18, dtype=int), table["task"], name="task").reason
    assert "alone" in overlap(np.arange(18), table["task"], name="task").reason
    with pytest.raises(ValueError, match="need one value each; found 2"):
        overlap(groups, [1, 2], name="short")


def test_the_map_keeps_distances_and_its_first_component_separates_what_was_planted() -> None:
    rows = families([6, 6], 300, likeness=0.8, seed=17)
    gram = gram_of(rows)
    full = model_map(gram, kept=11)
    apart = np.linalg.norm(full.coordinates[:, None] - full.coordinates[None], axis=2)
    np.testing.assert_allclose(apart, np.linalg.norm(rows[:, None] - rows[None], axis=2), atol=1e-8)
    assert full.shares.sum() == pytest.approx(1)
    side = ["left"] * 6 + ["right"] * 6
    told = explained(full, side, name="side")
    assert told.ratio[0] > 0.99
    assert told.p[0] < 0.01
    assert told.chance == pytest.approx(1 / 11)
    assert told.ratio[1:].max() < 0.1
    assert model_map(gram, kept=2, unit=True).coordinates.shape == (12, 2)


def test_explained_is_the_correlation_ratio_or_the_squared_correlation() -> None:
    points = model_map(gram_of(spiked(30, 200, strengths=[500], seed=18)), kept=3)
    x = points.coordinates[:, 0]
    score = [float(value) for value in x + np.random.default_rng(0).standard_normal(30)]
    told = explained(points, score, name="score")
    assert told.ratio[0] == pytest.approx(np.corrcoef(x, score)[0, 1] ** 2)
    parts = [x[i::3] for i in range(3)]
    between = sum(part.size * (part.mean() - x.mean()) ** 2 for part in parts) / np.sum((x - x.mean()) ** 2)
    names = [f"task-{i % 3}" for i in range(30)]
    assert explained(points, names, name="task").ratio[0] == pytest.approx(between)
    assert explained(points, names, name="task").p[0] > 0.01
    holes = [None if i == 4 else name for i, name in enumerate(names)]
    left = np.delete(np.arange(30), 4)
    inside = sum(np.var(x[left[left % 3 == i]]) * (left % 3 == i).sum() for i in range(3))
    told = explained(points, holes, name="task")
    assert told.ratio[0] == pytest.approx(1 - inside / (29 * np.var(x[left])))
    assert told.chance == pytest.approx(2 / 28)
    assert "one value only" in explained(points, [1] * 30, name="x").reason
    assert "groups none" in explained(points, [str(i) for i in range(30)], name="x").reason
