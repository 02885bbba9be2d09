"""The folder of a comparison: what was planned, every finished training, its curve, and the state to go on from.

adapt.json             the plan: rows, seeds, rates, steps, counts, digests of basis and model
runs.jsonl             one finished training a line: task, row, seed, rate, trainables, validation, score, ...
curves.jsonl           training losses
gradient.json          captured shares of one batch's gradient
checkpoint.safetensors the training under way, at its last kept step
trained/*.safetensors  coefficients and head of every row at its best rate so far

A folder of results trained elsewhere needs `runs.jsonl` or `runs.csv` only; folders of several tasks may lie in one.
Only appended lines and renamed files are written, so a killed process leaves at most one torn last line, which is
ignored.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uws_core.errors import ExportError, TrainingError, UnreadableFile
from uws_core.nouns.adapting import Comparison, CurvePoint, GradientShare, Row, TrainedRun

PLAN, RUNS, RUNS_TABLE, CURVES = "adapt.json", "runs.jsonl", "runs.csv", "curves.jsonl"
GRADIENT, CHECKPOINT, TRAINED = "gradient.json", "checkpoint.safetensors", "trained"
VERSION = 1
# More than any line has.
_LONGEST_LINE = 65536
_NEEDED = ("row", "seed", "trainables", "score")


@dataclass(frozen=True)
class Log:
    """A folder's results: the comparison, training curves, captured gradients by task, and each task's own folder."""

    comparison: Comparison
    curves: tuple[CurvePoint, ...]
    gradients: Mapping[str, tuple[GradientShare, ...]]
    folders: Mapping[str, Path]


def open_log(folder: str | Path) -> Log:
    """Returns the results in a folder: of one comparison, or of several in folders inside it.

    Raises:
        UnreadableFile: no results there, an unknown row, or a line that lacks a field; the message names the fields.
    """
    path = Path(folder).expanduser()
    children = path.iterdir() if path.is_dir() and os.access(path, os.R_OK) else ()
    inside = [path] if has_results(path) else sorted(child for child in children if has_results(child))
    if not inside:
        raise UnreadableFile(
            f"{path} holds no training log: expected {RUNS} or {RUNS_TABLE} in it or in folders inside it, one "
            f"training a line with {', '.join(_NEEDED)} (row is one of {', '.join(Row)}), and validation and rate "
            "where the rate was chosen"
        )
    runs: list[TrainedRun] = []
    curves: list[CurvePoint] = []
    gradients: dict[str, tuple[GradientShare, ...]] = {}
    folders: dict[str, Path] = {}
    metric, expected = "score", 0
    for each in inside:
        plan = read_plan(each)
        task = str(plan.get("task", each.name))
        runs += _runs(each, task)
        curves += _curves(each, task)
        gradients[task] = _gradient(each)
        folders[task] = each
        metric = str(plan.get("metric", metric))
        expected += expected_runs(plan, [run for run in runs if run.task == task])
    return Log(Comparison(tuple(runs), metric, expected), tuple(curves), gradients, folders)


def expected_runs(plan: Mapping[str, Any], runs: Sequence[TrainedRun]) -> int:
    """Returns the trainings of a plan: every rate at the first seed, then one rate at the others.

    A row that diverged at every rate has no rate for the other seeds. Without a plan it is what there is.
    """
    if not plan:
        return len(runs)
    rates, others = len(plan["rates"]), len(plan["seeds"]) - 1
    total = 0
    for row in plan["rows"]:
        of_row = [run for run in runs if run.row == row]
        lost = len(of_row) >= rates and all(run.diverged for run in of_row)
        total += rates + (0 if lost else others)
    return total


@dataclass(frozen=True)
class TrainingLog:
    """The folder of one task's comparison while it is trained."""

    path: Path

    @contextmanager
    def held(self, plan: Mapping[str, Any]) -> Iterator[None]:
        """The folder for this process alone, with the plan written or found to be the same.

        Raises:
            ExportError: another process trains in it, another plan is in it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / ".lock", timeout=0):
                self._keep_plan(plan)
                yield
        except Timeout as error:
            raise ExportError(f"Another process is training in {self.path}; wait for it or name another folder") from (
                error
            )
        except OSError as error:
            raise ExportError(f"{self.path} cannot be written ({error}); what was finished is kept") from error

    def _keep_plan(self, plan: Mapping[str, Any]) -> None:
        old = read_plan(self.path)
        if not old:
            _replace(self.path / PLAN, json.dumps(plan, indent=1) + "\n")
            return
        new = json.loads(json.dumps(plan))
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if changed:
            raise ExportError(
                f"{self.path} holds a comparison with another {', '.join(sorted(changed))}; name another folder, or "
                "delete this one"
            )

    def finished(self, task: str) -> tuple[TrainedRun, ...]:
        """The finished trainings."""
        return tuple(_runs(self.path, task))

    def add(self, run: TrainedRun, trained: Mapping[str, Tensor]) -> None:
        """Keeps a finished training and its parameters, if any are given, and drops the checkpoint."""
        if trained:
            (self.path / TRAINED).mkdir(exist_ok=True)
            part = self.path / f".{TRAINED}.part"
            save_file({name: value.contiguous() for name, value in trained.items()}, part)
            part.replace(self.trained(run))
        _append(self.path / RUNS, json.dumps(asdict(run), allow_nan=True))
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def trained(self, run: TrainedRun) -> Path:
        """The file of a training's parameters."""
        return self.path / TRAINED / f"{run.name}.safetensors"

    def curve(self, run: str, step: int, loss: float) -> None:
        """Adds a point of a training's curve."""
        _append(self.path / CURVES, json.dumps({"run": run, "step": step, "loss": loss}))

    def gradient(self, shares: Sequence[GradientShare]) -> None:
        """Keeps the captured gradient of every layer."""
        _replace(self.path / GRADIENT, json.dumps([asdict(share) for share in shares]) + "\n")

    def keep(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, so that a killed process leaves the old one or the new one."""
        part = self.path / f".{CHECKPOINT}.{os.getpid()}"
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, {"state": json.dumps(state)})
        part.replace(self.path / CHECKPOINT)

    def kept(self, run: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The checkpoint of this training, or None where there is none or it is of another."""
        try:
            with safe_open(self.path / CHECKPOINT, "pt") as file:
                state = json.loads((file.metadata() or {})["state"])
                if state["run"] != run:
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError, KeyError, ValueError):
            return None


def read_trained(folder: Path, run: TrainedRun) -> dict[str, Tensor]:
    """Returns the trained parameters of a finished training.

    Raises:
        TrainingError: they were not kept; the log holds those of each row's best rate, and none of whole weights.
    """
    path = TrainingLog(folder).trained(run)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"The parameters of {run.name} are not in {folder}; the log keeps those of every row at its best rate, but "
            "no whole weights"
        ) from error


def has_results(path: Path) -> bool:
    """Returns whether a folder holds a log, or results trained elsewhere."""
    return any((path / name).is_file() for name in (PLAN, RUNS, RUNS_TABLE))


def read_plan(path: Path) -> dict[str, Any]:
    """Returns the plan of a comparison; empty where the folder has none.

    Raises:
        UnreadableFile: it is damaged, or of another version.
    """
    try:
        plan = json.loads((path / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path / PLAN} is damaged ({error}); delete it to see the finished trainings") from error
    if not isinstance(plan, dict) or plan.get("version") != VERSION:
        raise UnreadableFile(f"{path / PLAN} is of another version; this program reads version {VERSION}")
    if lacking := [name for name in ("rows", "seeds", "rates") if not isinstance(plan.get(name), list)]:
        raise UnreadableFile(f"{path / PLAN} lacks {', '.join(lacking)}; delete it to see the finished trainings")
    return plan


def _runs(path: Path, task: str) -> list[TrainedRun]:
    result = []
    for number, entry in enumerate(_entries(path)):
        try:
            seed, trainables = int(entry["seed"]), int(entry["trainables"])
            score = _number(entry["score"])
            result.append(
                TrainedRun(
                    task=str(entry.get("task") or task),
                    row=Row(entry["row"]),
                    seed=seed,
                    rate=_number(entry.get("rate", 0.0)),
                    trainables=trainables,
                    validation=_number(entry.get("validation", score)),
                    score=score,
                    steps=int(entry.get("steps") or 0),
                    seconds=_number(entry.get("seconds") or 0.0),
                    resumed_at=tuple(entry.get("resumed_at") or ()),
                    diverged=bool(entry.get("diverged")) or not math.isfinite(score),
                )
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise UnreadableFile(
                f"{path}: training {number + 1} cannot be read ({type(error).__name__}: {error}); each needs "
                f"{', '.join(_NEEDED)}, and row is one of {', '.join(Row)}"
            ) from error
    names = [(run.task, run.name) for run in result]
    if len(set(names)) < len(names):
        again = next(number for number, name in enumerate(names) if name in names[:number])
        raise UnreadableFile(
            f"{path}: training {again + 1}, {names[again][1]}, is there twice; leave one, or give each its own seed, "
            "rate or task"
        )
    return result


def _entries(path: Path) -> list[dict[str, Any]]:
    if (path / RUNS).is_file():
        return _lines(path / RUNS)
    try:
        table = path / RUNS_TABLE
        return pl.read_csv(table).to_dicts() if table.is_file() else []
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnreadableFile(f"{path / RUNS_TABLE} is no table ({error})") from error


def _curves(path: Path, task: str) -> list[CurvePoint]:
    # Steps after the kept one are trained twice when a killed training goes on; the later line counts.
    points = {}
    for line in _lines(path / CURVES):
        try:
            points[line["run"], int(line["step"])] = CurvePoint(
                task, str(line["run"]), int(line["step"]), float(line["loss"])
            )
        except (KeyError, TypeError, ValueError):
            continue
    return list(points.values())


def _gradient(path: Path) -> tuple[GradientShare, ...]:
    try:
        stored = json.loads((path / GRADIENT).read_text(encoding="utf-8"))
        return tuple(
            GradientShare(**{**share, "k": tuple(share["k"]), "members": tuple(share["members"])}) for share in stored
        )
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _lines(path: Path) -> list[dict[str, Any]]:
    """Every line that is whole; the last one may be torn."""
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    lines = []
    for number, text in enumerate(texts):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            if number + 1 < len(texts) and text.strip():
                raise UnreadableFile(f"{path}, line {number + 1} is no JSON ({error}); delete the line") from error
    return lines


def _number(value: object) -> float:
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]


def _append(path: Path, line: str) -> None:
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            # A killed process may have left half a line.
            start = max(size - _LONGEST_LINE, 0)
            file.seek(start)
            whole = start + file.read().rfind(b"\n") + 1
            if whole < size:
                file.truncate(whole)
        file.write(f"{line}\n".encode())


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
