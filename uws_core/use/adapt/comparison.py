"""The fair comparison: every row at its own best rate, on the same data, with the same head, over the same seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from uws_core.analysis.adapt import best_rate
from uws_core.errors import CollectionError, LayerError, TrainingError, UwsError
from uws_core.nouns.adapting import DEFAULT_ROWS, Comparison, Row, TrainedRun
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import ModelRef
from uws_core.sources.opening import open_source
from uws_core.use.adapt.bases import Basis, base_svd, from_compressed, random_like
from uws_core.use.adapt.gradient import captured_gradient
from uws_core.use.adapt.linears import weight_of
from uws_core.use.adapt.log import TrainingLog, expected_runs
from uws_core.use.adapt.modules import adapted, in_head, linear_modules, row_modules, trainable_numbers
from uws_core.use.adapt.options import AdaptData, AdaptOptions, Batch, Loss, Report, names_in
from uws_core.use.adapt.training import Training, train
from uws_core.use.compressed_folder import CompressedFolder, open_compressed

# One model, or what builds the model of a seed, such as one with a fresh head.
Model = nn.Module | Callable[[int], nn.Module]
# A model further from the base of its basis than this, in a layer, is another model; float16 rounds at 5e-4.
_SAME_BASE = 1e-2
_RANDOM_ROWS = (Row.RANDOM, Row.RANDOM_DIAGONAL)


def adapt(
    model: Model,
    basis: Basis | CompressedFolder | str | Path,
    *,
    loss: Loss,
    data: AdaptData | Sequence[Batch],
    rows: Sequence[Row | str] = DEFAULT_ROWS,
    options: AdaptOptions | None = None,
    report: Report | None = None,
) -> Comparison:
    """Returns the scores of every way to train as few numbers: head only, shared basis, random, base SVD, LoRA, full.

    `model` is a module, or a function that builds one for a seed; it comes back as it was. `basis` is a compressed
    folder, or what `bases.from_collection` made. `loss(model, batch)` gives one number. Every row trains the same head,
    steps and batches. The first seed is trained at each rate of one grid, the others at the rate with the best
    validation score; the test score counts.
    With `options.folder` the log stays, and the same call goes on from it after a stop or a kill.

    Raises:
        LayerError: the basis is of layers or shapes that the model does not have.
        CollectionError: the basis is of another base, or was made with the target's own group.
        TrainingError: no validation data, fewer than three seeds, or a loss that is no number.
        Cancelled: `report` raised it; what was finished is kept.
    """
    options = (options or AdaptOptions()).checked()
    if not callable(model) or not callable(loss):
        raise TrainingError(
            f"adapt takes a module, or a function that builds one for a seed, and loss(model, batch); found a "
            f"{type(model).__name__} and a {type(loss).__name__}"
        )
    opened = opened_basis(basis, held_out=options.held_out)
    heard = report or (lambda fraction, message: None)
    work = _Work(model, opened, loss, AdaptData.of(data), _rows(rows), options, heard)
    if options.folder is not None:
        return work.compared(TrainingLog(Path(options.folder).expanduser()))
    with tempfile.TemporaryDirectory(prefix="uws-adapt-") as folder:
        return work.compared(TrainingLog(Path(folder)))


def opened_basis(basis: Basis | CompressedFolder | str | Path, *, held_out: Sequence[str] = ()) -> Basis:
    """Returns the basis, if it was made without the held-out members.

    Raises:
        CollectionError: it was made with some of them.
    """
    if isinstance(basis, str | Path):
        basis = open_compressed(basis)
    if not isinstance(basis, Basis | CompressedFolder):
        raise CollectionError(
            f"A basis is a folder that `uws compress` wrote, or bases.from_collection(collection, kept=, held_out=); "
            f"found a {type(basis).__name__}"
        )
    opened = basis if isinstance(basis, Basis) else from_compressed(basis)
    inside = sorted(set(held_out) & set(opened.members))
    if inside:
        raise CollectionError(
            f"The basis was made with {', '.join(inside[:4])} ({len(inside)} of the target's own group), so it has "
            "seen the answer; compress again without them (members=), or make it with from_collection(held_out=)"
        )
    return opened


def planned(basis: Basis, rows: Sequence[Row | str]) -> dict[str, int]:
    """Returns the numbers that each row trains beside the head, by row, before anything is trained."""
    return {str(row): trainable_numbers(row, basis) for row in _rows(rows)}


@dataclass(frozen=True)
class _Work:
    """A comparison with all that it needs."""

    model: Model
    basis: Basis
    loss: Loss
    data: AdaptData
    rows: tuple[Row, ...]
    options: AdaptOptions
    report: Report

    def compared(self, log: TrainingLog) -> Comparison:
        """All trainings, those of the log first."""
        seeds, rates = tuple(dict.fromkeys(self.options.seeds)), tuple(sorted(set(self.options.rates)))
        first = self._model(seeds[0])
        linears = linear_modules(first, self.basis)
        if twice := [name for name in linears if in_head(name, self.options.head)]:
            raise LayerError(
                f"{', '.join(twice[:3])} is trained whole as the head and lies in the basis too; name another head, or "
                "take a basis without it (layers=)"
            )
        weights = {name: weight_of(linear).detach().double().cpu().numpy() for name, linear in linears.items()}
        # As the layers of the basis are stored.
        weights = {name: weight.T if name in self.basis.transposed else weight for name, weight in weights.items()}
        if self.options.check_base:
            check_base(self.basis, weights)
        base = base_svd(self.basis, weights) if Row.BASE in self.rows else self.basis
        plan = self._plan(seeds, rates, weights)
        with log.held(plan):
            log.gradient(captured_gradient(first, self.basis, loss=self.loss, batch=self.data.batch(seeds[0], 0)))
            runs = list(log.finished(self.options.task))
            for row in self.rows:
                own = base if row is Row.BASE else self.basis
                for rate in rates:
                    self._one(TrainedRun(self.options.task, row, seeds[0], rate, 0, 0.0, 0.0), own, log, runs)
                    # The parameters of the best rate so far are kept.
                    best = best_rate([run for run in runs if run.row is row])
                    for worse in (run for run in runs if run.row is row and run.rate != best):
                        log.trained(worse).unlink(missing_ok=True)
                best = best_rate([run for run in runs if run.row is row and run.seed == seeds[0]])
                for seed in seeds[1:] if best is not None else ():
                    self._one(TrainedRun(self.options.task, row, seed, best or 0.0, 0, 0.0, 0.0), own, log, runs)
            self.report(1.0, f"{len(runs)} trainings")
        if all(run.diverged for run in runs):
            raise TrainingError(
                f"Every training or its score ended in NaN, at rates from {rates[0]:g} to {rates[-1]:g}; give smaller "
                "rates, and look at score(model, batches)"
            )
        return Comparison(tuple(runs), self.options.metric, expected_runs(plan, runs))

    def _one(self, training: TrainedRun, own: Basis, log: TrainingLog, runs: list[TrainedRun]) -> None:
        """Adds one training to the runs, unless the log has it."""
        if any(run.name == training.name for run in runs):
            return
        expected = len(self.rows) * (len(set(self.options.rates)) + len(set(self.options.seeds)) - 1)
        done = len(runs)
        row, seed, options = training.row, training.seed, self.options
        model = self._model(seed)
        basis = random_like(own, seed) if row in _RANDOM_ROWS else own
        modules = row_modules(row, basis, linear_modules(model, basis), seed)
        with adapted(model, modules, options.head) as trained:
            if not trained:
                raise TrainingError(
                    "The row 'head only' trains nothing, since no head is named; name it (head=), or leave the row out"
                )
            ended = train(
                model,
                trained,
                Training(training.name, seed, training.rate, options.steps, options.keep_every),
                loss=self.loss,
                batch=self.data.batch,
                log=log,
                report=lambda fraction, message: self.report((done + fraction) / expected, message),
            )
            model.eval()
            with torch.no_grad():
                scores = [
                    float("nan") if ended.diverged else self._score(model, part)
                    for part in (self.data.validation, self.data.test)
                ]
            run = replace(
                training,
                trainables=trainable_numbers(row, basis),
                validation=scores[0],
                score=scores[1],
                steps=options.steps,
                seconds=ended.seconds,
                resumed_at=ended.resumed_at,
                diverged=ended.diverged or not np.isfinite(scores).all(),
            )
            kept = {} if row is Row.FULL or run.diverged else _parameters(trained, modules)
            log.add(run, kept)
        runs.append(run)

    def _score(self, model: nn.Module, batches: Sequence[Batch]) -> float:
        if self.options.score is not None:
            return float(self.options.score(model, batches))
        return -float(np.mean([float(self.loss(model, batch)) for batch in batches]))

    def _model(self, seed: int) -> nn.Module:
        model = self.model if isinstance(self.model, nn.Module) else self.model(seed)
        if not isinstance(model, nn.Module):
            raise TrainingError(f"The function that builds a model gave a {type(model).__name__}; expected a module")
        return model

    def _plan(self, seeds: Sequence[int], rates: Sequence[float], weights: dict[str, Floats]) -> dict[str, Any]:
        digest = sha256()
        for name, weight in weights.items():
            # The first row: a digest of all weights of a large model would take longer than a step.
            digest.update(name.encode() + weight[0].astype(np.float32).tobytes())
        return {
            "version": 1,
            "task": self.options.task,
            "metric": self.options.metric,
            "rows": [str(row) for row in self.rows],
            "seeds": list(seeds),
            "rates": list(rates),
            "steps": self.options.steps,
            "head": list(self.options.head),
            "trainables": planned(self.basis, self.rows),
            "layers": [each.layer.name for each in self.basis.layers],
            "members": len(self.basis.members),
            "basis": self.basis.digest,
            "model": digest.hexdigest()[:32],
            # Absent where there are none, as in the logs of versions that did not note them.
            **({"transposed": sorted(self.basis.transposed)} if self.basis.transposed else {}),
        }


def check_base(basis: Basis, weights: dict[str, Floats]) -> None:
    """Compares a layer of the model with the base of the basis, where that is known and can be read.

    Raises:
        CollectionError: they differ.
    """
    if basis.base is None or not basis.layers:
        return
    layer, ref = basis.layers[0].layer, ModelRef.parse(basis.base)
    # A basis is a file that travels: its base may be elsewhere, and nothing is fetched to compare.
    if not Path(ref.repo).expanduser().exists():
        return
    try:
        source = open_source(ref)
        key = source.find(layer.name)
        stored = source.read(key.name) if key is not None else None
    except (UwsError, ValueError, OSError):
        return
    if not isinstance(stored, torch.Tensor):
        return
    expected = stored.double().numpy()
    found = weights[layer.name]
    if expected.shape != found.shape:
        return
    away = float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-300))
    if away > _SAME_BASE:
        raise CollectionError(
            f"The model is not the base of this basis ({basis.base}): its {layer.name} differs by {away:.0%}. Load "
            "that base, or pass check_base=False if you mean this model"
        )


def _rows(rows: Sequence[Row | str]) -> tuple[Row, ...]:
    rows = names_in(rows)
    unknown = [str(row) for row in rows if str(row) not in set(map(str, Row))]
    if unknown or not rows:
        raise CollectionError(f"No row is called {', '.join(unknown) or 'nothing'}; there are {', '.join(Row)}")
    chosen = {Row(row) for row in rows}
    return tuple(row for row in Row if row in chosen)


def _parameters(trained: dict[str, nn.Parameter], modules: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The head's parameters, and each layer's update as factors, in float32."""
    result = {
        f"head|{name}": value.detach().float().cpu().clone() for name, value in trained.items() if "/" not in name
    }
    for name, module in modules.items():
        up, down = module.factors()
        result |= {f"up|{name}": up.detach().float().cpu().clone(), f"down|{name}": down.float().detach().cpu().clone()}
    return result
