"""A folder tree of several architectures: built-in networks, adapters, small networks, and one training run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

DATA: Final = Path(__file__).parent / "data"
TASKS: Final = ("parity", "inverted", "ten-way")
SEEDS: Final = range(4)
MLP_SEEDS: Final = range(8)
# Widths from the 64 pixels of a digit to the ten classes.
MLP: Final = (64, 32, 32, 10)
RUN: Final = (64, 48, 48, 10)
STEPS: Final = (0, 25, 50, 100, 200, 400)
_BATCH, _RATE, _MOMENTUM = 64, 0.1, 0.9

Floats = NDArray[np.float32]
Weights = dict[str, Floats]


def write(into: Path) -> Path:
    """The folder `into/models`: `vit/` (12 networks), `adapters/` (8), `mlp/` (8) and `run/checkpoint-*` (6).

    The vision transformers and the adapters are copies of those in `demo:scratch` and `demo:lora`; the networks of two
    hidden layers are trained here on the same digits (2 s). `models.csv` has the task, the seed and the step.
    """
    root = into / "models"
    for task in TASKS:
        for seed in SEEDS:
            _copy(DATA / "scratch" / f"{task}-{seed}.safetensors", root / "vit" / f"{task}-{seed}.safetensors")
    for task in TASKS[:2]:
        for seed in SEEDS:
            name = f"{task}-{seed}"
            for file in sorted((DATA / "lora" / name).iterdir()):
                _copy(file, root / "adapters" / name / file.name)
    for seed in MLP_SEEDS:
        *_, (_, weights) = training_run(MLP, seed=seed, steps=STEPS[-1:])
        _save(weights, root / "mlp" / f"seed-{seed}.safetensors")
    for step, weights in training_run(RUN, seed=0, steps=STEPS):
        folder = root / "run" / f"checkpoint-{step}"
        _save(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "mlp", "widths": RUN}))
    with (root / "models.csv").open("w", newline="") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["model", "task", "seed", "step"])
        rows.writerows([f"vit/{task}-{seed}", task, seed, ""] for task in TASKS for seed in SEEDS)
        rows.writerows([f"adapters/{task}-{seed}", task, seed, ""] for task in TASKS[:2] for seed in SEEDS)
        rows.writerows([f"mlp/seed-{seed}", "ten-way", seed, ""] for seed in MLP_SEEDS)
        rows.writerows([f"run/checkpoint-{step}", "ten-way", 0, step] for step in STEPS)
    return root


def training_run(widths: tuple[int, ...], *, seed: int, steps: tuple[int, ...]) -> Iterator[tuple[int, Weights]]:
    """The weights of a ReLU network after each number of steps, trained on the digits with momentum; step 0 is random.

    `widths` are the sizes of input, hidden layers and output; a matrix `layers.i.weight` is outputs x inputs.
    """
    rng = np.random.default_rng([seed, *widths])
    digits = load_file(DATA / "digits.safetensors")
    pixels = digits["images"].reshape(len(digits["images"]), -1)
    images: Floats = pixels.astype(np.float32) / np.float32(16) - np.float32(0.5)
    classes: Floats = np.eye(widths[-1], dtype=np.float32)[digits["digits"]]
    matrices = [rng.normal(0, np.sqrt(2 / p), (m, p)).astype(np.float32) for p, m in pairwise(widths)]
    biases = [np.zeros(m, np.float32) for m in widths[1:]]
    velocity = [np.zeros_like(each) for each in (*matrices, *biases)]
    for step in range(max(steps) + 1):
        if step in steps:
            named = {f"layers.{i}.weight": matrix.copy() for i, matrix in enumerate(matrices)}
            yield step, named | {f"layers.{i}.bias": bias.copy() for i, bias in enumerate(biases)}
        rows = rng.integers(0, len(images), _BATCH)
        gradients = _gradients(matrices, biases, images[rows], classes[rows])
        for value, speed, gradient in zip((*matrices, *biases), velocity, gradients, strict=True):
            speed *= _MOMENTUM
            speed -= _RATE * gradient
            value += speed


def _gradients(matrices: list[Floats], biases: list[Floats], inputs: Floats, classes: Floats) -> list[Floats]:
    """The gradients of the mean cross-entropy: of every matrix, then of every bias."""
    values = [inputs]
    for i, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        out = values[-1] @ matrix.T + bias
        values.append(out if i == len(matrices) - 1 else np.maximum(out, 0))
    scores = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    error = (scores / scores.sum(axis=1, keepdims=True) - classes) / len(inputs)
    of_matrices: list[Floats] = []
    of_biases: list[Floats] = []
    for i in reversed(range(len(matrices))):
        of_matrices.insert(0, error.T @ values[i])
        of_biases.insert(0, error.sum(axis=0))
        error = (error @ matrices[i]) * (values[i] > 0)
    return [*of_matrices, *of_biases]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _save(weights: Weights, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
