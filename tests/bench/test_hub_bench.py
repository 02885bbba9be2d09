"""What reading from the Hub moves and asks for, through the real client and the stand-in on this machine."""

from __future__ import annotations

import time

import pytest
import torch
from safetensors.torch import save

from tests.bench.measure import table, verdict
from tests.hub_fixtures import adapter, standin
from tests.hub_standin import HubStandIn
from uws_core.collection import collect
from uws_core.nouns.hub import HubQuery
from uws_core.passes.gram import gram

__all__ = ["standin"]

pytestmark = pytest.mark.bench

LAYER = "blocks.3.w"
# A round trip to another continent.
AWAY = 0.1


def checkpoint(seed: int, *, size: int = 512, depth: int = 6) -> dict[str, bytes]:
    chance = torch.Generator().manual_seed(seed)
    return {
        "model.safetensors": save({f"blocks.{i}.w": torch.randn(size, size, generator=chance) for i in range(depth)})
    }


@pytest.mark.parametrize("away", [0.0, AWAY])
def test_one_layer_of_fifty_models_moves_that_layer(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, away: float
) -> None:
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    for i in range(50):
        standin.add(f"lab/m{i}", checkpoint(i))
    standin.fail("*", "slow", times=10**9, seconds=away)
    began = time.perf_counter()
    found = collect(HubQuery(globs=("lab/m*",)))
    opened = time.perf_counter() - began
    headers = standin.bytes_sent("/blob/*")
    began = time.perf_counter()
    gram(found, LAYER)
    read = time.perf_counter() - began
    layer = 50 * 512 * 512 * 4
    ratio = (standin.bytes_sent("/blob/*") - headers) / layer
    with_headers = standin.bytes_sent("/blob/*") / layer
    one_by_one = 2 * 50 * away
    table(
        f"One layer of 50 models of 6 MiB, a round trip of {away * 1000:.0f} ms",
        ["open (s)", "read (s)", "read, were it one by one (s)", "bytes / layer's bytes", "with all headers"],
        [(opened, read, one_by_one or "-", verdict(ratio, 1.05), with_headers)],
    )
    assert ratio <= 1.05
    assert with_headers <= 1.05
    assert not away or read < one_by_one


@pytest.mark.parametrize("kind", ["checkpoint", "adapter"])
def test_opening_five_hundred_models(standin: HubStandIn, kind: str) -> None:
    for i in range(500):
        standin.add(f"lab/m{i}", adapter(i, layers=32, shape=(64, 64)) if kind == "adapter" else checkpoint(i, size=16))
    began = time.perf_counter()
    found = collect(HubQuery(globs=("lab/m*",), limit=500))
    took = time.perf_counter() - began
    asked, hops = len(standin.calls()) / 500, len(standin.quiet()) / 500
    table(
        f"A query of 500 models, each a {kind}",
        ["seconds", "requests a model", "with redirects followed", "bytes a model"],
        [(took, verdict(asked, 3), hops, standin.bytes_sent() / 500)],
    )
    assert len(found) == 500
    assert asked <= 3
