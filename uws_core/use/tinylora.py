"""A shared basis in PEFT's TinyLoRA container, so that stock PEFT trains in it, and back as a member.

TinyLoRA is dW = B (sum_i v_i P_i) A with B, A and P as frozen buffers and v trained (arXiv 2602.04118, PEFT from
0.21). PEFT fills the buffers from the base's own SVD and then loads what the folder holds: here B = U, A = V^T, and P
the members' cores or unit matrices.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uws_core.errors import BudgetError, CollectionError, ExportError, LayerError, UnreadableFile
from uws_core.nouns.arrays import Floats
from uws_core.nouns.storage import LayerPlan, Method
from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.join import Joined, join
from uws_core.use.peft_folder import write_peft_folder

if TYPE_CHECKING:
    from torch import nn

TRAINS = ("core", "mixture")
# A comment in the pattern of modules: PEFT numbers its vectors by the order of the model's modules, which no file of it
# keeps, but the pattern comes back from training as it was.
_ORDERED = "(?#modules in the order of the model)"
_PREFIX = "base_model.model."
# Settings of a member that hold for a new one too.
_KEPT = ("base_model_name_or_path", "task_type", "modules_to_save", "fan_in_fan_out")
_VECTOR = "base_model.tinylora_v."
# Unit matrices take k^4 numbers a module; 4 GiB are 250 modules of k = 45 or one of k = 181.
_MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class TinyModule:
    """One linear layer: `left` (outputs, k_out), `right` (inputs, k_in), and `matrices` (u, k_out, k_in) to combine."""

    left: Floats
    right: Floats
    matrices: Floats


def export_tinylora(
    folder: str | Path | CompressedFolder,
    into: str | Path,
    *,
    trains: str = "core",
    start: str | None = None,
    model: nn.Module | None = None,
) -> Path:
    """Writes a TinyLoRA folder that holds the basis of compressed adapters, and returns it.

    `PeftModel.from_pretrained(base, folder, is_trainable=True)` loads it and any trainer trains it. `trains` is core
    (every entry of each layer's core, or of its diagonal: k^2 or k numbers a layer) or mixture (one weight a member
    for the whole model). It begins as the base, or as the member `start`, whose head comes along; a core then has one
    more number, the scale of the start. Give the base as `model` to bring its head along where members have their own,
    and to note the order of its layers, without which a trained core comes back only with the model at hand.

    Price: k^4 numbers a layer for cores, n k^2 for mixtures; on loading, one SVD of every weight, which PEFT computes
    and drops.

    Raises:
        CollectionError: whole weights, an unknown member, or a layer with more directions than a side has.
        BudgetError: the matrices take more than 4 GiB.
        LayerError: the model lacks a layer.
        ExportError: the folder exists, or cannot be written.
    """
    source = folder if isinstance(folder, CompressedFolder) else open_compressed(folder)
    if trains not in TRAINS:
        raise CollectionError(f"trains is one of {', '.join(TRAINS)}; found {trains!r}")
    if source.index["kind"] != "adapters":
        raise CollectionError(f"{source.path.name} holds whole weights; TinyLoRA holds updates, so compress adapters")
    if start is not None:
        source.number(start)
    size = sum(_matrices_bytes(source, plan, trains) for plan in source.plans)
    if size > _MOST_BYTES:
        raise BudgetError(
            f"The matrices to combine take {size / 2**30:.0f} GiB, k^4 numbers a layer; compress with fewer "
            "directions, with the method diagonal, or train mixtures"
        )
    modules = {plan.layer.name.removesuffix(".weight"): _module(source, plan, trains, start) for plan in source.plans}
    untouched, config = source.untouched(start or source.members[0])
    first = np.zeros(max(module.matrices.shape[0] for module in modules.values()))
    if start is not None:
        first[source.number(start) if trains == "mixture" else 0] = 1.0
    return write_tinylora(
        modules,
        into,
        first=first,
        tied=trains == "mixture",
        model=model,
        config=config,
        beside=untouched if start is not None else {},
    )


def write_tinylora(
    modules: Mapping[str, TinyModule],
    into: str | Path,
    *,
    first: Floats,
    tied: bool = False,
    model: nn.Module | None = None,
    config: Mapping[str, Any] | None = None,
    beside: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes a TinyLoRA folder of these modules and returns it.

    `first` (u) is what every vector begins with; `tied` has one vector for all modules. `config` are a member's
    settings, of which base, task and `modules_to_save` are kept; `beside` are tensors under PEFT's names to go along.

    Raises:
        CollectionError: a module has more directions than its smaller side.
        LayerError: the model lacks a module.
        ExportError: the folder exists, or cannot be written.
    """
    target = Path(into).expanduser()
    if target.exists():
        raise ExportError(f"{target} exists; name another folder, or delete it first")
    rank = max(max(module.matrices.shape[1:]) for module in modules.values())
    tensors = dict(beside or {})
    for name, module in modules.items():
        tensors |= _tensors(name, module, rank, first.size)
    names = list(modules) if model is None else _in_order(model, modules)
    for group in range(1 if tied else len(modules)):
        tensors[f"{_VECTOR}{group}"] = torch.from_numpy(first).float()
    settings = {name: config[name] for name in _KEPT if name in config} if config else {}
    saved = settings.pop("modules_to_save", None) or []
    if model is not None:
        # The tensors of a model's modules that are trained whole, under PEFT's names.
        paths = [path for path, _ in model.named_modules() if any(f".{path}".endswith(f".{part}") for part in saved)]
        whole = {
            f"{_PREFIX}{path}.{name}": tensor.detach().clone()
            for path in paths
            for name, tensor in model.get_submodule(path).state_dict().items()
        }
        tensors = whole | tensors
    # PEFT refuses a folder that names a trained module and does not hold it.
    settings |= {
        "modules_to_save": [part for part in saved if any(f".{part}." in name for name in tensors)] or None,
        "peft_type": "TINYLORA",
        "r": rank,
        "u": first.size,
        "weight_tying": 1.0 if tied else 0.0,
        "save_projection": True,
        "target_modules": ("" if model is None else _ORDERED) + f"({'|'.join(re.escape(name) for name in names)})",
        "bias": "none",
        "inference_mode": False,
    }
    return write_peft_folder(target, tensors, settings)


def tinylora_to_lora(adapter: str | Path, into: str | Path, *, model: nn.Module | None = None) -> Path:
    """Writes a TinyLoRA folder, as PEFT saved it, as a plain LoRA folder that is exactly the same update; returns it.

    Raises:
        CollectionError: no TinyLoRA, one without its matrices, or one whose vectors cannot be told apart: give `model`.
        UnreadableFile: no such folder, or it is damaged.
        ExportError: `into` exists, or cannot be written.
    """
    config, tensors = _read(Path(adapter).expanduser())
    vectors = {int(name.removeprefix(_VECTOR)): tensors.pop(name) for name in [*tensors] if name.startswith(_VECTOR)}
    suffix = ".tinylora_A"
    names = [name.removesuffix(suffix).removeprefix(_PREFIX) for name in tensors if name.endswith(suffix)]
    group_of = _groups(config, names, vectors, model)
    written = {name: tensor for name, tensor in tensors.items() if ".tinylora_" not in name}
    rank = 0
    for name in names:
        down, up, matrices = (tensors[f"{_PREFIX}{name}.tinylora_{part}"].double() for part in "ABP")
        core = torch.einsum("i,ijk->jk", vectors[group_of[name]].double(), matrices)
        rank = max(rank, down.shape[0])
        written[f"{_PREFIX}{name}.lora_A.weight"] = down.float()
        written[f"{_PREFIX}{name}.lora_B.weight"] = (up @ core).float()
    ranks = {name: written[f"{_PREFIX}{name}.lora_A.weight"].shape[0] for name in names}
    # Layers with a side below the rank have fewer directions; zeros keep one rank for all loaders.
    for name in (name for name in names if ranks[name] < rank):
        for side, axis in (("A", 0), ("B", 1)):
            key = f"{_PREFIX}{name}.lora_{side}.weight"
            pad = [0, 0, 0, rank - ranks[name]] if axis == 0 else [0, rank - ranks[name]]
            written[key] = torch.nn.functional.pad(written[key], pad)
    settings = {name: config[name] for name in _KEPT if name in config}
    settings |= {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none"}
    settings |= {"use_rslora": False, "target_modules": sorted(names), "inference_mode": True}
    return write_peft_folder(Path(into).expanduser(), written, settings)


def join_tinylora(
    folder: str | Path, adapter: str | Path, *, name: str | None = None, model: nn.Module | None = None
) -> Joined:
    """Adds a TinyLoRA folder that was trained in a compressed folder's basis to it as a member; see `join`.

    Raises:
        CollectionError: see `tinylora_to_lora` and `join`.
        ExportError: the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="uws-") as place:
        label = name or Path(adapter).name
        return join(folder, tinylora_to_lora(adapter, Path(place) / "lora", model=model), name=label)


def is_tinylora(adapter: str | Path) -> bool:
    """Whether a folder is a TinyLoRA adapter."""
    try:
        return bool(_config(Path(adapter).expanduser()).get("peft_type") == "TINYLORA")
    except UnreadableFile:
        return False


def _module(source: CompressedFolder, plan: LayerPlan, trains: str, start: str | None) -> TinyModule:
    """A layer in the orientation outputs x inputs."""
    left, right, _ = source.basis(plan)
    cores = source.cores(plan.layer.name).double().numpy()
    k_out, k_in = left.shape[1], right.shape[1]
    if plan.method is Method.DIAGONAL:
        cores = cores[:, :, None] * np.eye(k_out)
    if trains == "mixture":
        matrices = cores
    else:
        entries = [(i, i) for i in range(k_out)] if plan.method is Method.DIAGONAL else list(np.ndindex(k_out, k_in))
        matrices = np.zeros((len(entries), k_out, k_in))
        for number, (row, column) in enumerate(entries):
            matrices[number, row, column] = 1.0
        if start is not None:
            matrices = np.concatenate([cores[source.number(start)][None], matrices])
    if plan.layer.name in source.index["transposed"]:
        return TinyModule(right, left, matrices.transpose(0, 2, 1))
    return TinyModule(left, right, matrices)


def _matrices_bytes(source: CompressedFolder, plan: LayerPlan, trains: str) -> int:
    k2 = plan.k**2
    u = len(source.members) if trains == "mixture" else plan.k if plan.method is Method.DIAGONAL else k2
    return 4 * u * k2


def _tensors(name: str, module: TinyModule, rank: int, u: int) -> dict[str, Tensor]:
    """The three buffers of a module, padded with zeros to the sizes that all modules share."""
    (m, k_out), (p, k_in) = module.left.shape, module.right.shape
    size = min(rank, m, p)
    if max(k_out, k_in) > size:
        raise CollectionError(
            f"{name} is {m} x {p} with {k_out} x {k_in} directions; TinyLoRA has at most {size} there. Compress with "
            f"kept={size} or fewer"
        )
    up, down, matrices = np.zeros((m, size)), np.zeros((size, p)), np.zeros((u, size, size))
    up[:, :k_out], down[:k_in] = module.left, module.right.T
    matrices[: module.matrices.shape[0], :k_out, :k_in] = module.matrices
    parts = {"A": down, "B": up, "P": matrices}
    return {f"{_PREFIX}{name}.tinylora_{part}": torch.from_numpy(values).float() for part, values in parts.items()}


def _in_order(model: nn.Module, modules: Mapping[str, TinyModule] | Sequence[str]) -> list[str]:
    """These modules in the order of the model, which is that of PEFT's vectors."""
    order = [name for name, _ in model.named_modules() if name in modules]
    if missing := sorted(set(modules) - set(order)):
        raise LayerError(f"The model lacks {len(missing)} of {len(modules)} layers, such as {missing[0]}")
    return order


def _groups(
    config: Mapping[str, Any], names: Sequence[str], vectors: Mapping[int, Tensor], model: nn.Module | None
) -> dict[str, int]:
    """The vector of each module; PEFT deals vectors to modules in the order of the model."""
    missing = [name for name in names if not names or not vectors]
    if missing or not vectors or not names:
        raise CollectionError("The folder holds no TinyLoRA vectors or no modules; save the adapter again with PEFT")
    if all(torch.equal(vector, vectors[min(vectors)]) for vector in vectors.values()):
        return dict.fromkeys(names, min(vectors))
    pattern = config.get("target_modules")
    if model is not None:
        order = _in_order(model, names)
    elif isinstance(pattern, str) and pattern.startswith(_ORDERED):
        listed = pattern.removeprefix(_ORDERED)[1:-1].split("|")
        order = [name for part in listed if (name := re.sub(r"\\(.)", r"\1", part)) in names]
    else:
        raise CollectionError(
            f"{len(vectors)} vectors belong to {len(names)} layers in the order of the model's modules, which the "
            "folder does not tell; give the base as model="
        )
    # As PEFT 0.21.2 deals them, tuners/tinylora/model.py.
    count = max(1, round(len(order) * (1.0 - float(config.get("weight_tying") or 0.0))))
    size = max(1, len(order) // count)
    groups = {name: min(index // size, count - 1) for index, name in enumerate(order)}
    if set(groups) != set(names) or not set(groups.values()) <= set(vectors):
        raise CollectionError(
            f"{len(vectors)} vectors do not fit {len(names)} layers in this order; give the base it was trained on as "
            "model="
        )
    return groups


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableFile(
            f"{folder} has no readable adapter_config.json ({error}); give a folder of PEFT"
        ) from error


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = _config(folder)
    if config.get("peft_type") != "TINYLORA":
        raise CollectionError(f"{folder.name} is {config.get('peft_type')}, not TINYLORA; `uws join` takes it as it is")
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UnreadableFile(f"{folder.name}: adapter_model.safetensors cannot be read ({error})") from error
    if not any(name.endswith(".tinylora_P") for name in tensors):
        raise CollectionError(f"{folder.name} was saved without its matrices; set save_projection=True and save again")
    return config, tensors
