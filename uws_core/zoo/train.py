"""Make every built-in collection again: `python -m uws_core.zoo.train [--only NAME] [--into FOLDER]`.

Each model is trained by one process with one thread from generators seeded by names, so on one machine the files come
out byte for byte the same, in any order and with any number of workers. About six minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from uws_core.nouns.models import Value
from uws_core.zoo import lora, planted, vit
from uws_core.zoo.demo import DATA
from uws_core.zoo.evaluate import evaluate
from uws_core.zoo.recipes import SEEDS, Job, make, make_base
from uws_core.zoo.tasks import TASKS, seeded

COLLECTIONS = ("scratch", "untrained", "finetuned", "lora")
BASE_FILE = "base.safetensors"

Row = dict[str, Value]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    known = ("base", *COLLECTIONS, "planted")
    parser = argparse.ArgumentParser(prog="python -m uws_core.zoo.train", description=__doc__)
    parser.add_argument("--only", choices=known, help="make this one alone")
    parser.add_argument("--into", type=Path, default=DATA, help="the folder to write to (default: the package's own)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asked.into.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for name in (asked.only,) if asked.only else known:
        if name == "base":
            write_base(asked.into)
        elif name == "planted":
            write_planted(asked.into)
        else:
            write_networks(name, asked.into, workers=asked.workers)
    print(f"done in {time.monotonic() - began:.0f} s", flush=True)


def write_base(into: Path) -> None:
    """Train the base and write `into/base.safetensors`."""
    base = make_base()
    save_file(base, into / BASE_FILE)
    print(f"base: accuracy {evaluate(base, {'model': 'base', 'task': 'ten-way'}):.4f}", flush=True)


def write_networks(collection: str, into: Path, *, workers: int) -> None:
    """Train and write `into/collection`: 40 models and their table, from the base in `into` or else the shipped one."""
    folder = into / collection
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [Job(collection, task, seed) for task in TASKS for seed in SEEDS]
    rows: list[Row] = []
    # A spawned worker starts clean; forking a process whose torch has run threads can hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for row in pool.map(_write_network, jobs, repeat(into)):
            rows.append(row)
            done = f"{collection} {len(rows)}/{len(jobs)}"
            print(f"{done} {row['model']}: {row['metric']} {row['test_score']}", flush=True)
    _write_table(folder, rows)


def write_planted(into: Path) -> None:
    """Write `into/planted` and, outside it so that no loader takes it for a model, `into/planted_truth.safetensors`."""
    folder = into / "planted"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = planted.plant(seeded("planted"))
    rows: list[Row] = []
    for number, (model, scores) in enumerate(zip(drawn.models, drawn.scores.tolist(), strict=True)):
        name = f"planted-{number:02d}"
        save_file(model, folder / f"{name}.safetensors")
        row: Row = {"model": name, "task": "none", "kind": "synthetic", "seed": number, "initialisation": "none"}
        rows.append(row | {f"score_{k + 1}": round(value, 5) for k, value in enumerate(scores)})
    _write_table(folder, rows)
    truth = {f"directions.{layer}": tensor for layer, tensor in drawn.directions.items()}
    truth |= {f"mean.{layer}": tensor for layer, tensor in drawn.means.items()}
    truth |= {"scores": drawn.scores, "spikes": torch.tensor(planted.SPIKES, dtype=torch.float64)}
    save_file(truth, into / "planted_truth.safetensors")
    print(f"planted {len(rows)}/{len(rows)}", flush=True)


def _write_network(job: Job, into: Path) -> Row:
    """Runs in a worker: make one model, write it, and return its row of `models.csv`."""
    base = base_for(into) if job.starts_from_base else None
    weights = make(job, base)
    if base is not None and job.collection == "lora":
        lora.save(weights, into / "lora" / job.name)
        return _row(job, lora.merge(base, weights))
    # Half the bytes and nothing lost: fresh weights are drawn in float16.
    shipped = {name: tensor.half() for name, tensor in weights.items()} if job.collection == "untrained" else weights
    save_file(shipped, into / job.collection / f"{job.name}.safetensors")
    return _row(job, weights)


def base_for(into: Path) -> vit.Weights:
    """The base in `into`, or the shipped one where there is none."""
    own = into / BASE_FILE
    return load_file(own if own.exists() else DATA / BASE_FILE)


def _row(job: Job, weights: vit.Weights) -> Row:
    task = TASKS[job.task]
    row: Row = {"model": job.name, "task": job.task, "kind": task.kind, "seed": job.seed}
    score = round(evaluate(weights, row), 4)
    return row | {"initialisation": job.initialisation, "metric": task.metric, "test_score": score}


def _write_table(folder: Path, rows: list[Row]) -> None:
    with (folder / "models.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
