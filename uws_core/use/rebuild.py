"""Rebuild: members of a compressed folder as files that PEFT, vLLM, llama.cpp or transformers load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from uws_core.errors import CollectionError, ExportError
from uws_core.use.compressed_folder import CompressedFolder, open_compressed

TARGETS = ("peft", "vllm", "llama.cpp")
# The ranks that vLLM serves (vllm/config/lora.py).
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_PREFIX = "base_model.model."


def rebuild(
    folder: str | Path | CompressedFolder,
    into: str | Path,
    *,
    members: Sequence[str] | None = None,
    target: str = "peft",
    dtype: str = "float32",
) -> tuple[Path, ...]:
    """Writes members of a compressed collection into `into`, a folder each, and returns their folders.

    Adapters become PEFT folders that every loader reads alike: one rank for all modules, padded with zeros,
    `lora_alpha = r`, no patterns, the scale in the factors, singular values split evenly. `target` is what must load
    them: peft, vllm (next served rank) or llama.cpp. Whole models become one safetensors file with their `config.json`.

    Raises:
        CollectionError: an unknown member, or a target that cannot hold what the member has, such as a trained head.
        ExportError: a folder exists, or cannot be written.
    """
    source = folder if isinstance(folder, CompressedFolder) else open_compressed(folder)
    if target not in TARGETS:
        raise CollectionError(f"target is one of {', '.join(TARGETS)}; found {target!r}")
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}.get(dtype)
    if kind is None:
        raise CollectionError(f"dtype is float32, bfloat16 or float16; found {dtype!r}")
    names = tuple(members) if members is not None else source.members
    unknown = [name for name in names if name not in source.members]
    if unknown:
        raise CollectionError(
            f"{source.path.name} has no member {', '.join(unknown[:5])}; it has {len(source.members)}"
        )
    return tuple(_write(source, name, Path(into).expanduser() / _safe(name), target, kind) for name in names)


def peft_tensors(
    source: CompressedFolder, member: str, *, target: str = "peft"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns one adapter's tensors under PEFT's names, in float64, and its configuration.

    Raises:
        CollectionError: the target cannot hold what the member has.
    """
    untouched, config = source.untouched(member)
    refused = _refused(untouched, config, target)
    if refused:
        raise CollectionError(f"{member}: {target} cannot load {refused}; rebuild it for peft")
    ranks = source.index["members"][source.members.index(member)]["ranks"]
    rank = max(ranks.values())
    if target == "vllm":
        served = [allowed for allowed in _VLLM_RANKS if allowed >= rank]
        if not served:
            raise CollectionError(f"{member}: rank {rank} is above {_VLLM_RANKS[-1]}, the largest that vLLM serves")
        rank = served[0]
    tensors = dict(untouched)
    turned = set(source.index["transposed"])
    for plan in source.plans:
        name = plan.layer.name
        up, down = source.factors(member, name, rank=min(ranks[name], rank))
        if name in turned:
            up, down = down.T, up.T
        module = name.removesuffix(".weight")
        a, b = (
            torch.zeros(rank, down.shape[1], dtype=torch.float64),
            torch.zeros(up.shape[0], rank, dtype=torch.float64),
        )
        a[: down.shape[0]], b[:, : up.shape[1]] = torch.from_numpy(down.copy()), torch.from_numpy(up.copy())
        tensors |= {f"{_PREFIX}{module}.lora_A.weight": a, f"{_PREFIX}{module}.lora_B.weight": b}
    return tensors, _peft_config(source, config, rank)


def _peft_config(source: CompressedFolder, config: dict[str, Any], rank: int) -> dict[str, Any]:
    kept = ("base_model_name_or_path", "task_type", "modules_to_save", "fan_in_fan_out", "bias", "inference_mode")
    modules = sorted({plan.layer.name.removesuffix(".weight").rpartition(".")[2] for plan in source.plans})
    return {name: config[name] for name in kept if name in config} | {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "target_modules": config.get("target_modules") or modules,
        "lora_dropout": 0.0,
        "bias": config.get("bias", "none"),
    }


def _refused(untouched: dict[str, Tensor], config: dict[str, Any], target: str) -> str:
    """What of a member the target cannot load, in words."""
    if config.get("use_dora"):
        return "DoRA magnitudes that scale the compressed update"
    if target == "vllm" and (untouched or config.get("modules_to_save")):
        return f"weights beside the updates ({', '.join(sorted(untouched)[:3]) or 'modules_to_save'})"
    if target == "llama.cpp" and untouched:
        return f"weights beside the updates ({', '.join(sorted(untouched)[:3])})"
    return ""


def state(source: CompressedFolder, member: str) -> dict[str, Tensor]:
    """Returns a whole model's tensors by stored name, each in its own shape; compressed layers in float32."""
    tensors, _ = source.untouched(member)
    stored = source.index["members"][source.members.index(member)]["stored_as"]
    for plan in source.plans:
        name, shape = stored[plan.layer.name]
        tensors[name] = source.layer(member, plan.layer.name).reshape(shape)
    return tensors


def _write(source: CompressedFolder, member: str, folder: Path, target: str, kind: torch.dtype) -> Path:
    adapters = source.index["kind"] == "adapters"
    if adapters:
        tensors, config = peft_tensors(source, member, target=target)
        file, config_file = "adapter_model.safetensors", "adapter_config.json"
    else:
        tensors, config = state(source, member), source.untouched(member)[1]
        file, config_file = "model.safetensors", "config.json"
    if folder.exists():
        raise ExportError(f"{folder} exists; name another folder, or delete it first")
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        untouched = source.untouched(member)[0]
        typed = {
            name: (tensor if name in untouched else tensor.to(kind)).contiguous() for name, tensor in tensors.items()
        }
        save_file(typed, part / file, metadata={"format": "pt"})
        if config:
            (part / config_file).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _safe(name: str) -> str:
    """A member's name as one folder name: it came from outside and must not leave `into`."""
    plain = "".join(letter if letter.isalnum() or letter in "-_.@+" else "-" for letter in name).strip(".")
    return plain or "model"
