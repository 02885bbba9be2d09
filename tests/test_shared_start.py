"""`demo:lora`: twenty adapters began from one random A. Their A views say so in every layer, their updates in none."""

from __future__ import annotations

import numpy as np
import pytest

import uws_core as uws
from uws_core.nouns.models import Collection


@pytest.fixture(scope="module")
def adapters() -> Collection:
    return uws.collect("demo:lora")


def from_one(adapters: Collection) -> np.ndarray:
    return np.array(adapters.table["initialisation"]) == "A-shared"


def alike(adapters: Collection, layer: str) -> tuple[float, float]:
    """The mean cosine of two that began from one A, and of two that did not."""
    cosines, shared = uws.gram(adapters, layer).cosines("zero"), from_one(adapters)
    pairs = np.triu_indices(len(shared), 1)
    both = np.logical_and.outer(shared, shared)[pairs]
    return float(cosines[pairs][both].mean()), float(cosines[pairs][~both].mean())


def test_the_a_views_are_alike_and_the_updates_are_not(adapters: Collection):
    updates = [layer.name for layer in adapters.layers if not layer.factor]
    assert len(updates) == 18
    for name in updates:
        shared, others = alike(adapters, f"{name}:A")
        assert shared > 0.35
        assert abs(others) < 0.05
        for view in (name, f"{name}:B"):
            shared, others = alike(adapters, view)
            assert abs(shared - others) < 0.1


@pytest.mark.parametrize("name", ["blocks.0.attn.q.weight", "blocks.2.mlp.up.weight"])
def test_the_lineage_finds_exactly_these_twenty_and_none_among_the_updates(adapters: Collection, name: str):
    shared = from_one(adapters)
    groups = uws.lineage(uws.gram(adapters, f"{name}:A"), threshold=0.5).groups
    (common,) = set(groups[shared].tolist())
    assert shared.sum() == 20
    assert (groups == common).sum() == 20
    assert np.bincount(uws.lineage(uws.gram(adapters, name), threshold=0.5).groups).max() <= 3
