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
from uws_core.sources.files.blob import torch_dtypes
from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.tensor_file import Layout, TensorFile

TARGETS = ("peft", "vllm", "llama.cpp")
# The ranks that vLLM serves (vllm/config/lora.py).
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_PREFIX = "base_model.model."
_KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# transformers' own limit for one file of weights.
SHARD_BYTES = 5 * 10**9


def rebuild(
    folder: str | Path | CompressedFolder,
    into: str | Path,
    *,
    members: Sequence[str] | None = None,
    target: str = "peft",
    dtype: str = "auto",
) -> tuple[Path, ...]:
    """Writes members of a compressed collection into `into`, a folder each, and returns their folders.

    Adapters become PEFT folders that every loader reads alike: one rank for all modules, padded with zeros,
    `lora_alpha = r`, no patterns, the scale in the factors, singular values split evenly. `target` is what must load
    them: peft, vllm (next served rank) or llama.cpp. Whole models become safetensors files, in shards where they are
    large, with the configuration and tokenizer they came with. `dtype` auto is the type each weight came in. `folder`
    may also name a repository on the Hub, of which only these members are read.

    Raises:
        CollectionError: an unknown member, or a target that cannot hold what the member has, such as a trained head.
        ExportError: a folder exists, or cannot be written.
    """
    source = folder if isinstance(folder, CompressedFolder) else open_compressed(folder)
    if target not in TARGETS:
        raise CollectionError(f"target is one of {', '.join(TARGETS)}; found {target!r}")
    if dtype != "auto" and dtype not in _KINDS:
        raise CollectionError(f"dtype is auto, float32, bfloat16 or float16; found {dtype!r}")
    names = tuple(members) if members is not None else source.members
    unknown = [name for name in names if name not in source.members]
    if unknown:
        raise CollectionError(
            f"{source.path.name} has no member {', '.join(unknown[:5])}; it has {len(source.members)}"
        )
    return tuple(_write(source, name, Path(into).expanduser() / _safe(name), target, dtype) for name in names)


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
    rank = max(source.rank(member, plan.layer.name) for plan in source.plans)
    # A diagonal core may have more directions than the rank the adapter came with; two-sided ones have no more.
    rank = max(rank, *source.entry(member)["ranks"].values())
    if target == "vllm":
        served = [allowed for allowed in _VLLM_RANKS if allowed >= rank]
        if not served:
            raise CollectionError(f"{member}: rank {rank} is above {_VLLM_RANKS[-1]}, the largest that vLLM serves")
        rank = served[0]
    tensors = dict(untouched)
    turned = set(source.index["transposed"])
    for plan in source.plans:
        name = plan.layer.name
        up, down = source.factors(member, name)
        if name in turned:
            up, down = down.T, up.T
        module = name.removesuffix(".weight")
        a = torch.zeros(rank, down.shape[1], dtype=torch.float64)
        b = torch.zeros(up.shape[0], rank, dtype=torch.float64)
        a[: down.shape[0]], b[:, : up.shape[1]] = torch.from_numpy(down.copy()), torch.from_numpy(up.copy())
        tensors |= {f"{_PREFIX}{module}.lora_A.weight": a, f"{_PREFIX}{module}.lora_B.weight": b}
    kept = ("base_model_name_or_path", "task_type", "modules_to_save", "fan_in_fan_out", "bias", "inference_mode")
    modules = sorted({plan.layer.name.removesuffix(".weight").rpartition(".")[2] for plan in source.plans})
    written = {name: config[name] for name in kept if name in config} | {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "target_modules": config.get("target_modules") or modules,
        "lora_dropout": 0.0,
        "bias": config.get("bias", "none"),
    }
    return tensors, written


def state(source: CompressedFolder, member: str) -> dict[str, Tensor]:
    """Returns a whole model's tensors by stored name, each in its own shape; compressed layers in float32."""
    tensors, _ = source.untouched(member)
    stored = source.entry(member)["stored_as"]
    for plan in source.plans:
        name, shape = stored[plan.layer.name]
        tensors[name] = source.layer(member, plan.layer.name).reshape(shape)
    return tensors


def _refused(untouched: dict[str, Tensor], config: dict[str, Any], target: str) -> str:
    """The part of a member that the target cannot load, in words; empty where it loads all."""
    if config.get("use_dora"):
        return "DoRA magnitudes that scale the compressed update"
    if target == "vllm" and (untouched or config.get("modules_to_save")):
        return f"weights beside the updates ({', '.join(sorted(untouched)[:3]) or 'modules_to_save'})"
    if target == "llama.cpp" and untouched:
        return f"weights beside the updates ({', '.join(sorted(untouched)[:3])})"
    return ""


def _write(source: CompressedFolder, member: str, folder: Path, target: str, dtype: str) -> Path:
    if folder.exists():
        raise ExportError(f"{folder} exists; name another folder, or delete it first")
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if source.files.adapters:
            _write_adapter(source, member, part, target, dtype)
        else:
            _write_checkpoint(source, member, part, dtype)
        part.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _write_adapter(source: CompressedFolder, member: str, part: Path, target: str, dtype: str) -> None:
    tensors, config = peft_tensors(source, member, target=target)
    entry, untouched = source.entry(member), source.untouched(member)[0]
    # One type for all factors: the widest that a layer came in.
    came = set(entry.get("types", {}).values()) or {"float32"}
    kind = _KINDS[dtype if dtype != "auto" else came.pop() if len(came) == 1 else "float32"]
    typed = {name: tensor if name in untouched else tensor.to(kind) for name, tensor in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in typed.items()}, part / "adapter_model.safetensors")
    _write_json(part / "adapter_config.json", config)
    for name, content in source.companions(member).items():
        (part / name).write_bytes(content)


def _write_checkpoint(source: CompressedFolder, member: str, part: Path, dtype: str) -> None:
    """Tensor by tensor into one file, or into shards with an index, as transformers writes them."""
    entry, number = source.entry(member), source.number(member)
    compressed = {name: (layer, tuple(shape)) for layer, (name, shape) in entry["stored_as"].items()}
    layout: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        name: (span.shape, torch.bool if span.dtype == "BOOL" else torch_dtypes()[span.dtype])
        for name, span in source.files.untouched_spans(number).items()
    }
    for name, (layer, shape) in compressed.items():
        layout[name] = (shape, _KINDS[entry.get("types", {}).get(layer, "float32") if dtype == "auto" else dtype])
    shards = _shards({name: layout[name] for name in sorted(layout)})
    files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        files = ["model.safetensors"]
    for file, shard in zip(files, shards, strict=True):
        with TensorFile(part / file, shard, metadata={"format": "pt"}) as written:
            for name in shard:
                if name in compressed:
                    layer, shape = compressed[name]
                    written.write(name, source.layer(member, layer).reshape(shape))
                else:
                    written.write(name, source.files.untouched(number, name))
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(_bytes(*one) for one in layout.values())
        _write_json(
            part / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
        )
    for name, content in source.companions(member).items():
        (part / name).write_bytes(_retyped(content, layout, compressed) if name == "config.json" else content)


def _shards(layout: Layout) -> list[dict[str, tuple[tuple[int, ...], torch.dtype]]]:
    """The tensors in files of at most `SHARD_BYTES`, a larger tensor alone."""
    shards: list[dict[str, tuple[tuple[int, ...], torch.dtype]]] = [{}]
    size = 0
    for name, one in layout.items():
        if shards[-1] and size + _bytes(*one) > SHARD_BYTES:
            shards, size = [*shards, {}], 0
        shards[-1][name] = one
        size += _bytes(*one)
    return shards


def _bytes(shape: tuple[int, ...], kind: torch.dtype) -> int:
    return kind.itemsize * int(torch.Size(shape).numel())


def _retyped(content: bytes, layout: Layout, compressed: dict[str, Any]) -> bytes:
    """The configuration with the type that was written; packed weights come back as plain numbers."""
    config = json.loads(content)
    kinds = {str(layout[name][1]).removeprefix("torch.") for name in compressed}
    for field in ("dtype", "torch_dtype"):
        if field in config and len(kinds) == 1:
            config[field] = kinds.copy().pop()
    for field in ("quantization_config", "quantization"):
        config.pop(field, None)
    return (json.dumps(config, indent=2) + "\n").encode()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _safe(name: str) -> str:
    """A member's name as one folder name: it came from outside and must not leave `into`."""
    plain = "".join(letter if letter.isalnum() or letter in "-_.@+" else "-" for letter in name).strip(".")
    return plain or "model"
