"""Stored numbers, counted by hand."""

from __future__ import annotations

import pytest

from uws_core.analysis.accounting import ceiling, equal_rank, storage, two_sided
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.nouns.storage import StoredSizes


def collection(*shapes: tuple[int, int], n: int) -> Collection:
    layers = tuple(LayerKey(f"blocks.{i}.weight", shape) for i, shape in enumerate(shapes))
    refs = tuple(ModelRef(f"model-{i}", "0") for i in range(n))
    return Collection("some", refs, tuple(ref.repo for ref in refs), layers, fingerprint="f")


def test_the_published_example_comes_out_to_the_last_digit():
    # A vision transformer: 40 layers of 768 x 768, ranks that sum to 1854, 470 models; no mean is counted.
    vit = collection(*[(768, 768)] * 40, n=470)
    ranks = [46] * 26 + [47] * 14
    assert sum(ranks) == 1854
    found = storage(vit, kept=ranks, axis=Axis.IN, mean=False)
    assert sum(found.basis) == 1_423_872
    assert found.shared == 670_643_712
    assert sum(found.dense) == 11_088_691_200
    assert found.ratio == pytest.approx(16.5344, abs=5e-5)


@pytest.mark.parametrize(
    ("axis", "basis", "coefficients"),
    [("models", 2 * 12, 7 * 2), ("in", 2 * 4, 7 * 2 * 3), ("out", 2 * 3, 7 * 2 * 4)],
)
def test_each_axis_counts_its_own_basis_and_coefficients(axis: str, basis: int, coefficients: int):
    found = storage(collection((3, 4), n=7), kept=2, axis=axis)
    assert (found.basis, found.coefficients, found.mean, found.dense) == ((basis,), (coefficients,), (12,), (84,))
    assert found.shared == basis + coefficients + 12
    assert storage(collection((3, 4), n=7), kept=2, axis=axis, mean=False).shared == basis + coefficients
    assert found.per_model(0) * 7 == found.shared


def test_both_sides_count_two_bases_and_small_cores():
    found = two_sided(collection((30, 40), n=7), kept_out=5, kept_in=6)
    assert found.shared == 5 * 30 + 6 * 40 + 7 * 5 * 6 + 30 * 40
    assert (found.axis, found.kept, found.kept_in) == (None, (5,), (6,))


def test_the_whole_checkpoint_keeps_what_is_not_shared_at_full_size():
    two = collection((3, 4), (5, 6), n=7)
    found = storage(two, ["blocks.0.weight"], kept=1, axis="models", stored=StoredSizes(other=7 * 11))
    assert found.untouched == 7 * (30 + 11)
    assert found.whole == (12 + 7 + 12) + 7 * 41
    assert found.ratio == pytest.approx(84 / 31)
    assert found.ratio_whole == pytest.approx((84 + 287) / (31 + 287))
    assert storage(two, kept=1, axis="models").untouched == 0


def test_ranks_may_differ_by_layer():
    two = collection((3, 4), (5, 6), n=4)
    assert storage(two, kept={"blocks.0.weight": 1, "blocks.1.weight": 3}, axis="in").kept == (1, 3)
    assert storage(two, kept=[2, 1], axis="in", members=3).coefficients == (3 * 2 * 3, 3 * 1 * 5)
    with pytest.raises(LayerError, match="each of 2 layers was expected, 3 were given"):
        storage(two, kept=[1, 2, 3], axis="in")
    with pytest.raises(LayerError, match=r"none is given for blocks\.1\.weight"):
        storage(two, kept={"blocks.0.weight": 1}, axis="in")
    with pytest.raises(LayerError, match="no layer 'nonsense'"):
        storage(two, ["nonsense"], kept=1, axis="in")
    with pytest.raises(NotEnoughModels, match="at least one model"):
        storage(two, kept=1, axis="in", members=0)


SIDE = 4096
KEY = "blocks.0.weight"


def adapters(n: int, rank: int = 16) -> StoredSizes:
    return StoredSizes({KEY: (rank,) * n}, {KEY: 2 * n * rank * 2 * SIDE})


@pytest.mark.parametrize(
    ("n", "k", "raw", "both", "one_side", "models"),
    [
        (500, 16, 65_536_000, 259_072, 32_833_536, 65_544_000),
        (500, 64, 65_536_000, 1_548_288, 33_542_144, 65_568_000),
        (1000, 16, 131_072_000, 387_072, 65_601_536, 131_088_000),
        # Dense directions are fewer numbers than a thousand adapters: two of them and 1000 x 2 coefficients.
        (1000, 2, 131_072_000, 20_384, 8_200_192, 33_556_432),
    ],
)
def test_adapters_are_shared_in_their_best_thin_form(
    n: int, k: int, raw: int, both: int, one_side: int, models: int
) -> None:
    # Adapters of rank 16 in a 4096 x 4096 layer, about zero; two-sided, `in`, and combinations of factors.
    some, stored = collection((SIDE, SIDE), n=n), adapters(n)
    on_both = two_sided(some, kept_out=k, kept_in=k, mean=False, stored=stored)
    on_inputs = storage(some, kept=k, axis="in", mean=False, stored=stored)
    on_models = storage(some, kept=k, axis="models", mean=False, stored=stored)
    assert (sum(on_both.dense), on_both.shared, on_inputs.shared, on_models.shared) == (raw, both, one_side, models)
    assert storage(some, kept=k, axis="out", mean=False, stored=stored).shared == one_side
    assert on_both.shared_bytes == 2 * both
    assert on_both.ratio_bytes == pytest.approx(raw / both)


def test_adapters_of_unequal_ranks_count_one_by_one_and_whole_layers_whole() -> None:
    some, stored = collection((30, 40), n=3), StoredSizes({KEY: (2, 5, 0)})
    found = storage(some, kept=4, axis="in", mean=True, stored=stored)
    # Coefficients: 2 (30 + 4), then 4 x 30 where 5 (30 + 4) is more, then 4 x 30 of the whole layer.
    assert (found.basis, found.coefficients, found.mean) == ((160,), (68 + 120 + 120,), (1200,))
    assert found.dense == (2 * 70 + 5 * 70 + 1200,)
    assert found.shared_bytes is None
    # All adapters: their mean is 4 x 70 numbers of factors, fewer than 30 x 40.
    assert storage(some, kept=4, axis="in", stored=StoredSizes({KEY: (1, 1, 2)})).mean == (280,)


def test_adapters_do_not_look_smaller_than_their_files() -> None:
    # 24 adapters of rank 8 in 384 x 384: 16 dense directions and a mean are 17 times what the files hold.
    some, stored = collection((384, 384), n=24), StoredSizes({KEY: (8,) * 24})
    found = storage(some, kept=16, axis="models", stored=stored)
    assert found.dense == (147_456,)
    assert found.shared == 147_456 + 24 * 16
    assert found.mean == (0,)
    assert found.ratio < 1
    assert storage(some, kept=16, axis="models").ratio == pytest.approx(1.41, abs=0.005)


@pytest.mark.parametrize(("size", "width"), [(24, 2), (7, 2), (48, 4), (96, 8), (25, 4)])
def test_bytes_are_counted_in_the_width_of_the_files(size: int, width: int) -> None:
    # Two models of 2 x 3: float16, packed to 4 bits and a scale, float32, float64, and a mix.
    found = storage(collection((2, 3), n=2), kept=1, axis="models", stored=StoredSizes(bytes={KEY: size}))
    assert found.shared_bytes == width * found.shared == width * (6 + 6 + 2)


def test_a_layer_is_given_by_name_or_key_and_factor_views_are_parts_of_it() -> None:
    keys = (LayerKey("q", (4, 6)), LayerKey("q:A", (2, 6)), LayerKey("q:B", (4, 2)), LayerKey("v", (4, 6)))
    some = Collection("some", (ModelRef("a", "0"), ModelRef("b", "0")), ("a", "b"), keys, fingerprint="f")
    stored = StoredSizes({"q": (2, 2), "v": (1, 1)})
    found = storage(some, [keys[0]], kept=1, axis="in", stored=stored)
    assert found == storage(some, ["q"], kept=1, axis="in", stored=stored)
    assert found.untouched == 2 * 10
    assert storage(some, kept=1, axis="in").layers == ("q", "v")
    with pytest.raises(LayerError, match="no layer 'w'"):
        storage(some, [LayerKey("w", (4, 6))], kept=1, axis="in")


def test_directions_beyond_the_ceiling_are_not_counted_and_noted():
    found = storage(collection((30, 40), n=5), kept=100, axis="models")
    assert found.kept == (4,)
    assert found.notes == ("0.weight: 100 directions were asked for, 5 models have at most 4",)


@pytest.mark.parametrize(
    ("n", "axis", "mean", "most"),
    [
        (5, Axis.MODELS, True, 4),
        (5, Axis.MODELS, False, 5),
        (500, Axis.MODELS, True, 12),
        (5, Axis.IN, True, 4),
        (2, Axis.IN, True, 3),
        (5, Axis.OUT, True, 3),
        (1, Axis.IN, False, 3),
    ],
)
def test_the_ceiling_is_the_free_points_or_the_space(n: int, axis: Axis, mean: bool, most: int):
    assert ceiling(LayerKey("x", (3, 4)), n=n, axis=axis, mean=mean) == most


def test_the_equal_rank_never_stores_more():
    layer = LayerKey("x", (20, 30))
    for axis in Axis:
        for k in range(40):
            rank = equal_rank(layer, n=8, k=k, axis=axis)
            length = {Axis.MODELS: 600, Axis.IN: 30, Axis.OUT: 20}[axis]
            numbers = k * length / 8 + k * 600 / length
            assert rank == (20 if numbers >= 600 else min(numbers // 50, 20))
