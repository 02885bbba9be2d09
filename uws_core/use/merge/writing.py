"""Writes a merge: the folder appears under its name when it is complete, and a killed writer goes on where it was.

Everything is written into `.NAME.part` beside the folder. Whole models become safetensors files, in shards with an
index where they are large, with the configuration and tokenizer of the base; adapters become a PEFT folder.
`merge.json` says what was merged and how far it lies from everything, `recipe.yaml` is the recipe for mergekit where it
knows the method.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from uws_core.errors import Cancelled, ClusterError, CollectionError, ExportError, UwsError
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.merging import Merge, MergedLayer
from uws_core.sources.companions import companions
from uws_core.use.merge.adapters import AdapterLayer, beside_weights, config_of, merged_layers
from uws_core.use.merge.forming import Crew, NetworkTensor
from uws_core.use.merge.network import Network
from uws_core.use.merge.plan import MergePlan
from uws_core.use.merge.recipe import mergekit_yaml
from uws_core.use.tensor_file import TensorFile
from uws_core.use.unfinished import alone, empty, replace_text

Report = Callable[[float, str], None]
TARGETS = ("peft", "vllm", "llama.cpp")
# The ranks that vLLM serves (vllm/config/lora.py).
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# One file of weights: transformers' own limit.
SHARD_BYTES = 5 * 10**9
_PLAN, _DONE, _LOCK, PROVENANCE, RECIPE = "plan.json", "tensors.done", "writer.lock", "merge.json", "recipe.yaml"
_KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class WriteOptions:
    """How a merge is written: `target` is what must load an adapter, `shard_bytes` the most in one file of weights."""

    target: str = "peft"
    shard_bytes: int = SHARD_BYTES


def written(
    plan: MergePlan, folder: Path, options: WriteOptions, *, report: Report, executor: Executor | None = None
) -> Merge:
    """Writes the merge and returns it with its distances, measured in the same pass.

    With an `executor` its workers form the layers, and this process writes them.

    Raises:
        ClusterError: a worker was lost; what is written is kept for the same call.
        ExportError: the folder exists, is being written by another process, or the disk is full or read-only.
        CollectionError: an unknown target, or one that cannot load what the merge has.
    """
    if options.target not in TARGETS:
        raise CollectionError(f"target is one of {', '.join(TARGETS)}; found {options.target!r}")
    if folder.exists():
        raise ExportError(f"{folder} exists; name a new folder, or delete it first")
    part = folder.with_name(f".{folder.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with alone(part / _LOCK, folder):
            digest = json.dumps([plan.digest(), options.target, options.shard_bytes])
            if not (part / _PLAN).is_file() or (part / _PLAN).read_text(encoding="utf-8") != digest:
                empty(part, keep=_LOCK)
                replace_text(part / _PLAN, digest)
            write = _write_adapter if plan.adapters else _write_network
            merge = write(plan, part, options, report, executor)
            _write_json(part / PROVENANCE, provenance(plan, merge))
            text = mergekit_yaml(plan)
            if text:
                replace_text(part / RECIPE, text)
            for name in (_PLAN, _DONE, _LOCK):
                (part / name).unlink(missing_ok=True)
            part.rename(folder)
    except (OSError, SafetensorError, ValueError) as error:
        # A file that is not what was begun, or no room: begin anew.
        shutil.rmtree(part, ignore_errors=True)
        raise ExportError(f"{folder} cannot be written ({error}); nothing was left there") from error
    except UwsError as error:
        # Stopped on purpose or out of workers, the same merge goes on from there; anything else would fail again.
        if not isinstance(error, Cancelled | ClusterError):
            shutil.rmtree(part, ignore_errors=True)
        raise
    return merge


def provenance(plan: MergePlan, merge: Merge) -> dict[str, Any]:
    """Returns what `merge.json` says: the recipe, the models with their digests, versions, distances."""
    collection, whole = plan.collection, merge.whole
    weights = plan.recipe.weight_of(len(plan.members))
    return {
        "recipe": plan.recipe.as_dict(),
        "members": [
            {
                "label": label,
                "model": collection.refs[row].repo,
                "commit": collection.refs[row].commit,
                "weight": weight,
            }
            for label, row, weight in zip(plan.labels, plan.members, weights.tolist(), strict=True)
        ],
        "base": str(collection.base) if collection.base is not None else None,
        "about": merge.about,
        "dtype": plan.dtype,
        "versions": {"uws": _version("uws"), "torch": torch.__version__},
        "notes": list(merge.notes),
        "whole": _distances(whole, plan.labels),
        "layers": {layer.layer.name: _distances(layer, plan.labels) for layer in merge.layers},
    }


def _distances(layer: MergedLayer, labels: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "norm": layer.norm,
        "mean_norm": layer.mean_norm,
        "to_mean": layer.to_mean,
        "to_members": dict(zip(labels, layer.to_members.tolist(), strict=True)),
    }
    if layer.rank is not None:
        found |= {"rank": layer.rank, "lost": layer.lost}
    return found


def _write_network(
    plan: MergePlan, part: Path, options: WriteOptions, report: Report, executor: Executor | None
) -> Merge:
    """Tensor by tensor; what an earlier writer of the same plan finished is kept."""
    network = Network(plan)
    shards = _shards(network.tensors, options.shard_bytes)
    done = _done(part, plan)
    free = shutil.disk_usage(part).free
    missing = network.nbytes - sum(one.nbytes for one in network.tensors if one.name in done)
    if missing > free:
        raise OSError(f"the merge takes {bytes_text(missing)} more, the disk has {bytes_text(free)} free")
    count, finished = max(network.nbytes, 1), 0
    crew = Crew(executor, lambda: report(finished / count, "waiting for the workers"))
    cuts = network.cuts(crew)
    files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        files = ["model.safetensors"]
    with (part / _DONE).open("a", encoding="utf-8") as log:
        for file, shard in zip(files, shards, strict=True):
            layout = {one.name: (one.shape, one.dtype) for one in shard}
            begun = sum(one.name in done for one in shard)
            finished += sum(one.nbytes for one in shard[:begun])
            with TensorFile(part / file, layout, metadata={"format": "pt"}, done=begun) as output:
                for formed in network.formed(shard[begun:], cuts, crew):
                    one = formed.tensor
                    for piece in formed.pieces():
                        output.write_part(one.name, piece)
                    output.flush()
                    done[one.name] = network.measured(one, formed.sums) if one.merged else None
                    log.write(_record(one.name, done[one.name]))
                    log.flush()
                    finished += one.nbytes
                    report(finished / count, f"{one.name} merged")
    if len(shards) > 1:
        where = {one.name: file for file, shard in zip(files, shards, strict=True) for one in shard}
        index = {"metadata": {"total_size": network.nbytes}, "weight_map": where}
        _write_json(part / "model.safetensors.index.json", index)
    for name, blob in companions(network.template).items():
        content = bytes(blob.read(0, blob.size))
        (part / name).write_bytes(_retyped(content, plan.dtype) if name == "config.json" else content)
    by_name = {layer.layer.name: layer for layer in done.values() if layer is not None}
    layers = tuple(by_name[key.name] for key in plan.layers if key.name in by_name)
    return Merge(plan.recipe, plan.labels, layers, plan.about, "weights", network.notes())


def _write_adapter(
    plan: MergePlan, part: Path, options: WriteOptions, report: Report, executor: Executor | None
) -> Merge:
    config = config_of(plan)
    beside, notes = beside_weights(plan)
    _check_target(options.target, beside, config)
    layers: list[AdapterLayer] = []
    count = len(plan.layers) + 1
    crew = Crew(executor, lambda: report(len(layers) / count, "waiting for the workers"))
    for layer in merged_layers(plan, crew):
        layers.append(layer)
        report(len(layers) / count, f"{layer.key.short} merged")
    rank = served_rank(max(layer.factors.down.shape[0] for layer in layers), options.target)
    kind = _KINDS.get(plan.dtype, torch.float32)
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        up, down = layer.factors.up, layer.factors.down
        if layer.key.name in plan.collection.transposed:
            up, down = down.T, up.T
        module = f"base_model.model.{layer.key.name.removesuffix('.weight')}"
        # One rank for all modules, filled with zeros, is what every loader reads alike.
        a, b = torch.zeros(rank, down.shape[1], dtype=kind), torch.zeros(up.shape[0], rank, dtype=kind)
        a[: down.shape[0]] = torch.from_numpy(down.copy()).to(kind)
        b[:, : up.shape[1]] = torch.from_numpy(up.copy()).to(kind)
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save_file(
        tensors | {name: tensor.contiguous() for name, tensor in beside.items()}, part / "adapter_model.safetensors"
    )
    modules = sorted({layer.key.name.removesuffix(".weight").rpartition(".")[2] for layer in layers})
    _write_json(part / "adapter_config.json", peft_config(config, rank, modules, with_saved=bool(beside)))
    for name, blob in companions(plan.collection.refs[plan.members[0]]).items():
        if name != "config.json":
            (part / name).write_bytes(bytes(blob.read(0, blob.size)))
    return Merge(plan.recipe, plan.labels, tuple(layer.measured for layer in layers), plan.about, "adapters", notes)


def served_rank(rank: int, target: str) -> int:
    """Returns the rank that an adapter is filled up to: its own, or the next that vLLM serves.

    Raises:
        CollectionError: vLLM serves none that large.
    """
    if target != "vllm":
        return rank
    served = [allowed for allowed in _VLLM_RANKS if allowed >= rank]
    if not served:
        raise CollectionError(f"The merge has rank {rank}, vLLM serves at most {_VLLM_RANKS[-1]}; choose a lower rank")
    return served[0]


def peft_config(config: Mapping[str, object], rank: int, modules: list[str], *, with_saved: bool) -> dict[str, object]:
    """Returns an adapter configuration that every loader reads alike: one rank, `lora_alpha = r`, no patterns."""
    kept = ("base_model_name_or_path", "task_type", "fan_in_fan_out", "inference_mode")
    found = {name: config[name] for name in kept if name in config}
    if with_saved and config.get("modules_to_save"):
        found["modules_to_save"] = config["modules_to_save"]
    return found | {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": config.get("bias", "none") if with_saved else "none",
    }


def _check_target(target: str, beside: Mapping[str, Tensor], config: Mapping[str, object]) -> None:
    if config.get("use_dora"):
        raise CollectionError("The adapters are DoRA, whose magnitudes scale the updates; merge their whole weights")
    if target != "peft" and beside:
        some = ", ".join(sorted(beside)[:3])
        raise CollectionError(
            f"{target} cannot load weights beside the updates ({some}); leave them out (beside='drop', --beside drop)"
        )


def _shards(tensors: tuple[NetworkTensor, ...], most: int) -> list[list[NetworkTensor]]:
    """The tensors in files of at most `most` bytes, a larger tensor alone."""
    shards: list[list[NetworkTensor]] = [[]]
    size = 0
    for one in tensors:
        if shards[-1] and size + one.nbytes > most:
            shards, size = [*shards, []], 0
        shards[-1].append(one)
        size += one.nbytes
    return shards


def _done(part: Path, plan: MergePlan) -> dict[str, MergedLayer | None]:
    """The tensors that an earlier writer of the plan finished, in order, with their distances."""
    found: dict[str, MergedLayer | None] = {}
    if not (part / _DONE).is_file():
        return found
    keys = {key.name: key for key in plan.layers}
    for line in (part / _DONE).read_text(encoding="utf-8").splitlines():
        try:
            name, layer, numbers = json.loads(line)
        except ValueError:
            # The line that a killed writer did not finish.
            break
        found[name] = None if layer is None else MergedLayer(layer=keys[layer], **numbers)
    replace_text(part / _DONE, "".join(_record(name, layer) for name, layer in found.items()))
    return found


def _record(name: str, layer: MergedLayer | None) -> str:
    """A finished tensor as a line of the log."""
    if layer is None:
        return json.dumps([name, None, {}]) + "\n"
    numbers = {
        "norm2": layer.norm2,
        "mean_norm2": layer.mean_norm2,
        "member_norms2": layer.member_norms2.tolist(),
        "to_mean2": layer.to_mean2,
        "to_members2": layer.to_members2.tolist(),
    }
    return json.dumps([name, layer.layer.name, numbers]) + "\n"


def _retyped(content: bytes, dtype: str) -> bytes:
    """The model's configuration with the type that was written."""
    config = json.loads(content)
    for field in ("dtype", "torch_dtype"):
        if field in config and dtype != "auto":
            config[field] = dtype
    return (json.dumps(config, indent=2) + "\n").encode()


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    replace_text(path, json.dumps(content, indent=1) + "\n")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "checkout"
