"""A trained row as a plain LoRA adapter: exact, in the one form that PEFT, vLLM and llama.cpp read alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uws_core.analysis.adapt import row_scores
from uws_core.errors import CollectionError, TrainingError
from uws_core.nouns.adapting import Comparison, Row, TrainedRun
from uws_core.use.adapt.log import open_log, read_plan, read_trained
from uws_core.use.peft_folder import write_peft_folder
from uws_core.use.rebuild import TARGETS

# Rows whose updates have a low rank.
EXPORTED = (Row.SHARED, Row.RANDOM, Row.BASE, Row.LORA, Row.DIAGONAL, Row.RANDOM_DIAGONAL, Row.MIXTURE)
# The ranks that vLLM serves (vllm/config/lora.py).
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_PREFIX = "base_model.model."


def export_adapter(
    log: str | Path,
    into: str | Path,
    *,
    row: Row | str = Row.SHARED,
    task: str = "",
    seed: int | None = None,
    target: str = "peft",
    with_head: bool = True,
) -> Path:
    """Writes the trained row as the LoRA adapter `into`, a new folder, and returns it: `B A` is the trained update.

    `log` is the folder of a comparison; the row is taken at its best rate, of the seed with the best validation score
    unless one is named. One rank for all modules, padded with zeros, `lora_alpha = r`, singular values split evenly.
    The trained head travels as `modules_to_save`, which vLLM and llama.cpp cannot load; without `with_head` it stays.

    Raises:
        TrainingError: no such training, or its parameters were not kept.
        CollectionError: whole weights and heads are no adapters, or the target cannot hold the head.
        ExportError: the folder exists, or cannot be written.
    """
    if target not in TARGETS:
        raise CollectionError(f"target is one of {', '.join(TARGETS)}; found {target!r}")
    opened = open_log(log)
    tasks = opened.comparison.tasks
    task = task or (tasks[0] if len(tasks) == 1 else "")
    if task not in tasks:
        raise TrainingError(f"{log} has the tasks {', '.join(tasks) or 'none'}; name one of them")
    if str(row) not in set(map(str, EXPORTED)):
        raise CollectionError(f"The row {row} is no adapter of low rank; export one of {', '.join(EXPORTED)}")
    run = _best_run(opened.comparison, task, Row(row), seed)
    tensors, config = peft_files(read_trained(opened.folders[task], run), target=target, with_head=with_head)
    if read_plan(opened.folders[task]).get("transposed"):
        # transformers' Conv1D; the factors are the same, but a reader learns the shape of the weight.
        config["fan_in_fan_out"] = True
    return write_peft_folder(Path(into).expanduser(), tensors, config)


def peft_files(
    trained: Mapping[str, Tensor], *, target: str, with_head: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns an adapter's tensors under PEFT's names in float32, and its configuration, from kept parameters.

    Raises:
        CollectionError: the target cannot hold the head, or the rank.
    """
    head = {name.removeprefix("head|"): value for name, value in trained.items() if name.startswith("head|")}
    if not with_head:
        head = {}
    if head and target != "peft":
        raise CollectionError(
            f"{target} cannot load the trained head ({', '.join(sorted(head))}); export for peft, or leave the head out"
        )
    layers = [name.removeprefix("up|") for name in trained if name.startswith("up|")]
    rank = max(trained[f"down|{layer}"].shape[0] for layer in layers)
    if target == "vllm":
        served = [allowed for allowed in _VLLM_RANKS if allowed >= rank]
        if not served:
            raise CollectionError(f"Rank {rank} is above {_VLLM_RANKS[-1]}, the largest that vLLM serves")
        rank = served[0]
    tensors = {f"{_PREFIX}{name}": value.float() for name, value in head.items()}
    for layer in layers:
        up, down = _split_evenly(trained[f"up|{layer}"], trained[f"down|{layer}"])
        a, b = down.new_zeros(rank, down.shape[1]), up.new_zeros(up.shape[0], rank)
        a[: down.shape[0]], b[:, : up.shape[1]] = down, up
        module = f"{_PREFIX}{layer.removesuffix('.weight')}"
        tensors |= {f"{module}.lora_A.weight": a.float(), f"{module}.lora_B.weight": b.float()}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        # Full paths: a layer that was not trained may have the same last name.
        "target_modules": sorted(layer.removesuffix(".weight") for layer in layers),
        "inference_mode": True,
    }
    if head:
        config["modules_to_save"] = sorted({name.rpartition(".")[0] or name for name in head})
    return tensors, config


def _split_evenly(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same product in float64, its singular values split evenly, which keeps both in the range of float16."""
    q_up, r_up = torch.linalg.qr(up.double())
    q_down, r_down = torch.linalg.qr(down.double().T)
    left, sizes, right = torch.linalg.svd(r_up @ r_down.T)
    root = sizes.sqrt()
    return (q_up @ left[:, : len(root)]) * root, (root[:, None] * right[: len(root)]) @ q_down.T


def _best_run(comparison: Comparison, task: str, row: Row, seed: int | None) -> TrainedRun:
    at_best = {score.row: score.rate for score in row_scores(comparison, task)}
    runs = [run for run in comparison.runs if run.task == task and run.row is row and run.rate == at_best.get(row)]
    chosen = [run for run in runs if seed is None or run.seed == seed]
    if not chosen:
        seeds = ", ".join(str(run.seed) for run in runs) or "none"
        named = "" if seed is None else f" at seed {seed}"
        raise TrainingError(f"The log has no finished training of {row} on {task}{named}; its seeds are {seeds}")
    return max(chosen, key=lambda run: run.validation)
