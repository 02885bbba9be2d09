"""The preview of a merge: how long a changed weight takes for every method of a hundred models in 200 layers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.measure import medians, table
from uws_core.analysis.merge_methods import combine, possible
from uws_core.analysis.merge_preview import standing
from uws_core.nouns.merge_preview import MergeGrams
from uws_core.nouns.merging import Convention, MergeRecipe
from uws_core.nouns.models import LayerKey

pytestmark = pytest.mark.bench

LAYERS, MODELS = 200, 100
SCALES = np.linspace(0, 2.5, 26)


def test_every_method_at_every_scale_after_a_changed_weight() -> None:
    rng = np.random.default_rng(0)
    updates = rng.normal(size=(LAYERS, MODELS, 150))
    grams = MergeGrams(
        layers=tuple(LayerKey(f"blocks.{place}.q", (10, 15)) for place in range(LAYERS)),
        labels=tuple(map(str, range(MODELS))),
        updates=updates @ updates.swapaxes(1, 2),
        to_base=rng.normal(size=(LAYERS, MODELS)),
        base_norm2=np.full(LAYERS, 1e3),
        sharpest=np.full(LAYERS, 1e-9),
        has_base=True,
    )

    def change(convention: Convention) -> None:
        weights = tuple(rng.uniform(0.5, 1.5, MODELS))
        for method in possible(grams):
            recipe = MergeRecipe(method=method, weights=weights, rank=8, convention=convention)
            standing(grams, combine(grams, recipe), SCALES)

    took = medians({f"as in {one}": lambda one=one: change(one) for one in (Convention.PAPER, Convention.MERGEKIT)})
    rows = [(*one, 0.15) for one in took.items()]
    table("All methods of 100 models in 200 layers at 26 scales", ["rules", "seconds", "at most"], rows)
    assert max(took.values()) <= 0.15
