"""Merges formed by an executor's workers: the same bytes, a stop that is noticed, and a lost worker that costs time."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import uws_core as uws
from tests.test_merge import network
from tests.test_merge_second_opinion import peft_adapters
from uws_core.errors import Cancelled, ClusterError, LayerError
from uws_core.nouns.models import Collection

pytestmark = pytest.mark.usefixtures("results_folder")


class Sent(Executor):
    """Threads that are sent items as bytes, as a cluster is; those after the first `lasting` are lost."""

    def __init__(self, lasting: int = 10**6) -> None:
        self._pool, self._left = ThreadPoolExecutor(2), lasting
        self.items: list[int] = []

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future:
        item = pickle.dumps((fn, args, kwargs))
        self.items.append(len(item))
        self._left -= 1

        def work() -> object:
            done, given, named = pickle.loads(item)
            return pickle.loads(pickle.dumps(done(*given, **named)))

        def lost() -> object:
            raise BrokenProcessPool("the worker died")

        return self._pool.submit(work if self._left >= 0 else lost)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    place = tmp_path_factory.mktemp("networks")
    network(place / "base", 0, step=0.0)
    return uws.collect([str(network(place / f"m{i}", i + 1)) for i in range(3)], base=str(place / "base"))


def same(one: Path, other: Path) -> None:
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


# A budget of a few rows of all models; methods of factors hold whole matrices.
@pytest.mark.parametrize("budget", [2**28, 2**15])
@pytest.mark.parametrize("method", ["mean", "ties", "dare", "sce", "karcher", "core"])
def test_workers_write_the_same_bytes(networks: Collection, tmp_path: Path, method: str, budget: int) -> None:
    budget = 2**28 if method == "core" else budget
    sent = Sent()
    draft = uws.merge(networks, method=method, budget=budget, executor=sent)
    alone = uws.merge(networks, method=method, budget=budget)
    np.testing.assert_allclose(draft.whole.to_members2, alone.whole.to_members2, rtol=1e-12)
    folder = draft.write(tmp_path / "sent", shard_bytes=9000, executor=sent)
    same(alone.write(tmp_path / "alone", shard_bytes=9000), folder)
    # A layer is an item; TIES looks at all layers twice before.
    layers = len(networks.layers)
    assert len(sent.items) == layers * (6 if method == "ties" else 2)
    assert max(sent.items) < 20_000


@pytest.mark.parametrize("method", ["mean", "ties", "tsv"])
def test_adapters_are_merged_there_too(tmp_path: Path, method: str) -> None:
    adapters = uws.collect(peft_adapters(tmp_path / "adapters"))
    sent = Sent()
    draft = uws.merge(adapters, method=method, rank=4, executor=sent)
    folder = draft.write(tmp_path / "sent", executor=sent)
    same(uws.merge(adapters, method=method, rank=4).write(tmp_path / "alone"), folder)
    assert len(sent.items) == 4


def test_a_lost_worker_leaves_what_is_written(networks: Collection, tmp_path: Path) -> None:
    draft = uws.merge(networks)
    done: list[str] = []
    with pytest.raises(ClusterError, match=r"the worker died.*write the same merge again"):
        draft.write(tmp_path / "w", executor=Sent(lasting=1), report=lambda _, message: done.append(message))
    assert not (tmp_path / "w").exists()
    assert 0 < len(done) < 5
    again: list[str] = []
    folder = draft.write(tmp_path / "w", report=lambda _, message: again.append(message))
    assert not set(done) & set(again)
    same(draft.write(tmp_path / "alone"), folder)


def test_a_stop_is_noticed_while_workers_are_busy(networks: Collection, tmp_path: Path) -> None:
    class Never(Executor):
        futures: ClassVar[list[Future]] = []

        def submit(self, fn: object, /, *args: object, **kwargs: object) -> Future:
            self.futures.append(Future())
            return self.futures[-1]

    def stop(fraction: float, message: str) -> None:
        if message == "waiting for the workers":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        uws.merge(networks).write(tmp_path / "w", executor=Never(), report=stop)
    assert Never.futures
    assert all(future.cancelled() for future in Never.futures)


def test_nan_is_named_from_there_and_nothing_is_left(networks: Collection, tmp_path: Path) -> None:
    bad = network(tmp_path / "bad", 5)
    tensors = load_file(bad / "model.safetensors")
    tensors["blocks.1.q.weight"][3, 3] = torch.nan
    save_file(tensors, bad / "model.safetensors")
    assert networks.base is not None
    collection = uws.collect([str(bad), networks.refs[0].repo], base=networks.base.repo)
    with pytest.raises(LayerError, match=r"blocks\.1\.q\.weight: weights of bad"):
        uws.merge(collection, executor=Sent())
