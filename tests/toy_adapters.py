"""A toy network whose adapters lie exactly in one basis: what serving and TinyLoRA must give back is known."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Scaled(nn.Module):
    """A norm, and a gain that belongs to no layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.norm = nn.Parameter(torch.zeros(width)), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) * self.gain


class Toy(nn.Module):
    """Two linear layers with a scaled norm between, always the same random weights."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.scaled, self.second = nn.Linear(12, width), Scaled(width), nn.Linear(width, width)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 2
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.scaled(self.first(x))))


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, 12, generator=torch.Generator().manual_seed(9))


def planted(place: Path, count: int = 6, *, k: int = 3, width: int = 16, diagonal: bool = False) -> Path:
    """Adapters of the toy whose updates lie exactly in one basis of k directions a side."""
    generator = torch.Generator().manual_seed(1)
    sides = {"first": (width, 12), "second": (width, width)}
    bases = {
        name: [torch.linalg.qr(torch.randn(side, k, generator=generator))[0] for side in sizes]
        for name, sizes in sides.items()
    }
    for number in range(count):
        tensors = {}
        for name, (left, right) in bases.items():
            core = torch.randn(k, k, generator=generator)
            core = torch.diag(torch.diagonal(core)) if diagonal else core
            tensors[f"base_model.model.{name}.lora_A.weight"] = (core @ right.T).contiguous()
            tensors[f"base_model.model.{name}.lora_B.weight"] = left.contiguous()
        (place / f"m{number}").mkdir(parents=True)
        save_file(tensors, place / f"m{number}" / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": k, "lora_alpha": k, "target_modules": ["first", "second"]}
        (place / f"m{number}" / "adapter_config.json").write_text(json.dumps(config))
    return place


def merged(place: Path, name: str, model: nn.Module) -> nn.Module:
    """The model with an adapter multiplied out into its weights."""
    tensors = load_file(place / name / "adapter_model.safetensors")
    result = copy.deepcopy(model)
    for path in ("first", "second"):
        pair = (tensors[f"base_model.model.{path}.lora_{side}.weight"] for side in "BA")
        up, down = pair
        result.get_submodule(path).weight.data += up @ down
    return result
