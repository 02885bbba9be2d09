"""Generators of synthetic collections: each holds its artefact, its control does not, and theory agrees."""

from __future__ import annotations

import csv
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.planted import gram_of
from uws_core.analysis.nulls import null_band
from uws_core.errors import CollectionError
from uws_core.zoo import folders, synthetic
from uws_core.zoo.demo import DEMOS, prepare
from uws_core.zoo.synthetic import GENERATORS, SyntheticCollection

ONE = {"layer": (64, 64)}
D = 64 * 64
# Cosines of unrelated vectors of D numbers spread by 1 / sqrt(D) = 0.016; the largest of 10,000 reaches four of these.
UNRELATED = 4.5 / math.sqrt(D)


def rows(made: SyntheticCollection, layer: str = "layer") -> NDArray[np.float64]:
    """Flattened models (n, d)."""
    return made.layers[layer].reshape(len(made.table["model"]), -1)


def cosines(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return unit @ unit.T


def pairs(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return matrix[np.triu_indices(len(matrix), 1)]


def away(made: SyntheticCollection) -> NDArray[np.float64]:
    """The models about their mean, where noise has variance 1."""
    weights = rows(made) / synthetic.NOISE_STD
    return weights - weights.mean(axis=0)


def spectrum(made: SyntheticCollection) -> NDArray[np.float64]:
    """Variances over d, descending: near 1 for noise."""
    return np.linalg.svd(away(made), compute_uv=False)[: len(rows(made)) - 1] ** 2 / D


def kurtosis(values: NDArray[np.float64]) -> float:
    return float(((values - values.mean()) ** 4).mean() / values.var() ** 2)


def test_noise_fills_the_marchenko_pastur_law():
    seen = spectrum(synthetic.noise(n=100, shapes=ONE))
    gamma = 99 / D
    # Finite matrices leave the edges by a Tracy-Widom width: about 2 n^(-2/3) sqrt(gamma) = 0.015 here.
    assert seen[0] == pytest.approx((1 + math.sqrt(gamma)) ** 2, abs=0.03)
    assert seen[-1] == pytest.approx((1 - math.sqrt(gamma)) ** 2, abs=0.03)
    assert np.abs(pairs(cosines(rows(synthetic.noise(n=100, shapes=ONE))))).max() < UNRELATED


@pytest.mark.parametrize("strength", [2.0, 4.0, 8.0])
def test_a_spike_stands_where_theory_puts_it_and_points_that_way(strength: float):
    gamma = 99 / D
    excess = strength * math.sqrt(gamma)
    value, overlap = [], []
    for seed in range(6):
        made = synthetic.spike(strength=strength, count=1, n=100, shapes=ONE, seed=seed)
        left, singular, _ = np.linalg.svd(away(made), full_matrices=False)
        value.append(singular[0] ** 2 / D)
        overlap.append(float(np.dot(left[:, 0], np.asarray(made.truth["score_1"], dtype=float)) ** 2))
    # Six draws: the spike's own spread is l sqrt(2 / d) = 3 % at most, the overlap's a few percent near the threshold.
    assert np.mean(value) == pytest.approx((1 + excess) * (1 + gamma / excess), rel=0.03)
    assert np.mean(overlap) == pytest.approx((1 - gamma / excess**2) / (1 + gamma / excess), abs=0.06)


def test_below_the_threshold_the_spike_drowns():
    gamma = 99 / D
    top, overlap = [], []
    for seed in range(6):
        made = synthetic.spike(strength=0.5, count=1, n=100, shapes=ONE, seed=seed)
        left, singular, _ = np.linalg.svd(away(made), full_matrices=False)
        top.append(singular[0] ** 2 / D)
        overlap.append(float(np.dot(left[:, 0], np.asarray(made.truth["score_1"], dtype=float)) ** 2))
    # The largest variance is the noise's own edge, and its direction has little to do with the planted one.
    assert np.mean(top) == pytest.approx((1 + math.sqrt(gamma)) ** 2, abs=0.03)
    assert np.mean(overlap) < 0.2


def test_a_spike_of_no_strength_is_noise():
    seen = spectrum(synthetic.spike(strength=0.0, n=100, shapes=ONE))
    assert seen[0] == pytest.approx((1 + math.sqrt(99 / D)) ** 2, abs=0.03)


def test_the_band_sees_the_visible_spikes_and_not_the_faint_one():
    above = {}
    for name in ("spike", "faint-spike", "noise"):
        made = GENERATORS[name]()
        bands = [null_band(gram_of(rows(made, layer)), draws=100, seed=1) for layer in made.layers]
        above[name] = [int((band.observed > band.samples.max(axis=0))[:4].sum()) for band in bands]
    assert above["spike"] == [3] * 4
    # Above all of 100 draws by chance: once in 100 tests, and these are 32.
    assert sum(above["faint-spike"]) + sum(above["noise"]) <= 2


def test_a_shared_start_is_shared_by_its_fraction_alone():
    made = synthetic.shared_start(fraction=0.25, drift=0.5, n=40, shapes=ONE)
    shared = np.asarray(made.truth["shares_start"])
    angles = cosines(rows(made))
    assert shared.sum() == 10
    assert [start == "shared" for start in made.table["initialisation"]] == shared.tolist()
    assert len(set(made.table["initialisation"])) == 31
    # A common start s plus own updates of size drift s: cosine 1 / (1 + drift^2).
    assert pairs(angles[np.ix_(shared, shared)]) == pytest.approx(1 / 1.25, abs=UNRELATED)
    assert np.abs(angles[np.ix_(shared, ~shared)]).max() < UNRELATED
    control = synthetic.shared_start(fraction=0.0, n=40, shapes=ONE)
    assert np.abs(pairs(cosines(rows(control)))).max() < UNRELATED


def test_unequal_norms_alone_look_like_structure_until_they_are_matched():
    made = synthetic.unequal(spread=1.0, n=100, shapes=ONE)
    norms = np.linalg.norm(rows(made), axis=1)
    assert norms == pytest.approx(np.asarray(made.truth["size"]) * synthetic.NOISE_STD * math.sqrt(D), rel=0.06)
    assert np.abs(pairs(cosines(rows(made)))).max() < UNRELATED
    gram = gram_of(rows(made))
    assert null_band(gram, kind="gaussian", draws=50).z[0] > 20
    assert abs(null_band(gram, kind="strength", draws=50).z[0]) < 4
    equal = np.linalg.norm(rows(synthetic.unequal(spread=0.0, n=100, shapes=ONE)), axis=1)
    assert equal.std() / equal.mean() == pytest.approx(1 / math.sqrt(2 * D), rel=0.3)


def test_two_lineages_are_alike_within_and_unrelated_between():
    made = synthetic.two_lineages(fraction=0.3, drift=0.2, n=40, shapes=ONE)
    second = np.asarray([one == "second" for one in made.truth["lineage"]])
    angles = cosines(rows(made))
    assert second.sum() == 12
    # Bases of heavier tails: the squared norms that enter vary by sqrt(5 / D) = 3.5 %, times drift^2 / 1.04.
    assert pairs(angles[np.ix_(second, second)]) == pytest.approx(1 / 1.04, abs=0.01)
    assert pairs(angles[np.ix_(~second, ~second)]) == pytest.approx(1 / 1.04, abs=0.01)
    assert np.abs(angles[np.ix_(second, ~second)]).max() < 2 * UNRELATED
    one = synthetic.two_lineages(fraction=0.0, n=40, shapes=ONE)
    assert pairs(cosines(rows(one))).min() > 0.94


def test_permuted_copies_compute_the_same_and_look_unrelated():
    shuffled, plain = synthetic.permuted(fraction=0.5), synthetic.permuted(fraction=0.0)
    changed = np.asarray(shuffled.truth["permuted"])
    inputs = np.random.default_rng(5).standard_normal((32, 16))
    for up in (name for name in synthetic.SHAPES if ".up." in name):
        down = up.replace("up", "down")
        assert np.allclose(outputs(shuffled, up, down, inputs), outputs(plain, up, down, inputs), atol=1e-12)
        base = shuffled.base[up].ravel()  # type: ignore[index]
        to_base = cosines(np.vstack([base, rows(shuffled, up)]))[0, 1:]
        assert to_base[~changed].min() > 0.98
        # Of 64 neurons one stays in place on average, seldom more than five.
        assert np.abs(to_base[changed]).max() < 0.25
    assert changed.sum() == 20


def outputs(made: SyntheticCollection, up: str, down: str, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each model's MLP makes of inputs (p, b): (n, m, b)."""
    return made.layers[down] @ np.maximum(made.layers[up] @ inputs, 0)


def test_layers_without_a_partner_cannot_be_permuted():
    with pytest.raises(ValueError, match=r"pairs of layers.*layer"):
        synthetic.permuted(shapes=ONE)


def test_reinitialised_members_differ_in_tails_and_direction_but_not_in_norm():
    made = synthetic.reinitialised(fraction=0.1, n=40, shapes=ONE)
    fresh = np.asarray(made.truth["reinitialised"])
    weights = rows(made)
    assert fresh.sum() == 4
    assert len(set(made.table["initialisation"])) == 1
    # Kurtosis of D numbers spreads by sqrt(24 / D) = 0.08 for normal ones, about 0.5 for Laplace.
    assert [kurtosis(one) for one in weights[fresh]] == pytest.approx([3] * 4, abs=0.35)
    assert min(kurtosis(one) for one in weights[~fresh]) > 4.5
    norms = np.linalg.norm(weights, axis=1)
    assert norms[fresh] == pytest.approx(np.full(4, norms.mean()), rel=0.05)
    base = made.base["layer"].ravel()  # type: ignore[index]
    to_base = cosines(np.vstack([base, weights]))[0, 1:]
    assert np.abs(to_base[fresh]).max() < UNRELATED
    assert to_base[~fresh].min() > 0.99
    assert not any(synthetic.reinitialised(fraction=0.0).truth["reinitialised"])


@pytest.mark.parametrize(
    "maker", [synthetic.shared_start, synthetic.two_lineages, synthetic.permuted, synthetic.reinitialised]
)
def test_a_fraction_is_a_share(maker):
    with pytest.raises(ValueError, match=r"0 to 1; found 1\.5"):
        maker(fraction=1.5)


@pytest.mark.parametrize("maker", [*GENERATORS.values()], ids=GENERATORS)
def test_one_seed_is_one_collection(maker):
    first, second = maker(), maker()
    assert all(np.array_equal(first.layers[name], second.layers[name]) for name in first.layers)


@pytest.mark.parametrize(
    "maker",
    [
        synthetic.noise,
        synthetic.spike,
        synthetic.shared_start,
        synthetic.unequal,
        synthetic.two_lineages,
        synthetic.permuted,
        synthetic.reinitialised,
    ],
)
def test_size_and_seed_are_as_asked(maker):
    small, other = maker(n=12, seed=1), maker(n=12, seed=2)
    assert {stack.shape[0] for stack in small.layers.values()} == {12}
    assert not any(np.array_equal(small.layers[name], other.layers[name]) for name in small.layers)


def test_makers_of_one_seed_draw_different_numbers():
    # Both begin alike: who is changed, then the base.
    one, other = synthetic.permuted(fraction=0.0), synthetic.reinitialised(fraction=0.0)
    assert one.base is not None
    assert other.base is not None
    assert not any(np.array_equal(one.base[name], other.base[name]) for name in one.base)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_folder_holds_what_was_made(name: str, tmp_path: Path):
    made, entry = GENERATORS[name](), prepare(DEMOS[name], tmp_path)
    with (entry.folder / "models.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["model"] for row in table] == list(made.table["model"])
    assert list(table[0])[:5] == ["model", "task", "kind", "seed", "initialisation"]
    assert list(table[0]) == list(made.table)
    assert {path.stem for path in entry.folder.glob("*.safetensors")} == set(made.table["model"])
    for i, row in enumerate(table):
        stored = load_file(entry.folder / f"{row['model']}.safetensors")
        for layer, stack in made.layers.items():
            assert np.array_equal(stored[layer], stack[i].astype(np.float32))
    with (entry.folder.parent / "truth.csv").open(newline="") as file:
        assert set(next(csv.reader(file))) == {"model", *made.truth}
    assert (entry.base is None) == (made.base is None)
    assert entry.base is None or load_file(entry.base).keys() == made.layers.keys()


def test_every_maker_has_its_entry_and_every_entry_its_maker():
    assert {name for name, entry in DEMOS.items() if entry.generated} == {*GENERATORS, "mixed"}


def test_a_shipped_collection_needs_no_cache(tmp_path: Path):
    assert prepare(DEMOS["scratch"], tmp_path / "never") is DEMOS["scratch"]
    assert not (tmp_path / "never").exists()


def test_a_second_call_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = prepare(DEMOS["noise"], tmp_path)

    def again() -> SyntheticCollection:
        raise AssertionError("built twice")

    monkeypatch.setitem(GENERATORS, "noise", again)
    assert prepare(DEMOS["noise"], tmp_path) == first
    with pytest.raises(AssertionError, match="built twice"):
        prepare(DEMOS["noise"], tmp_path / "elsewhere")


def test_a_build_that_breaks_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, columns: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_table", full)
        with pytest.raises(CollectionError, match=r"demo:noise.*No space left"):
            prepare(DEMOS["noise"], tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(list(prepare(DEMOS["noise"], tmp_path).folder.iterdir())) == 41


def test_builders_at_once_agree_on_one_folder(tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: prepare(DEMOS["noise"], tmp_path), range(4)))
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["noise-1"]
    assert len(list(found[0].folder.iterdir())) == 41


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CollectionError, match=r"demo:spike.*file"):
        prepare(DEMOS["spike"], tmp_path / "file")
