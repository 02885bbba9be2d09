"""What rebuilt networks can still do: an evaluator's score beside the error of the weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis.group_angles import grouped
from uws_core.analysis.heldout import held_out, pooled
from uws_core.errors import Cancelled, LayerError
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.heldout import FunctionPoint, HeldOut, Way
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.center import dense
from uws_core.passes.options import Report, no_report
from uws_core.passes.rebuild import Basis, State, rebuilt_layer, whole
from uws_core.passes.side_heldout import SideQuestion, side_held_out
from uws_core.sources.opening import open_source
from uws_core.zoo.evaluate import Evaluate as Evaluate

# Rebuilt layers of as many models as fit are held at once.
BATCH_BYTES = 2**28


@dataclass(frozen=True)
class FunctionQuestion:
    """Which layers are rebuilt, on which axis, at which `kept` directions, and what is held out together.

    `groups` holds one label for each model of the collection. `about` centres the subspace (models axis only),
    `reference` is what weight errors are relative to: `mean`, `zero` or `base`.
    """

    layers: tuple[LayerKey, ...]
    kept: tuple[int, ...]
    groups: tuple[Hashable, ...]
    members: Members = None
    axis: Axis = Axis.MODELS
    about: str = "mean"
    reference: str = "mean"


def function_errors(
    collection: Collection,
    evaluate: Evaluate,
    question: FunctionQuestion,
    *,
    grams: Mapping[str, Gram],
    report: Report = no_report,
) -> Iterator[FunctionPoint]:
    """Each chosen model's scores: as it is, at the reference, and rebuilt at each k, held out and in sample.

    `grams` are the models-axis Grams of the layers by name. A point comes as soon as it is scored, so that what is done
    stays when the rest is cancelled. Price: the layers of all models are read twice for each group, and every point is
    one call of `evaluate`.

    Raises:
        NotEnoughModels: fewer than two groups among the models that every layer has.
        LayerError: a layer without a Gram, or models of which only updates are stored.
    """
    missing = [key.name for key in question.layers if key.name not in grams]
    if missing or not question.layers:
        raise LayerError(
            f"Scores need the Grams of the layers that are rebuilt; missing: {', '.join(missing) or 'all'}"
        )
    errors = {one.model: one for one in _errors(collection, question, grams)}
    usable = [row for row, label in enumerate(collection.labels) if label in errors]
    folds = grouped(grams[question.layers[0].name], question.groups, np.array(usable, dtype=np.intp))
    bench, done = _Bench(collection, evaluate, question, grams, errors, usable), 0
    for fold in folds.values():
        for batch in _batches(fold.tolist(), question):
            for scored in bench.points(batch, [row for row in usable if row not in fold]):
                yield from scored
                done += 1
                report(done / len(usable), f"{done} of {len(usable)} models rebuilt and scored")


def _errors(collection: Collection, question: FunctionQuestion, grams: Mapping[str, Gram]) -> tuple[HeldOut, ...]:
    """The weight errors of each model over all the layers together."""
    side = SideQuestion(question.axis, question.kept, reference=question.reference)
    return pooled(
        held_out(
            grams[key.name],
            groups=question.groups,
            kept=question.kept,
            members=question.members,
            about=question.about,
            reference=question.reference,
        )
        if question.axis is Axis.MODELS
        else side_held_out(collection, key, side, groups=question.groups, members=question.members)
        for key in question.layers
    )


def _batches(fold: list[int], question: FunctionQuestion) -> Iterator[list[int]]:
    model_bytes = 4 * 2 * len(question.kept) * sum(key.entries for key in question.layers)
    step = max(1, BATCH_BYTES // max(model_bytes, 1))
    for start in range(0, len(fold), step):
        yield fold[start : start + step]


@dataclass(frozen=True)
class _Bench:
    """All that scoring needs beside the models at hand: `errors` by label, and the `usable` rows."""

    collection: Collection
    evaluate: Evaluate
    question: FunctionQuestion
    grams: Mapping[str, Gram]
    errors: Mapping[str, HeldOut]
    usable: list[int]

    def points(self, batch: list[int], others: list[int]) -> Iterator[Iterator[FunctionPoint]]:
        """The points of some models of one held-out group, model by model."""
        held, in_sample = self.rebuilt(batch, others), self.rebuilt(batch, self.usable)
        for number, row in enumerate(batch):
            at = {Way.HELD_OUT: _at(held, number), Way.IN_SAMPLE: _at(in_sample, number)}
            yield self.of_model(row, at)

    def of_model(self, row: int, rebuilt: Mapping[Way, Sequence[State]]) -> Iterator[FunctionPoint]:
        """The points of one model: as it is, at the reference, and with the layers rebuilt at each k, either way."""
        error = self.errors[self.collection.labels[row]]
        curves = {Way.HELD_OUT: error.subspace, Way.IN_SAMPLE: error.in_sample}
        with whole(self.collection, row) as source:
            state = source.state()
            yield self.point(row, Way.ORIGINAL, 0, 0.0, state)
            if self.question.reference != "mean":
                yield self.point(row, Way.REFERENCE, 0, error.nothing, source.put(state, self.reference()))
            for way, layers in rebuilt.items():
                for k, weight_error, changed in zip(self.question.kept, curves[way], layers, strict=True):
                    yield self.point(row, way, k, float(weight_error), source.put(state, changed))

    def rebuilt(self, models: list[int], others: list[int]) -> dict[str, Tensor]:
        """Every layer (t, q, m, p) of the models from the others' subspace, by name."""
        ask = self.question
        return {
            key.name: rebuilt_layer(
                self.collection,
                key,
                models,
                Basis(others, ask.axis, ask.about),
                kept=ask.kept,
                known=self.grams[key.name],
            )
            for key in ask.layers
        }

    def reference(self) -> dict[str, Tensor]:
        """The layers of the reference. For the mean that is what k = 0 shows."""
        layers, base = self.question.layers, self.collection.base
        if self.question.reference == "zero" or base is None:
            return {key.name: torch.zeros(key.shape) for key in layers}
        with open_source(base) as source:
            return {key.name: dense(source, key, into=torch.empty(key.shape)) for key in layers}

    def point(self, row: int, way: Way, k: int, weight_error: float, state: State) -> FunctionPoint:
        """One call of the evaluator; whatever it raises is this point's problem and no other's."""
        label, score, problem = self.collection.labels[row], nan, ""
        try:
            table = self.collection.table.items()
            score = float(self.evaluate(state, {"model": label} | {name: column[row] for name, column in table}))
            problem = "the evaluator returned NaN" if isnan(score) else ""
        except Cancelled:
            raise
        except Exception as failure:
            # The evaluator is somebody else's code: any failure of it is shown for its model, and the others go on.
            problem = f"{type(failure).__name__}: {failure}"
        return FunctionPoint(label, self.errors[label].group, way, k, weight_error, score, problem)


def _at(layers: Mapping[str, Tensor], model: int) -> list[State]:
    """One model's layers at each k, from all layers (t, q, m, p)."""
    ks = next(iter(layers.values())).shape[1]
    return [{name: values[model, index] for name, values in layers.items()} for index in range(ks)]
