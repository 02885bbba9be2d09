"""What reading from the Hub moves and asks for, through the real client and the stand-in on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.bench.measure import medians, table, verdict
from tests.hub_fixtures import adapter, standin
from tests.hub_standin import HubStandIn
from uws_core.collection import collect
from uws_core.nouns.hub import HubQuery
from uws_core.passes.gram import gram
from uws_core.run import scan
from uws_core.store.results import Store

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


def test_a_scan_of_adapters_asks_seldom(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    for i in range(50):
        standin.add(f"lab/m{i}", adapter(i, layers=32, shape=(1024, 1024), rank=8))
    found = collect(HubQuery(globs=("lab/m*",)))
    standin.fail("*", "slow", times=10**9, seconds=AWAY)
    before, sent, began = len(standin.quiet()), standin.bytes_sent("/blob/*"), time.perf_counter()
    with Store(tmp_path) as store:
        layers = len(list(scan(found, store=store)))
    took, moved = time.perf_counter() - began, standin.bytes_sent("/blob/*") - sent
    asked = (len(standin.quiet()) - before) / 50 / layers
    ratio = moved / (50 * layers * 2 * 1024 * 8 * 4)
    table(
        f"A scan of {layers} layers of 50 adapters, a round trip of {AWAY * 1000:.0f} ms",
        ["seconds", "requests a model and layer", "bytes / their bytes"],
        [(took, verdict(asked, 0.5), verdict(ratio, 1.05))],
    )
    assert asked <= 0.5
    assert ratio <= 1.05


def test_what_is_kept_is_read_as_from_a_folder(
    standin: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UWS_HUB_KEEP", "4GiB")
    for i in range(50):
        stored = save({"w": torch.randn(768, 3072, generator=torch.Generator().manual_seed(i))})
        (tmp_path / f"m{i}.safetensors").write_bytes(stored)
        standin.add(f"lab/m{i}", {"model.safetensors": stored})
    here, far = collect(tmp_path), collect(HubQuery(globs=("lab/m*",)))
    gram(far, "w")
    took = medians({"kept": lambda: gram(far, "w"), "folder": lambda: gram(here, "w")})
    ratio = took["kept"] / took["folder"]
    table(
        "A layer of 768 x 3072 of 50 models, kept on disk after it was read from the Hub",
        ["from a folder (s)", "times as long from what is kept"],
        [(took["folder"], verdict(ratio, 2.0))],
    )
    assert ratio <= 2.0


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
