"""Tiny models, written to disk as people have them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from uws_core.nouns.models import LeftOut, LowRank, ModelRef


def model(seed: int = 0, *, head: int = 10, depth: int = 2) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    tensors = {f"blocks.{i}.q.weight": torch.randn(6, 4, generator=chance) for i in range(depth)}
    return tensors | {"head.weight": torch.randn(head, 4, generator=chance), "norm.bias": torch.ones(4)}


def reason(left_out: tuple[LeftOut, ...], what: str) -> str:
    found = [note.reason for note in left_out if note.what == what]
    assert len(found) == 1, (what, left_out)
    return found[0]


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance).to(dtype)

    return {
        "blocks.0.attn.q.weight": draw(7, 5),
        "blocks.0.conv.weight": draw(4, 3, 2, 2),
        "blocks.0.norm.bias": draw(5),
        "blocks.1.attn.q.weight": draw(7, 5),
        "head.weight": draw(10, 6),
    }


def matrices(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.reshape(value.shape[0], -1) for name, value in tensors.items() if value.ndim > 1}


def sharded(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    names = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    weight_map = {name: names[i % shards] for i, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensors[name] for name, home in weight_map.items() if home == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def written(folder: Path, tensors: dict[str, Tensor], config: dict[str, object] | None = None) -> ModelRef:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.clone().contiguous() for name, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return ModelRef(str(folder), "")


def dense(found: LowRank | Tensor) -> Tensor:
    assert isinstance(found, LowRank)
    return found.scale * (found.up.double() @ found.down.double())


def pair(seed: int, m: int = 8, p: int = 6, r: int = 2) -> tuple[Tensor, Tensor]:
    chance = draw(seed)
    return torch.randn(m, r, generator=chance), torch.randn(r, p, generator=chance)
