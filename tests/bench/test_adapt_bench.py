"""A step of coefficient training against a LoRA step of equal rank, ours and PEFT's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import peft
import pytest
import torch
from torch import nn

from tests.bench.measure import medians, table, verdict
from uws_core.nouns.adapting import Row
from uws_core.nouns.models import LayerKey
from uws_core.use.adapt.bases import Basis, LayerBasis, random_like
from uws_core.use.adapt.modules import adapted, linear_modules, row_modules, trainable_numbers

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
SIDE, LAYERS, ROWS, RANK = 1024, 4, 256, 16
# Steps in one timing: on a GPU one step is shorter than the clock is sure of.
STEPS = {"cpu": 1, "cuda": 50}


def network(device: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(SIDE, SIDE) for _ in range(LAYERS))).to(device)


def basis() -> Basis:
    """Sixteen directions a side: cores of 256 numbers, LoRA of rank 16 has 32,768."""
    sides = np.linalg.qr(np.random.default_rng(0).standard_normal((SIDE, RANK)))[0]
    layers = (
        LayerBasis(LayerKey(f"{i}.weight", (SIDE, SIDE)), sides, sides, np.zeros((0, RANK, RANK)), np.zeros(0))
        for i in range(LAYERS)
    )
    return random_like(Basis(tuple(layers)), 0)


def stepping(model: nn.Module, parameters: list[nn.Parameter], device: str) -> Callable[[], None]:
    """One timing: forward, backward and AdamW on a batch of 256 rows."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    batch = torch.randn(ROWS, SIDE, device=device)

    def steps() -> None:
        for _ in range(STEPS[device]):
            optimiser.zero_grad(set_to_none=True)
            model(batch).square().mean().backward()
            optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return steps


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_coefficient_step_against_a_lora_step_of_equal_rank(device: str) -> None:
    whole, rows = basis(), {}
    # The layers stay in place until every row is timed.
    with ExitStack() as held:
        for row in (Row.SHARED, Row.DIAGONAL, Row.LORA):
            model = network(device)
            modules = row_modules(row, whole, linear_modules(model, whole), 0)
            if row is Row.LORA:
                # Rank 16, as many directions as the basis has; the row of a comparison has equal numbers instead.
                for module in modules.values():
                    module.lora_a = nn.Parameter(torch.randn(RANK, SIDE, device=device) / SIDE**0.5)
                    module.lora_b = nn.Parameter(torch.zeros(SIDE, RANK, device=device))
            trained = held.enter_context(adapted(model, modules, ()))
            rows[str(row)] = stepping(model, list(trained.values()), device)
            if row is not Row.LORA:
                assert sum(value.numel() for value in trained.values()) == trainable_numbers(row, whole)
        ratio = _timed(rows, device)
    assert ratio < 1.25, "far beyond the target: not the noise of a shared machine"


def _timed(rows: dict[str, Callable[[], None]], device: str) -> float:
    """Coefficients against LoRA, with PEFT's own beside them, as a table."""
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=[str(i) for i in range(LAYERS)])
    other = peft.get_peft_model(network(device), config)
    rows["PEFT LoRA"] = stepping(other, [value for value in other.parameters() if value.requires_grad], device)
    seconds = medians(rows, rounds=15)
    table(
        f"A step on {LAYERS} layers of {SIDE} x {SIDE}, batch {ROWS}, rank {RANK}, {device}",
        ("what is trained", "ms a step", "times our LoRA"),
        [(name, 1e3 * spent / STEPS[device], spent / seconds["LoRA"]) for name, spent in seconds.items()],
    )
    ratio = seconds["shared"] / seconds["LoRA"]
    print(f"coefficients / LoRA of equal rank: {verdict(ratio, 1.1)}")
    print(f"coefficients / PEFT's LoRA of equal rank: {verdict(seconds['shared'] / seconds['PEFT LoRA'], 1.1)}")
    return ratio
