"""What compressed models can still do: an evaluator's score against bytes, beside each model's own SVD."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import Cancelled, LayerError
from uws_core.nouns.models import Collection, LayerKey, LowRank, Value
from uws_core.nouns.storage import LayerPlan, Method, SizePoint
from uws_core.sources.base import Portable, Whole
from uws_core.sources.opening import open_source
from uws_core.use.fitting import layer_parts
from uws_core.use.rivals import own_ranks

if TYPE_CHECKING:
    from uws_core.use.compress import CompressionDraft

Report = Callable[[float, str], None]
Evaluate = Callable[[Mapping[str, Tensor], Mapping[str, Value]], float]
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One model's score at one size; `way` is original, shared basis or own SVD. `problem` says why there is none."""

    model: str
    way: str
    bytes: int
    score: float
    problem: str = ""


def scores(
    draft: CompressionDraft,
    evaluate: Evaluate,
    *,
    factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    report: Report | None = None,
) -> tuple[ModelScore, ...]:
    """Returns each model's score as it is, and compressed with these multiples of the plan's directions.

    `evaluate(state_dict, row)` gets every tensor of a network and its row of the table, with the column `model`; an
    adapter is added to the collection's base. Price: an evaluation for each model, size and way; one compressed
    collection is in memory at a time.

    Raises:
        LayerError: adapters without a base, or models that are no whole networks.
    """
    say = report or (lambda fraction, message: None)
    networks = [_Network(draft.collection, row) for row in draft.members]
    scores = [_scored(network, evaluate, "original", 0, {}) for network in networks]
    for place, factor in enumerate(factors):
        plans = [fit.resized(min(max(1, round(fit.plan.k * factor)), max(fit.plan.layer.shape))) for fit in draft.fits]
        numbers = sum(plan.shared_numbers + len(networks) * plan.member_numbers for plan in plans)
        size = numbers * draft.item_bytes + draft.untouched_bytes
        ranks, _ = own_ranks(draft.fits, numbers)
        stored = [_Stored.of(draft, plan) for plan in plans]
        for number, network in enumerate(networks):
            shared = {layer.plan.layer: layer.matrix(number) for layer in stored}
            own = {
                layer.plan.layer: _truncated(network.matrix(layer.plan.layer), layer.center, int(rank[number]))
                for layer, rank in zip(stored, ranks, strict=True)
            }
            scores.append(_scored(network, evaluate, "shared basis", size, shared))
            scores.append(_scored(network, evaluate, "own SVD", size, own))
            done = (place + (number + 1) / len(networks)) / len(factors)
            say(done, f"{number + 1} of {len(networks)} models scored at size {place + 1} of {len(factors)}")
    return tuple(scores)


def relative_scores(scores: Sequence[ModelScore]) -> tuple[SizePoint, ...]:
    """Returns, for each way and size, the median of the models' scores relative to their own."""
    own = {score.model: score.score for score in scores if score.way == "original"}
    points = []
    for way, size in sorted({(score.way, score.bytes) for score in scores if score.way != "original"}):
        shares = [
            score.score / own[score.model]
            for score in scores
            if (score.way, score.bytes) == (way, size) and own[score.model] > 0 and not isnan(score.score)
        ]
        points.append(SizePoint(way, size, nan, nan, float(np.median(shares)) if shares else nan))
    return tuple(points)


class _Network:
    """One model as a whole network, an adapter added to its base."""

    def __init__(self, collection: Collection, row: int) -> None:
        self.label = collection.labels[row]
        self.row: dict[str, Value] = {"model": self.label}
        self.row |= {name: column[row] for name, column in collection.table.items()}
        self._own, self._base = open_source(collection.refs[row]), None
        if self._own.format == "adapter":
            if collection.base is None:
                raise LayerError(f"{collection.name}: scores of adapters need their base; open them with base=")
            self._base = open_source(collection.base)
        whole = self._base or self._own
        if not isinstance(whole, Whole):
            raise LayerError(f"{whole.ref}: no whole network, so it cannot be scored")
        self._whole = whole

    def matrix(self, layer: LayerKey) -> Tensor:
        """The layer in float64: the weights, or the update."""
        part = self._own.read(layer.name)
        return part.scale * part.up.double() @ part.down.double() if isinstance(part, LowRank) else part.double()

    def state(self, layers: Mapping[LayerKey, Tensor]) -> dict[str, Tensor]:
        """Every tensor of the network, with these layers (weights or updates) in place of its own."""
        state = self._whole.state()
        if self._base is None:
            return self._whole.put(state, {key.name: matrix for key, matrix in layers.items()})
        updates = {key for key in self._own.layers() if key.name in self._own.low_rank}
        weights = {}
        for key in updates:
            update = layers[key] if key in layers else self.matrix(key)
            values = self._base.read(key.name)
            if isinstance(values, LowRank):
                raise LayerError(f"{self._base.ref}: {key.name} is an update, a whole matrix was expected")
            weights[key.name] = values.double() + update
        assert isinstance(self._own, Portable)
        heads = self._own.untouched([key.name for key in updates])
        return self._whole.put(state, weights) | {name.removeprefix(_PREFIX): head for name, head in heads.items()}


@dataclass(frozen=True)
class _Stored:
    """What a folder stores of a layer."""

    plan: LayerPlan
    left: Tensor
    right: Tensor
    center: Tensor | None
    cores: list[Tensor]

    @classmethod
    def of(cls, draft: CompressionDraft, plan: LayerPlan) -> _Stored:
        with layer_parts(draft.collection, plan, draft.members, about=draft.about, seed=draft.seed) as parts:
            return cls(plan, parts.left, parts.right, parts.center, list(parts.cores))

    def matrix(self, number: int) -> Tensor:
        """One model's layer, in float64."""
        left, right, core = self.left.double(), self.right.double(), self.cores[number].double()
        core = torch.diag(core) if core.ndim == 1 else core
        core = core if self.plan.method is Method.IN else left @ core
        matrix = core if self.plan.method is Method.OUT else core @ right.T
        return matrix if self.center is None else matrix + self.center.double()


def _truncated(matrix: Tensor, center: Tensor | None, rank: int) -> Tensor:
    """A model's own truncated SVD about the centre."""
    about = torch.zeros_like(matrix) if center is None else center.double()
    left, sizes, right = torch.linalg.svd(matrix - about, full_matrices=False)
    kept: Tensor = about + (left[:, :rank] * sizes[:rank]) @ right[:rank]
    return kept


def _scored(
    network: _Network, evaluate: Evaluate, way: str, size: int, layers: Mapping[LayerKey, Tensor]
) -> ModelScore:
    try:
        score = float(evaluate(network.state(layers), network.row))
    except Cancelled:
        raise
    except Exception as failure:
        # The evaluator is somebody else's code: its failure is shown for its model, and the others go on.
        return ModelScore(network.label, way, size, nan, f"{type(failure).__name__}: {failure}")
    return ModelScore(network.label, way, size, score, "the evaluator returned NaN" if isnan(score) else "")
