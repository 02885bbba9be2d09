"""The pass: exact against float64 numpy, whatever the slabs, the type, the base, or a damaged model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from uws_core.errors import BudgetError, Cancelled, LayerError, NotEnoughModels, UwsError
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.gram import gram
from uws_core.sources.opening import resolved

LAYER = "blocks.0.w.weight"


def written(folder: Path, arrays: list[np.ndarray], dtype: torch.dtype, base: np.ndarray | None = None) -> Collection:
    """A collection of one layer on disk, made by hand so that the pass is tested without the collector."""
    refs = []
    for index, array in enumerate([*arrays, *([] if base is None else [base])]):
        path = folder / f"m{index}.safetensors"
        save_file({LAYER: torch.from_numpy(array).to(dtype)}, path)
        refs.append(resolved(ModelRef(str(path), ""))[0])
    n = len(arrays)
    return Collection(
        name="hand made",
        refs=tuple(refs[:n]),
        labels=tuple(f"m{index}" for index in range(n)),
        layers=(LayerKey(LAYER, arrays[0].shape),),
        fingerprint="hand",
        base=None if base is None else refs[n],
        base_layers=frozenset() if base is None else frozenset({LAYER}),
    )


def weights(seed: int, n: int = 7, shape: tuple[int, int] = (24, 40), differ: float = 1.0) -> list[np.ndarray]:
    """`n` matrices around a common one of norm about 1 a entry, apart by `differ`, rounded to float32."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=shape)
    return [(common + differ * rng.normal(size=shape)).astype(np.float32) for _ in range(n)]


def centred(arrays: list[np.ndarray]) -> np.ndarray:
    flat = np.array([array.ravel() for array in arrays], dtype=np.float64)
    return flat - flat.mean(axis=0)


@pytest.mark.parametrize("budget", [2 * 7 * 40 * 4, 2**20, 256 * 2**20])
def test_values_are_the_inner_products_about_the_mean_for_any_budget(tmp_path, budget):
    arrays = weights(0)
    found = gram(written(tmp_path, arrays, torch.float32), LAYER, budget=budget)
    flat = centred(arrays)
    # Float32 products: 1e-6 of the largest eigenvalue.
    np.testing.assert_allclose(found.values, flat @ flat.T, atol=1e-6 * np.linalg.norm(flat @ flat.T, 2), rtol=0)
    assert found.d == 24 * 40
    assert found.labels == tuple(f"m{index}" for index in range(7))


@pytest.mark.parametrize("differ", [1.0, 1e-2, 1e-4])
def test_eigenvalues_hold_where_models_hardly_differ(tmp_path, differ):
    arrays = weights(1, n=20, shape=(64, 96), differ=differ)
    flat = centred(arrays)
    expected = np.linalg.eigvalsh(flat @ flat.T)
    found = np.linalg.eigvalsh(gram(written(tmp_path, arrays, torch.float32), LAYER).values)
    assert np.abs(found - expected).max() < 1e-6 * expected.max()


def test_raw_inner_products_and_cosines_come_back(tmp_path):
    arrays = weights(2, differ=0.1)
    found = gram(written(tmp_path, arrays, torch.float32), LAYER)
    flat = np.array([array.ravel() for array in arrays], dtype=np.float64)
    raw = flat @ flat.T
    np.testing.assert_allclose(found.about("zero"), raw, rtol=1e-6)
    norms = np.sqrt(np.diag(raw))
    np.testing.assert_allclose(found.cosines(), raw / np.outer(norms, norms), atol=1e-6)


def test_base_is_one_more_row_and_not_part_of_the_mean(tmp_path):
    arrays, base = weights(3), weights(4, n=1)[0]
    found = gram(written(tmp_path, arrays, torch.float32, base), LAYER)
    about = np.array([(array.astype(np.float64) - base).ravel() for array in arrays])
    np.testing.assert_allclose(found.about("base"), about @ about.T, rtol=1e-5, atol=1e-6 * np.max(about @ about.T))
    flat = centred(arrays)
    np.testing.assert_allclose(found.about("mean"), flat @ flat.T, atol=1e-6 * np.linalg.norm(flat @ flat.T, 2))


def test_double_is_exact_and_automatic_for_double_weights(tmp_path):
    rng = np.random.default_rng(5)
    arrays = list(rng.normal(size=(24, 40)) + 1e-6 * rng.normal(size=(7, 24, 40)))
    flat = centred(arrays)
    expected = flat @ flat.T
    for precision in ("auto", "double"):
        found = gram(written(tmp_path, arrays, torch.float64), LAYER, precision=precision)
        np.testing.assert_allclose(found.values, expected, atol=1e-12 * np.abs(expected).max())
    single = gram(written(tmp_path, arrays, torch.float64), LAYER, precision="single")
    assert np.abs(single.values - expected).max() > 1e-6 * np.abs(expected).max()


def test_bfloat16_weights_give_the_gram_of_the_same_values(tmp_path):
    arrays = [torch.from_numpy(array).bfloat16().double().numpy() for array in weights(6)]
    flat = centred(arrays)
    found = gram(written(tmp_path, arrays, torch.bfloat16), LAYER)
    assert np.abs(found.values - flat @ flat.T).max() < 1e-6 * np.linalg.norm(flat @ flat.T, 2)


def test_entry_statistics_are_those_of_the_entries(tmp_path):
    from scipy.stats import kurtosis

    arrays = weights(7)
    found = gram(written(tmp_path, arrays, torch.float32), LAYER, budget=2 * 7 * 40 * 4 * 5).entry_stats
    flat = np.array([array.ravel() for array in arrays], dtype=np.float64)
    np.testing.assert_allclose(found.norm, np.linalg.norm(flat, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.mean, flat.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(found.std, flat.std(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.kurtosis, kurtosis(flat, axis=1), atol=1e-5)
    np.testing.assert_allclose(found.largest, np.abs(flat).max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_with_non_finite_weights_is_named_and_the_rest_is_as_without_it(tmp_path, bad):
    arrays = weights(8)
    arrays[3][5, 6] = bad
    (tmp_path / "all").mkdir()
    (tmp_path / "rest").mkdir()
    found = gram(written(tmp_path / "all", arrays, torch.float32), LAYER, budget=2**15)
    rest = gram(written(tmp_path / "rest", arrays[:3] + arrays[4:], torch.float32), LAYER)
    keep = [0, 1, 2, 4, 5, 6]
    assert found.usable.tolist() == [True, True, True, False, True, True, True]
    assert found.chosen().tolist() == keep
    assert found.left_out[0].what.startswith("m3")
    assert "1 of 960" in found.left_out[0].reason
    np.testing.assert_allclose(found.about("mean"), rest.values, atol=1e-6 * np.abs(rest.values).max())
    assert found.entry_stats.non_finite.tolist() == [0, 0, 0, 1, 0, 0, 0]


# One entry whose square passes 3.4e38; a whole model of which a chunk's squares do, and no single one.
HUGE = {"one entry": (1e30, 1), "every entry": (1e18, 960), "near the largest": (3e38, 960)}


@pytest.mark.parametrize("case", HUGE)
def test_finite_weights_too_large_for_single_precision_leave_the_rest_as_without_them(tmp_path, case):
    size, count = HUGE[case]
    arrays = weights(8)
    arrays[3].flat[:count] = size
    (tmp_path / "all").mkdir()
    (tmp_path / "rest").mkdir()
    found = gram(written(tmp_path / "all", arrays, torch.float32), LAYER, budget=2**15)
    rest = gram(written(tmp_path / "rest", arrays[:3] + arrays[4:], torch.float32), LAYER)
    assert found.usable.tolist() == [True, True, True, False, True, True, True]
    assert "too large for single precision" in found.left_out[0].reason
    np.testing.assert_allclose(found.about("mean"), rest.values, atol=1e-6 * np.abs(rest.values).max())
    double = gram(written(tmp_path / "all", arrays, torch.float32), LAYER, precision="double")
    flat = centred(arrays)
    assert double.usable.all()
    np.testing.assert_allclose(double.values, flat @ flat.T, rtol=1e-12, atol=1e-12 * np.max(flat @ flat.T))


def test_not_a_number_and_too_large_are_told_apart(tmp_path):
    arrays = weights(8)
    arrays[1][0, 0], arrays[2][:], arrays[5][0, 0] = np.nan, 1e18, 1e30
    found = gram(written(tmp_path, arrays, torch.float32), LAYER)
    assert found.usable.tolist() == [True, False, False, True, True, False, True]
    assert ["NaN" in note.reason for note in found.left_out] == [True, False, False]
    flat = centred([arrays[i] for i in (0, 3, 4, 6)])
    np.testing.assert_allclose(found.about("mean"), flat @ flat.T, atol=1e-6 * np.linalg.norm(flat @ flat.T, 2))


def test_large_weights_that_can_still_be_squared_are_used(tmp_path):
    arrays = [array * np.float32(1e12) for array in weights(8)]
    found = gram(written(tmp_path, arrays, torch.float32), LAYER)
    flat = centred(arrays)
    assert found.usable.all()
    np.testing.assert_allclose(found.values, flat @ flat.T, atol=1e-6 * np.linalg.norm(flat @ flat.T, 2))
    # Their fourth powers pass the largest float32: the kurtosis is unknown, not infinite.
    assert np.isnan(found.entry_stats.kurtosis).all()


def test_a_base_with_too_large_weights_is_not_a_row(tmp_path):
    arrays = weights(3)
    found = gram(written(tmp_path, arrays, torch.float32, np.full((24, 40), 1e30)), LAYER)
    flat = centred(arrays)
    assert found.base is None
    np.testing.assert_allclose(found.values, flat @ flat.T, atol=1e-6 * np.linalg.norm(flat @ flat.T, 2))


def test_weights_too_large_everywhere_are_an_error_with_the_bound(tmp_path):
    arrays = [np.float32(1e30) * array for array in weights(9, n=3)]
    with pytest.raises(NotEnoughModels, match=r"0 of 3 models.*squares exceed 3\.4e\+38"):
        gram(written(tmp_path, arrays, torch.float32), LAYER)


def test_fewer_than_two_finite_models_is_an_error(tmp_path):
    arrays = weights(9, n=3)
    arrays[0][0, 0] = arrays[1][0, 0] = np.nan
    with pytest.raises(NotEnoughModels, match="1 of 3 models have finite weights"):
        gram(written(tmp_path, arrays, torch.float32), LAYER)


def test_layers_add_to_the_gram_of_one_long_layer(tmp_path):
    first, second = weights(10), weights(11, shape=(8, 10))
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        save_file({"a": torch.from_numpy(one), "b": torch.from_numpy(two)}, tmp_path / f"m{index}.safetensors")
    refs = tuple(resolved(ModelRef(str(path), ""))[0] for path in sorted(tmp_path.glob("*.safetensors")))
    layers = (LayerKey("a", (24, 40)), LayerKey("b", (8, 10)))
    collection = Collection("two", refs, tuple("abcdefg"), layers, "two")
    total = gram(collection, "a") + gram(collection, "b")
    flat = centred([np.concatenate([one.ravel(), two.ravel()]) for one, two in zip(first, second, strict=True)])
    np.testing.assert_allclose(total.values, flat @ flat.T, atol=1e-6 * np.linalg.norm(flat @ flat.T, 2))
    assert total.d == 24 * 40 + 80
    with pytest.raises(LayerError, match="same models"):
        total + gram(Collection("few", refs[:2], ("a", "b"), layers, "few"), "a")


def test_too_small_a_budget_is_refused_with_the_figure(tmp_path):
    with pytest.raises(BudgetError, match="one row of 7 models takes"):
        gram(written(tmp_path, weights(13), torch.float32), LAYER, budget=1000)


def test_a_stop_ends_the_pass_within_one_slab(tmp_path):
    seen = []

    def report(fraction: float, message: str) -> None:
        seen.append(fraction)
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        gram(written(tmp_path, weights(14), torch.float32), LAYER, budget=2 * 7 * 40 * 4, report=report)
    assert seen == [pytest.approx(1 / 24)]


def test_unknown_words_are_named(tmp_path):
    collection = written(tmp_path, weights(15), torch.float32)
    with pytest.raises(LayerError, match=r"no layer 'blocks.0.v.weight'.*blocks.0.w.weight"):
        gram(collection, "blocks.0.v.weight")
    with pytest.raises(UwsError, match="precision is auto, single or double; found 'half'"):
        gram(collection, LAYER, precision="half")
    with pytest.raises(LayerError, match="no base model is known"):
        gram(collection, LAYER).about("base")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_agrees_with_float64(tmp_path):
    arrays = weights(16, n=30, shape=(128, 256), differ=1e-3)
    flat = centred(arrays)
    expected = flat @ flat.T
    found = gram(written(tmp_path, arrays, torch.float32), LAYER, device="cuda", budget=2**22)
    assert np.abs(found.values - expected).max() < 1e-6 * np.linalg.norm(expected, 2)
