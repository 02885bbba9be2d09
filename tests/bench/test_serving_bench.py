"""Serving one member a row from a shared basis, against PEFT's mixed batch and against the base layer alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

import uws_core as uws
from tests.bench.measure import apart, medians, table, verdict

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIDE, RANK, MEMBERS = 1024, 16, 64
# Calls in one timing: on a GPU one call is shorter than the clock is sure of.
CALLS = {"cpu": 5, "cuda": 200}


def adapters(folder: Path, n: int, rank: int = RANK) -> Path:
    """`n` PEFT adapters of one square module."""
    rng = torch.Generator().manual_seed(0)
    for index in range(n):
        place = folder / f"a{index:03d}"
        place.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
        (place / "adapter_config.json").write_text(json.dumps(config))
        factors = {"lora_A": torch.randn(rank, SIDE, generator=rng), "lora_B": torch.randn(SIDE, rank, generator=rng)}
        tensors = {f"base_model.model.q_proj.{name}.weight": value / 32 for name, value in factors.items()}
        save_file(tensors, place / "adapter_model.safetensors")
    return folder


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q_proj = nn.Linear(SIDE, SIDE)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.q_proj(x)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sixty-four adapters compressed with sixteen directions a side, by both forms of core."""
    place = tmp_path_factory.mktemp("bench")
    models = uws.collect(adapters(place / "adapters", MEMBERS))
    return {
        method: uws.compress(models, kept=RANK, method=method).write(place / method)
        for method in ("two-sided", "diagonal")
    }


@pytest.fixture(scope="module")
def by_peft(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PeftModel:
    """The same members rebuilt, all loaded by PEFT."""
    rebuilt = uws.rebuild(folders["two-sided"], tmp_path_factory.mktemp("rebuilt"))
    model = PeftModel.from_pretrained(Layer(), rebuilt[0], adapter_name="a000")
    for place in rebuilt[1:]:
        model.load_adapter(place, adapter_name=place.name)
    return model.eval()


def on(device: str, route: Callable[[], object]) -> Callable[[], None]:
    """The route as often as one timing holds, with the device at rest before and after."""

    def timed() -> None:
        for _ in range(CALLS[device]):
            route()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed


def where(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tokens", [1, 16])
def test_a_member_a_row(folders: dict[str, Path], by_peft: PeftModel, device: str, tokens: int) -> None:
    x = torch.randn(MEMBERS, tokens, SIDE, generator=torch.Generator().manual_seed(1)).to(device)
    full, diagonal = (uws.serving.attach(Layer().to(device), folders[name]) for name in ("two-sided", "diagonal"))
    names = list(full.members)
    theirs, base = by_peft.to(device), Layer().to(device)
    left, right = (torch.randn(SIDE, RANK, device=device) for _ in range(2))
    stacked = [
        torch.stack([theirs.base_model.model.q_proj.get_submodule(f"lora_{side}")[name].weight for name in names])
        for side in "AB"
    ]
    compiled = torch.compile(full.model)

    def shared(model: nn.Module, handle: object) -> Tensor:
        with handle.using(names):
            return model(x)

    routes = {
        "base layer": lambda: base(x),
        "base layer and two products": lambda: base(x) + (x @ right) @ left.T,
        "shared basis, k x k cores": lambda: shared(full.model, full),
        "shared basis, diagonal cores": lambda: shared(diagonal.model, diagonal),
        "shared basis, k x k cores, compiled": lambda: shared(compiled, full),
        "LoRAs gathered, two batched products": lambda: base(x) + torch.bmm(torch.bmm(x, stacked[0].mT), stacked[1].mT),
        "PEFT adapter_names": lambda: theirs(x, adapter_names=names),
    }
    torch.testing.assert_close(shared(full.model, full), theirs(x, adapter_names=names), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shared(compiled, full), shared(full.model, full), rtol=1e-4, atol=1e-4)
    found = {name: s / CALLS[device] for name, s in medians({n: on(device, r) for n, r in routes.items()}).items()}
    yardstick = found["base layer and two products"]
    rows = [(name, 1e3 * seconds, seconds / yardstick) for name, seconds in found.items()]
    title = f"64 rows of {tokens} tokens for 64 members, {SIDE} x {SIDE}, rank {RANK}, {where(device)}"
    table(title, ("route", "ms", "ratio"), rows)
    ours = found["shared basis, k x k cores"]
    print("shared / base and two products:", verdict(ours / yardstick, 1.5))
    print("shared / PEFT adapter_names:", verdict(ours / found["PEFT adapter_names"], 1))
    assert ours < found["PEFT adapter_names"]


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
def test_switching(folders: dict[str, Path], by_peft: PeftModel, device: str) -> None:
    x = torch.randn(1, SIDE, generator=torch.Generator().manual_seed(1)).to(device)
    served, theirs, base = (
        uws.serving.attach(Layer().to(device), folders["two-sided"]),
        by_peft.to(device),
        Layer().to(device),
    )
    state = {"turn": 0}

    def another() -> str:
        state["turn"] += 1
        return served.members[state["turn"] % MEMBERS]

    def shared() -> None:
        with served.using(another()):
            served.model(x)

    def peft() -> None:
        theirs.set_adapter(another())
        theirs(x)

    routes = {"base layer": lambda: base(x), "another member, shared basis": shared, "another adapter, PEFT": peft}
    found = {name: s / CALLS[device] for name, s in medians({n: on(device, r) for n, r in routes.items()}).items()}
    title = f"one row, each call another member, one layer of {SIDE} x {SIDE}, {where(device)}"
    table(title, ("route", "ms"), [(name, 1e3 * seconds) for name, seconds in found.items()])
    # All that the call takes beyond the base layer, switching and two products.
    extra = 1e3 * (found["another member, shared basis"] - found["base layer"])
    print("switch and serve beyond the base layer, ms:", verdict(extra, 1))
    assert extra < 1


HELD = """
import gc, json, sys, torch
from tests.bench.measure import _anonymous_mib
from tests.bench.test_serving_bench import Layer
import uws_core as uws
device = sys.argv[2]
warm = uws.serving.attach(Layer().to(device), sys.argv[3])
model = Layer().to(device)
gc.collect()
before = torch.cuda.memory_allocated() / 2**20 if device == "cuda" else _anonymous_mib()
served = uws.serving.attach(model, sys.argv[1])
gc.collect()
after = torch.cuda.memory_allocated() / 2**20 if device == "cuda" else _anonymous_mib()
print(json.dumps({"grown_mib": after - before, "held": served.bytes_held}))
"""


@pytest.mark.parametrize("device", DEVICES)
def test_five_hundred_members_in_memory(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, device: str
) -> None:
    n, k = 500, 64
    place = tmp_path_factory.mktemp("many")
    written = uws.compress(uws.collect(adapters(place / "adapters", n)), kept=k).write(place / "c")
    measured = apart(HELD, str(written), device, str(folders["two-sided"]))
    counted = 4 * (2 * SIDE * k + n * k * k) / 2**20
    raw = 4 * n * RANK * 2 * SIDE / 2**20
    rows = [
        ("basis and coefficients, counted", counted),
        ("tensors held", measured["held"] / 2**20),
        ("memory of the process grew by", measured["grown_mib"]),
        ("the adapters themselves", raw),
    ]
    table(f"500 members, k = {k}, {SIDE} x {SIDE}, {where(device)}", ("what", "MiB"), rows)
    print("held / counted:", verdict(measured["held"] / 2**20 / counted, 1.05))
    print("grown / counted:", verdict(measured["grown_mib"] / counted, 1.05))
    assert measured["held"] / 2**20 < 1.05 * counted
