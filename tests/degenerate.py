"""Folders of models with layers that carry nothing, or nearly nothing: what every page and command must survive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from uws_core.nouns.arrays import Floats

N = 5
Rng = np.random.Generator


def _one_left(rng: Rng) -> Floats:
    rows = np.full((N, 6, 4), np.nan)
    rows[2] = rng.standard_normal((6, 4))
    return rows


def _two_left(rng: Rng) -> Floats:
    rows = np.full((N, 6, 4), np.inf)
    rows[1:3] = rng.standard_normal((2, 6, 4))
    return rows


# Name of the layer to its weights in all models, (N, m, p).
LAYERS: Mapping[str, Callable[[Rng], Floats]] = {
    "equal": lambda rng: np.broadcast_to(rng.standard_normal((6, 4)), (N, 6, 4)),
    "zero": lambda rng: np.zeros((N, 6, 4)),
    "not_finite": lambda rng: np.full((N, 6, 4), np.nan),
    "one_left": _one_left,
    "two_left": _two_left,
    "single_row": lambda rng: rng.standard_normal((N, 1, 24)),
    "single_column": lambda rng: rng.standard_normal((N, 24, 1)),
    "single_entry": lambda rng: rng.standard_normal((N, 1, 1)),
    "constant": lambda rng: np.broadcast_to(rng.standard_normal((N, 1, 1)), (N, 6, 4)),
    "copies": lambda rng: rng.standard_normal((2, 6, 4))[[0, 0, 0, 1, 1]],
    "usual": lambda rng: rng.standard_normal((N, 6, 4)),
}


def write(folder: Path, names: Sequence[str], seed: int = 0) -> Path:
    """The folder with `N` models that have these layers, and a table with a column of groups."""
    rng = np.random.default_rng(seed)
    layers = {f"blocks.{i}.{name}.weight": LAYERS[name](rng) for i, name in enumerate(names)}
    folder.mkdir(parents=True)
    for row in range(N):
        tensors = {key: np.ascontiguousarray(value[row], dtype=np.float32) for key, value in layers.items()}
        save_file(tensors, folder / f"m{row}.safetensors")
    (folder / "models.csv").write_text("model,task\n" + "".join(f"m{i},{'ab'[i % 2]}\n" for i in range(N)))
    return folder
