"""LoRA adapters of the tiny transformer, in the file layout of the PEFT library.

An adapter adds `scale * B @ A` to every block matrix (Hu et al. 2021, arXiv 2106.09685): A (rank, p) starts random, B
(m, rank) starts at zero, `scale = alpha / rank`. The task head is trained whole and travels in the adapter's file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uws_core.zoo import vit

RANK = 4
ALPHA = 8
SCALE = ALPHA / RANK
PREFIX = "base_model.model."
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


def initial_down(generator: torch.Generator) -> vit.Weights:
    """Fresh A factors (rank, p) for all 18 block matrices, uniform within 1 / sqrt(p) as PEFT draws them."""
    factors: vit.Weights = {}
    for name, (_, p) in vit.block_matrices().items():
        draw = torch.rand((RANK, p), generator=generator) * 2 - 1
        factors[_key(name, "A")] = draw / math.sqrt(p)
    return factors


def initial_up() -> vit.Weights:
    """The B factors (m, rank) before training: zero, so that the adapted network starts as the base."""
    return {_key(name, "B"): torch.zeros(m, RANK) for name, (m, _) in vit.block_matrices().items()}


def merge(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> vit.Weights:
    """The base's weights with the adapter's updates added and its head put in."""
    merged = dict(base)
    for name in vit.block_matrices():
        merged[name] = base[name] + SCALE * adapter[_key(name, "B")] @ adapter[_key(name, "A")]
    return merged | {name: adapter[PREFIX + name] for name in ("head.weight", "head.bias")}


def with_head(adapter: vit.Weights, head: vit.Weights) -> vit.Weights:
    """The adapter with a task head under the adapter file's names."""
    return adapter | {PREFIX + name: tensor for name, tensor in head.items()}


def save(adapter: vit.Weights, folder: Path) -> None:
    """Write one adapter as PEFT does: a folder with its configuration and its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "base.safetensors",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "target_modules": ["q", "k", "v", "o", "up", "down"],
        "modules_to_save": ["head"],
        "inference_mode": True,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    save_file(adapter, folder / WEIGHTS_FILE)


def load(folder: Path) -> vit.Weights:
    """The tensors of one adapter, under the names of its file."""
    return load_file(folder / WEIGHTS_FILE)


def _key(name: str, factor: str) -> str:
    return PREFIX + name.replace(".weight", f".lora_{factor}.weight")
