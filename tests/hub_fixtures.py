"""What the tests of the Hub share: small models as bytes, and a process that talks to the stand-in alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from huggingface_hub import close_session
from safetensors.torch import save
from torch import Tensor

from tests.hub_standin import HubStandIn
from uws_core.sources.hub import hub
from uws_core.sources.hub.client import RetryPolicy

# As patient as in earnest, but in milliseconds.
QUICK = RetryPolicy(first_wait=0.002, longest_wait=0.01, timeout=5.0)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """The Hub of this test; nobody is logged in, and nothing is kept."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("UWS_HUB_KEEP", "0")
    with HubStandIn() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        hub.client().retry = QUICK
        yield running
    close_session()


def tensors(seed: int = 0, *, layers: int = 3, shape: tuple[int, int] = (24, 16)) -> dict[str, Tensor]:
    """Matrices `blocks.i.q.weight` and one vector, the same for a seed."""
    chance = torch.Generator().manual_seed(seed)
    matrices = {f"blocks.{i}.q.weight": torch.randn(shape, generator=chance) for i in range(layers)}
    return matrices | {"norm.bias": torch.ones(5)}


def files(seed: int = 0, **shape: object) -> dict[str, bytes]:
    """A repository with one model."""
    return {"README.md": b"a model", "config.json": b"{}", "model.safetensors": save(tensors(seed, **shape))}


def adapter(seed: int = 0, *, layers: int = 3, shape: tuple[int, int] = (300, 200), rank: int = 8) -> dict[str, bytes]:
    """A repository with a PEFT adapter."""
    chance = torch.Generator().manual_seed(seed)
    stored = {}
    for i in range(layers):
        module = f"base_model.model.model.layers.{i}.self_attn.q_proj"
        stored[f"{module}.lora_A.weight"] = torch.randn(rank, shape[1], generator=chance)
        stored[f"{module}.lora_B.weight"] = torch.randn(shape[0], rank, generator=chance)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": "lab/base"}
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(stored)}
