"""Adapters are compared with what they store: factors, not the updates that these make when multiplied."""

from __future__ import annotations

from pathlib import Path

import pytest

from uws_core.analysis.accounting import storage
from uws_core.collection import collect
from uws_core.nouns.evidence import Verdict
from uws_core.passes.stored_sizes import stored_sizes
from uws_core.reporting.evidence_cache import EvidenceSettings, cached_evidence
from uws_core.store.results import Store

KEY = "blocks.0.attn.k.weight"


def test_adapters_store_factors_and_whole_networks_do_not() -> None:
    lora = collect("demo:lora")
    # Rank 4, 32 x 32: 4 * 64 numbers for each of 40 models.
    sizes = stored_sizes(lora, [KEY])
    assert sizes.ranks == {KEY: (4,) * 40}
    assert sizes.numbers(lora.by_name[KEY], 40) == 40 * 256
    assert sizes.bytes == {KEY: 4 * 40 * 256}
    assert stored_sizes(lora, [lora.by_name[KEY]], [0, 3]).ranks == {KEY: (4, 4)}
    assert not [name for name in stored_sizes(lora).ranks if name.endswith((":A", ":B"))]
    scratch = stored_sizes(collect("demo:scratch"))
    assert not scratch.ranks
    assert all(size > 0 for size in scratch.bytes.values())


def test_sharing_adapters_is_compared_with_their_factors() -> None:
    lora = collect("demo:lora")
    dense = storage(lora, [KEY], kept=18, axis="models")
    found = storage(lora, [KEY], kept=18, axis="models", stored=stored_sizes(lora))
    # Combinations of the factors themselves, and 18 coefficients a model: less than 19 dense matrices.
    assert (found.shared, sum(found.dense)) == (10_240 + 40 * 18, 10_240)
    assert found.ratio == pytest.approx(10_240 / found.shared)
    assert found.ratio < 1 < dense.ratio
    assert found.factors
    assert not dense.factors


def test_the_claim_about_space_counts_factors_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, says in (("demo:lora", True), ("demo:finetuned", False)):
        models = collect(name)
        found = cached_evidence(models, [KEY], EvidenceSettings(tuple(range(40)), draws=19), store=store)["space"]
        assert ("10,240 numbers of the stored factors" in found.reason) is says
        assert (found.value < 1) is says
        assert found.verdict is Verdict.CHANCE if says else found.value > 1
