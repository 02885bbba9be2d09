"""Memory for slabs: the next layer has the last one's, nobody has another's, and it goes when nobody needs it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core.sources.files import buffers as module
from uws_core.sources.files.buffers import Buffers, buffers

MIB = 2**20
SHAPE = (8, 64, 4096)


def addresses(place: Buffers, count: int = 2, shape: tuple[int, int, int] = SHAPE) -> set[int]:
    with place.lent(count, shape, torch.float32) as lent:
        assert [tuple(one.shape) for one in lent] == [shape] * count
        assert all(one.dtype == torch.float32 and one.is_contiguous() for one in lent)
        return {one.data_ptr() for one in lent}


def test_the_next_layer_has_the_memory_of_the_last_also_in_another_type():
    place = Buffers()
    first = addresses(place)
    assert len(first) == 2
    assert addresses(place) == first
    # A little smaller, and half precision of twice as many: the same memory.
    assert addresses(place, shape=(8, 63, 4096)) == first
    with place.lent(2, (8, 128, 4096), torch.bfloat16) as lent:
        assert {one.data_ptr() for one in lent} == first


def test_what_does_not_fit_is_not_held_beside_what_does():
    place = Buffers()
    addresses(place, 3)
    assert place.free_bytes == 3 * 8 * MIB
    with place.lent(1, (8, 128, 4096), torch.float32):
        assert place.free_bytes == 0
    assert place.free_bytes == 16 * MIB
    addresses(place, 1, (8, 8, 8))
    assert place.free_bytes == 16 * MIB, "small ones come and go by themselves"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_nobody_has_what_a_thread_may_still_write_into(error: type[BaseException]):
    place = Buffers()
    with pytest.raises(error), place.lent(1, SHAPE, torch.float32) as (held,):
        raise error
    assert place.free_bytes == 0
    with place.lent(1, SHAPE, torch.float32) as (other,):
        other.fill_(1.0)
        held.fill_(7.0)
        assert bool((other == 1.0).all())


def test_it_goes_when_nobody_asks_for_it():
    place = Buffers(idle_seconds=0.3)
    for _ in range(4):
        addresses(place)
        time.sleep(0.1)
    assert place.free_bytes == 2 * 8 * MIB, "it was in use all the time"
    deadline = time.monotonic() + 10
    while place.free_bytes and time.monotonic() < deadline:
        time.sleep(0.02)
    assert place.free_bytes == 0
    addresses(place)
    assert place.free_bytes == 2 * 8 * MIB
    while place.free_bytes and time.monotonic() < deadline:
        time.sleep(0.02)
    assert place.free_bytes == 0, "watched again"


def test_nobody_has_what_another_has():
    place = Buffers()

    def work(number: int) -> bool:
        with place.lent(2, (4, 64, 4096), torch.float32) as lent:
            for one in lent:
                one.fill_(number)
            time.sleep(0.002)
            return all(bool((one == number).all()) for one in lent)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_what_was_there_before_leaves_no_trace(tmp_path: Path, kind: torch.dtype):
    chance = torch.Generator().manual_seed(0)
    for i in range(6):
        save_file({"w": torch.randn((700, 1024), generator=chance).to(kind)}, tmp_path / f"m{i}.safetensors")
    collection = uws.collect(str(tmp_path))
    buffers.cache_clear()
    before = uws.gram(collection, "w")
    place = buffers()
    assert place.free_bytes > 0
    with place._lock:
        for one in place._free:
            one.fill(255)
    after = uws.gram(collection, "w")
    assert np.array_equal(after.values, before.values)
    assert np.array_equal(after.to_center, before.to_center)
    assert after.usable.all()


def test_no_memory_but_the_last_layers_stays(monkeypatch: pytest.MonkeyPatch):
    made = list[int]()
    memory = module._memory
    monkeypatch.setattr(module, "_memory", lambda size: made.append(size) or memory(size))
    place = Buffers()
    for _ in range(5):
        addresses(place, 3)
    assert made == [8 * MIB] * 3
