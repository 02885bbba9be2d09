"""What merges of the built-in models can still do: every method at its best scale, beside own, base and mean.

The scale is chosen on the first half of the test pictures and judged on the second. Each task keeps its own head. A
score is the share of the model's own score on the same pictures, clipped to 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import uws_core as uws
from tests.bench.measure import table
from uws_core.nouns.merging import MergeMethod
from uws_core.zoo import lora, vit
from uws_core.zoo.tasks import TASKS, Split, digits

pytestmark = pytest.mark.bench

SCALES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
HEAD = ("head.weight", "head.bias")
HALVES = [Split(digits()[1].images[half], digits()[1].digits[half]) for half in (slice(0, 225), slice(225, 450))]
METHODS = [method for method in MergeMethod if method not in (MergeMethod.SLERP, MergeMethod.LINEAR)]
RULES = {MergeMethod.KNOTS: "ties", MergeMethod.CORE: "ties", MergeMethod.CTM: "ties"}


def members(name: str, seed: int) -> tuple[list[str], dict[str, dict[str, Tensor]]]:
    """The models of one seed, one a task, and each one's own network with its head."""
    collection = uws.collect(f"demo:{name}")
    base = load_file(collection.base.repo)
    labels = [f"{task}-{seed}" for task in TASKS]
    states = {}
    for label in labels:
        ref = collection.refs[collection.labels.index(label)]
        states[label] = lora.merge(base, lora.load(Path(ref.repo))) if name == "lora" else load_file(ref.repo)
    return labels, states


def shares(weights: Mapping[str, Tensor], own: Mapping[str, dict[str, Tensor]], half: int) -> list[float]:
    """Each task's score of a merged network with the task's head, over the own network's."""
    found = []
    for label, state in own.items():
        task = TASKS[label.rpartition("-")[0]]
        reached = task.score(dict(weights) | {name: state[name] for name in HEAD}, HALVES[half])
        found.append(float(np.clip(reached / task.score(state, HALVES[half]), 0.0, 1.0)))
    return found


def merged(name: str, labels: list[str], method: MergeMethod) -> Callable[[float], dict[str, Tensor]]:
    """The merged network at any scale: `base + scale * update`, from one merge at scale 1."""
    collection = uws.collect(f"demo:{name}")
    base = load_file(collection.base.repo)
    state = uws.merge(collection, method=method, members=labels, seed=0).state()
    updates = state if name == "lora" else {key: value - base[key] for key, value in state.items()}
    return lambda scale: base | {key: base[key] + scale * update for key, update in updates.items()}


@pytest.mark.parametrize(("name", "seed"), [("lora", 1), ("lora", 3), ("finetuned", 0), ("finetuned", 1)])
def test_every_method_at_its_best_scale(name: str, seed: int) -> None:
    torch.set_num_threads(2)
    labels, own = members(name, seed)
    base = load_file(uws.collect(f"demo:{name}").base.repo)
    scores = [TASKS[label.rpartition("-")[0]].score(state, HALVES[1]) for label, state in own.items()]
    rows: list[tuple[str, float, float, float, str]] = []
    judged = shares(base, own, 1)
    rows.append(("base", 0.0, float(np.mean(judged)), min(judged), list(TASKS)[int(np.argmin(judged))]))
    for method in METHODS:
        at = merged(name, labels, method)
        chosen = {scale: float(np.mean(shares(at(scale), own, 0))) for scale in SCALES}
        best = max(chosen, key=lambda scale: chosen[scale])
        judged = shares(at(best), own, 1)
        rows.append((str(method), best, float(np.mean(judged)), min(judged), list(TASKS)[int(np.argmin(judged))]))
    title = f"demo:{name}, seed {seed}: ten tasks, mean own score {np.mean(scores):.3f}"
    table(title, ("method", "scale", "kept", "worst task", "which"), rows)
    kept = {row[0]: row[2] for row in rows}
    assert kept["mean"] > kept["base"]
    assert set(vit.block_matrices()) <= set(base)
