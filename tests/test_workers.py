"""Several threads on slabs of their own: the same sums whoever does them, and nothing of them is left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from threadpoolctl import threadpool_info

import uws_core as uws
from uws_core.errors import Cancelled
from uws_core.passes import workers
from uws_core.passes.gram import gram

N, SHAPE, BUDGET = 5, (96, 64), 2 * 5 * 64 * 4 * 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for number in range(N):
        save_file({"a.weight": torch.randn(SHAPE, generator=generator)}, tmp_path / f"m{number}.safetensors")
    return tmp_path


def with_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = replace(workers._threads(), cores=cores)
    monkeypatch.setattr(workers, "_threads", lambda: threads)


def test_the_number_of_lanes_changes_rounding_of_double_sums_only(folder: Path, monkeypatch: pytest.MonkeyPatch):
    collection = uws.collect(folder)
    found = []
    for cores in (1, 2, 7):
        with_cores(cores, monkeypatch)
        found.append(gram(collection, "a.weight", budget=BUDGET))
    for one in found[1:]:
        np.testing.assert_allclose(one.values, found[0].values, rtol=0, atol=1e-13 * np.abs(one.values).max())
        np.testing.assert_allclose(one.entry_stats.power4, found[0].entry_stats.power4, rtol=1e-13)
        np.testing.assert_array_equal(one.entry_stats.largest, found[0].entry_stats.largest)


def test_the_same_call_gives_the_same_bits(folder: Path):
    collection = uws.collect(folder)
    first, second = (gram(collection, "a.weight", budget=BUDGET) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def test_more_models_than_lanes_are_for_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch):
    collection = uws.collect(folder)
    expected = gram(collection, "a.weight", budget=BUDGET)
    monkeypatch.setattr(workers, "MOST_MODELS", 2)
    found = gram(collection, "a.weight", budget=BUDGET)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-13 * np.abs(expected.values).max())


def test_threads_are_given_back_also_after_a_stop_and_with_two_passes_at_once(folder: Path):
    collection = uws.collect(folder)

    def usual() -> tuple[object, ...]:
        return torch.get_num_threads(), [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = usual()

    def stop(fraction: float, message: str) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        gram(collection, "a.weight", budget=BUDGET, report=stop)
    assert usual() == before
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: gram(collection, "a.weight", budget=BUDGET), range(8)))
        assert pool.submit(torch.get_num_threads).result() == before[0]
    assert usual() == before


@pytest.mark.parametrize("precision", ["auto", "double"])
@pytest.mark.parametrize("kinds", [("bfloat16",), ("float16",), ("float32",), ("bfloat16", "float16", "float32")])
def test_numbers_of_half_the_size_give_the_same_bits_as_those_they_stand_for(
    tmp_path: Path, kinds: tuple[str, ...], precision: str
):
    generator = torch.Generator().manual_seed(0)
    for name in ("small", "wide"):
        (tmp_path / name).mkdir()
    for number in range(N):
        weights = torch.randn(SHAPE, generator=generator).to(getattr(torch, kinds[number % len(kinds)]))
        if number == 3:
            weights[7, 5] = torch.nan
        save_file({"a.weight": weights}, tmp_path / "small" / f"m{number}.safetensors")
        save_file({"a.weight": weights.float()}, tmp_path / "wide" / f"m{number}.safetensors")
    small, wide = (
        gram(uws.collect(tmp_path / name), "a.weight", budget=2 * BUDGET, precision=precision)
        for name in ("small", "wide")
    )
    np.testing.assert_array_equal(small.values, wide.values)
    np.testing.assert_array_equal(small.entry_stats.power4, wide.entry_stats.power4)
    np.testing.assert_array_equal(small.usable, [True, True, True, False, True])
    assert small.left_out == wide.left_out
