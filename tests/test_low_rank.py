"""Adapters: the Gram from thin factors is the Gram of the products, and does not feel the gauge."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from vlora import SharedSubspace, load_adapter

import uws_core as uws
from uws_core.errors import BudgetError, LayerError
from uws_core.nouns.models import LayerKey, LowRank, ModelRef
from uws_core.passes import low_rank
from uws_core.passes.options import ComputeOptions
from uws_core.sources.opening import open_source

LAYER = LayerKey("q", (20, 30))


@dataclass
class Held:
    """A source whose one layer is in memory."""

    part: LowRank | torch.Tensor
    ref: ModelRef = field(default_factory=lambda: ModelRef("held", "0"))

    def read(self, layer, rows=None, *, into=None):
        return self.part


def adapters(seed: int, ranks: list[int]) -> list[LowRank]:
    rng = torch.Generator().manual_seed(seed)
    return [
        LowRank(torch.randn(20, rank, generator=rng), torch.randn(rank, 30, generator=rng), 0.5 + rank / 7)
        for rank in ranks
    ]


def sums(parts: list[LowRank], *, budget: int = 2**28, kind: torch.dtype = torch.float64) -> low_rank.Moments:
    sources = [Held(part) for part in parts]
    return low_rank.sums(sources, LAYER, kind=kind, device=torch.device("cpu"), options=ComputeOptions(budget=budget))


def products(parts: list[LowRank]) -> np.ndarray:
    return np.array([(part.scale * part.up.double() @ part.down.double()).numpy().ravel() for part in parts])


@pytest.mark.parametrize("block", [1, 100, 2**20])
def test_inner_products_are_those_of_the_multiplied_updates_at_mixed_ranks(monkeypatch, block):
    monkeypatch.setattr(low_rank, "_BLOCK_PRODUCTS", block)
    parts = adapters(0, [1, 4, 2, 8, 3, 3])
    dense = products(parts)
    found = sums(parts)
    np.testing.assert_allclose(found.gram, dense @ dense.T, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(found.power1, dense.sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.power2, (dense**2).sum(axis=1), rtol=1e-12)


def test_an_invertible_change_between_the_factors_changes_nothing():
    parts = adapters(1, [4, 4, 4])
    rng = torch.Generator().manual_seed(2)
    turned = []
    for part in parts:
        gauge = torch.randn(4, 4, generator=rng, dtype=torch.float64) + 3 * torch.eye(4, dtype=torch.float64)
        turned.append(LowRank(part.up.double() @ torch.linalg.inv(gauge), gauge @ part.down.double(), part.scale))
    np.testing.assert_allclose(sums(turned).gram, sums(parts).gram, rtol=1e-12, atol=1e-10)


def test_single_precision_is_good_to_its_floor():
    parts = adapters(3, [8] * 10)
    dense = products(parts)
    truth = dense @ dense.T
    assert np.abs(sums(parts, kind=torch.float32).gram - truth).max() < 1e-6 * np.linalg.norm(truth, 2)


def test_a_non_finite_adapter_is_found():
    parts = adapters(4, [2, 2, 2])
    parts[1].down[0, 0] = torch.nan
    found = sums(parts)
    assert found.finite.tolist() == [True, False, True]
    assert np.abs(found.gram[1]).sum() == 0
    assert found.non_finite.tolist() == [0, 1, 0]


# Each leaves the factors finite as they are stored, but not what they become in single precision.
SPOILT = {
    "large factors": LowRank(torch.full((20, 2), 1e25), torch.full((2, 30), 1e25), 1.0),
    "large scale": LowRank(torch.ones(20, 2), torch.ones(2, 30), 1.5e38),
    "scale beyond float32": LowRank(torch.ones(20, 2), torch.ones(2, 30), 1e300),
    "scale not a number": LowRank(torch.ones(20, 2), torch.ones(2, 30), math.nan),
    "infinite down": LowRank(torch.ones(20, 2), torch.full((2, 30), torch.inf), 1.0),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_model_too_large_for_single_precision_leaves_the_others_as_they_are(case):
    parts = adapters(4, [2, 3, 2])
    found = sums([parts[0], SPOILT[case], *parts[1:]], kind=torch.float32)
    alone = sums(parts, kind=torch.float32)
    rest = [0, 2, 3]
    assert found.finite.tolist() == [True, False, True, True]
    assert np.isfinite(found.gram).all()
    np.testing.assert_allclose(found.gram[rest][:, rest], alone.gram, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found.power1[rest], alone.power1, rtol=1e-5, atol=1e-4)
    assert ("its scale is nan" in found.reasons.values()) == (case == "scale not a number")


def test_a_large_adapter_is_held_by_double_precision():
    parts = [*adapters(4, [2, 3]), SPOILT["large factors"]]
    dense = products(parts)
    found = sums(parts)
    assert found.finite.all()
    np.testing.assert_allclose(found.gram, dense @ dense.T, rtol=1e-10)


def test_factors_are_read_only_while_they_fit():
    read = []

    class Counted(Held):
        def read(self, layer, rows=None, *, into=None):
            read.append(layer)
            return self.part

    with pytest.raises(BudgetError, match="factors of 3 of 50 adapters"):
        low_rank.sums(
            [Counted(part) for part in adapters(5, [2] * 50)],
            LAYER, kind=torch.float64, device=torch.device("cpu"), options=ComputeOptions(budget=500),
        )  # fmt: skip
    assert len(read) == 3


def test_mixed_kinds_and_too_small_a_budget_are_refused():
    parts = adapters(5, [2, 2])
    with pytest.raises(LayerError, match="dense here and low-rank"):
        sums([parts[0], torch.zeros(20, 30)])
    with pytest.raises(BudgetError, match="factors of 1 of 2 adapters"):
        sums(parts, budget=100)


def test_the_shipped_adapters_give_the_gram_of_their_multiplied_updates():
    collection = uws.collect("demo:lora")
    layer = collection.by_name["blocks.1.mlp.up.weight"]
    parts = [open_source(ref).read(layer.name) for ref in collection.refs]
    dense = products(parts)
    away = dense - dense.mean(axis=0)
    found = uws.gram(collection, layer)
    scale = np.linalg.norm(dense @ dense.T, 2)
    np.testing.assert_allclose(found.values, away @ away.T, atol=1e-6 * scale)
    np.testing.assert_allclose(found.about("zero"), dense @ dense.T, atol=1e-6 * scale)
    np.testing.assert_allclose(found.to_center, away @ dense.mean(axis=0), atol=1e-6 * scale)
    assert found.center_norm2 == pytest.approx(np.sum(dense.mean(axis=0) ** 2), rel=1e-4)


@pytest.mark.parametrize("view", ["A", "B"])
def test_the_spectrum_of_a_factor_view_is_that_of_vlora(view):
    models = uws.collect("demo:lora")
    shared = SharedSubspace.from_adapters([load_adapter(ref.repo) for ref in models.refs], num_components=39)
    theirs = shared.singular_values_a if view == "A" else shared.singular_values_b
    for name, singular in list(theirs.items())[:4]:
        ours = uws.spectrum(uws.gram(models, f"{name}.weight:{view}")).variances
        np.testing.assert_allclose(ours[:20], singular.double()[:20] ** 2, rtol=1e-4)
