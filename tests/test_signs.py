"""Opposed signs of updates: the arcsine law, planted conflicts, and how often chance alone alarms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core import run
from uws_core.errors import NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.merge_preview import SignConflict
from uws_core.nouns.models import Collection
from uws_core.passes import signs
from uws_core.passes.signs import sign_conflict
from uws_core.sources.opening import open_source
from uws_core.store.codec import from_bytes, to_bytes
from uws_core.store.results import Store

NAME = "layers.0.q.weight"
M, P = 64, 96


def written(folder: Path, updates: Floats, *, seed: int = 0) -> Collection:
    """Models of one layer that lie `updates` (n, m, p) from a random base."""
    base = np.random.default_rng(seed).normal(size=updates.shape[1:])
    models = folder / "models"
    models.mkdir(parents=True)
    save_file({NAME: torch.from_numpy(base)}, folder / "base.safetensors")
    for index, update in enumerate(updates):
        save_file({NAME: torch.from_numpy(base + update)}, models / f"m{index:02}.safetensors")
    return uws.collect(models, base=folder / "base.safetensors")


def correlated(rho: float, *, seed: int) -> Floats:
    """Two Gaussian updates with this correlation."""
    one, other = np.random.default_rng(seed).normal(size=(2, M, P))
    return np.stack([one, rho * one + np.sqrt(1 - rho**2) * other])


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.6])
def test_gaussian_updates_follow_the_arcsine_law(tmp_path: Path, rho: float) -> None:
    found = sign_conflict(written(tmp_path, correlated(rho, seed=1)), NAME)
    law = np.arccos(rho) / np.pi
    assert found.share[0, 1] == pytest.approx(law, abs=0.02)
    assert found.reflected[0, 1] == pytest.approx(law, abs=0.02)
    assert found.expected[0, 1] == pytest.approx(law, abs=0.02)
    assert abs(found.z[0, 1]) < 3
    assert found.entries[0, 1] == M * P


def test_a_conflict_of_small_entries_shows_although_the_cosine_is_high(tmp_path: Path) -> None:
    one = np.random.default_rng(2).normal(size=(M, P))
    found = sign_conflict(written(tmp_path, np.stack([one, np.where(np.abs(one) > 1, one, -one)])), NAME)
    # The share of a normal variable within one deviation; the cosine .6 predicts .295.
    assert found.share[0, 1] == pytest.approx(0.6827, abs=0.02)
    assert found.excess[0, 1] > 0.15
    assert found.z[0, 1] > 10


def test_signs_are_those_of_numpy_and_zeros_do_not_count(tmp_path: Path) -> None:
    updates = correlated(0.3, seed=3)
    updates[0, :, :10] = 0.0
    found = sign_conflict(written(tmp_path, updates), NAME)
    product = (updates[0] * updates[1])[:, 10:]
    assert found.entries[0, 1] == product.size
    assert found.share[0, 1] == pytest.approx(np.mean(product < 0), abs=1e-12)


@pytest.mark.parametrize("likeness", [0.0, 1.0], ids=["independent with heavy tails", "alike to many degrees"])
def test_chance_alone_alarms_as_rarely_as_the_error_says(tmp_path: Path, likeness: float) -> None:
    rng = np.random.default_rng(4)
    # A common profile of scales makes entries of heavy tails also where they are Gaussian inside a row.
    scales = np.exp(rng.normal(size=(M, 1))) * np.exp(0.5 * rng.normal(size=P))
    common = likeness * np.linspace(0, 2, 24)[:, None, None] * rng.normal(size=(M, P))
    noise = rng.normal(size=(24, M, P)) if likeness else rng.standard_t(4, size=(24, M, P))
    z = sign_conflict(written(tmp_path, scales * (noise + common)), NAME).z[np.triu_indices(24, 1)]
    assert np.mean(np.abs(z) > 2) < 0.08
    assert np.abs(z).max() < 4.5
    assert 0.5 < z.std() < 1.2


def test_heavy_tails_on_a_common_part_agree_more_and_never_alarm(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    updates = rng.standard_t(3, size=(8, M, P)) + rng.normal(size=(M, P))
    assert sign_conflict(written(tmp_path, updates), NAME).z.max() < 2


def test_adapters_are_compared_as_the_updates_they_are() -> None:
    models = uws.collect("demo:lora")
    name, members = models.layers[0].name, [0, 5, 9]
    found = sign_conflict(models, name, members=members)
    dense = []
    for row in members:
        part = open_source(models.refs[row]).read(name)
        dense.append((part.up.double() @ part.down.double()).numpy() * part.scale)
    for i in range(3):
        for j in range(i):
            assert found.share[i, j] == pytest.approx(np.mean(dense[i] * dense[j] < 0), abs=2 / dense[i].size)


def test_a_large_layer_is_sampled_in_runs_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = written(tmp_path, correlated(0.5, seed=5))
    whole = sign_conflict(models, NAME)
    monkeypatch.setattr(signs, "MOST_ENTRIES", M * P // 2)
    half = sign_conflict(models, NAME)
    assert half.entries[0, 1] == M * P // 2
    assert half.share[0, 1] == pytest.approx(whole.share[0, 1], abs=0.02)
    assert [start for _, start, _ in signs._runs(64, 32)] == sorted({start for _, start, _ in signs._runs(64, 32)})
    assert max(stop for _, _, stop in signs._runs(64, 30)) <= 64


def test_nan_and_members_that_did_not_move_have_no_numbers(tmp_path: Path) -> None:
    updates = np.concatenate([correlated(0.5, seed=6), np.zeros((1, M, P)), np.full((1, M, P), np.nan)])
    found = sign_conflict(written(tmp_path, updates), NAME)
    assert np.isfinite(found.share[0, 1])
    assert np.isnan(found.share[0, 2:]).all()
    with pytest.raises(NotEnoughModels, match="1 is chosen"):
        sign_conflict(uws.collect("demo:lora"), "blocks.0.attn.k.weight", members=[3])


def test_conflicts_come_back_from_the_store(tmp_path: Path) -> None:
    found = sign_conflict(written(tmp_path, correlated(0.5, seed=7)), NAME)
    np.testing.assert_array_equal(from_bytes(SignConflict, to_bytes(found)).error, found.error)


def test_a_second_question_is_answered_from_the_store(tmp_path: Path) -> None:
    models = written(tmp_path, correlated(0.5, seed=8))
    with Store(tmp_path / "store") as store:
        found = run.cached_sign_conflict(models, NAME, store=store)
        for file in (tmp_path / "models").iterdir():
            file.unlink()
        again = run.cached_sign_conflict(models, NAME, store=store)
    np.testing.assert_array_equal(found.share, again.share)
