"""What merged models can still do: every method at every scale, at each member's task under its own head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from uws_core.analysis.merge_scores import BASE, OWN
from uws_core.errors import Cancelled, LayerError, UwsError
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.merge_preview import MergeScore
from uws_core.nouns.merging import MergeRecipe
from uws_core.nouns.models import Collection, Value
from uws_core.passes.open_models import is_low_rank
from uws_core.sources.base import Whole
from uws_core.sources.opening import open_source
from uws_core.use.merge.adapters import merged_layers
from uws_core.use.merge.network import Network
from uws_core.use.merge.plan import plan_merge
from uws_core.zoo import lora

State = Mapping[str, Tensor]
Evaluate = Callable[[State, Mapping[str, Value]], tuple[float, float]]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class ScoreQuestion:
    """Which recipes are tried (each at scale 1 times every one of `scales`), for which members and layers.

    `evaluate(state_dict, row)` returns a network's score on the data that choose the scale, and on the other data.
    """

    recipes: Sequence[MergeRecipe]
    scales: Sequence[float]
    evaluate: Evaluate
    members: Sequence[int]
    layers: Sequence[str]
    budget: int = BUDGET


def merge_scores(
    collection: Collection, question: ScoreQuestion, *, report: Report | None = None
) -> Iterator[MergeScore]:
    """The members' own scores, the base's under each member's head, then every method at every scale.

    What is no part of the merge (heads of another shape) stays each member's own. A method that cannot merge these
    members has no points; an evaluator's failure is NaN. Price: an evaluation a method, scale and member.

    Raises:
        LayerError: no base, or members that are neither whole networks nor adapters in PEFT's layout.
    """
    report = report or _silent
    bench = _Bench.of(collection, question)
    for row in question.members:
        yield bench.point(OWN, 1.0, row, bench.own(row))
    for row in question.members:
        yield bench.point(BASE, 0.0, row, bench.network(row, {}, 0.0))
    scales = [scale for scale in question.scales if scale != 0]
    count = len(question.recipes) * len(scales)
    for place, recipe in enumerate(question.recipes):
        try:
            moved = bench.moved(recipe)
        except UwsError as error:
            if isinstance(error, Cancelled):
                raise
            continue
        for step, scale in enumerate(scales):
            for row in question.members:
                yield bench.point(str(recipe.method), scale, row, bench.network(row, moved, scale))
            done = place * len(scales) + step + 1
            report(done / count, f"{recipe.method} at {scale:g} scored, {done} of {count}")


@dataclass(frozen=True)
class _Bench:
    """All that scoring needs: the base's tensors, and each member's beside the merged ones."""

    collection: Collection
    question: ScoreQuestion
    base: State
    beside: Mapping[int, State]
    low_rank: bool

    @classmethod
    def of(cls, collection: Collection, question: ScoreQuestion) -> _Bench:
        if collection.base is None:
            raise LayerError(f"{collection.name}: scores of merges start from the base, and none is known; name it")
        low_rank = is_low_rank(collection, collection.layer(question.layers[0]))
        beside = {
            row: lora.load(Path(collection.refs[row].repo)) if low_rank else _state(collection, row)
            for row in question.members
        }
        with open_source(collection.base) as source:
            if not isinstance(source, Whole):
                raise LayerError(f"{collection.base.repo} is no whole network")
            base = source.state()
        return cls(collection, question, base, beside, low_rank)

    def own(self, row: int) -> State:
        """A member as it is."""
        return lora.merge(self.base, self.beside[row]) if self.low_rank else self.beside[row]

    def network(self, row: int, moved: State, scale: float) -> State:
        """The base with `scale` times what the merge moved, under the head of a member."""
        state = {name: self.base[name].float() + scale * change for name, change in moved.items()}
        beside = self.beside[row]
        if self.low_rank:
            beside = {name.removeprefix(lora.PREFIX): tensor for name, tensor in beside.items()}
        own = {name: tensor for name, tensor in beside.items() if name.startswith("head.")}
        return {**self.base, **own, **state}

    def moved(self, recipe: MergeRecipe) -> State:
        """What a merge at scale 1 moves of the base, by tensor; heads stay."""
        ask = self.question
        plan = plan_merge(self.collection, recipe, members=ask.members, layers=ask.layers, budget=ask.budget)
        if plan.adapters:
            return {
                layer.key.name: torch.from_numpy(layer.factors.up @ layer.factors.down).float()
                for layer in merged_layers(plan)
            }
        network = Network(plan)
        cuts, found = network.cuts(), {}
        for one in network.tensors:
            if one.merged and not one.name.startswith("head."):
                whole = torch.cat([piece.flatten() for piece in network.pieces(one, cuts=cuts)]).view(one.shape)
                found[one.name] = whole.float() - self.base[one.name].float()
        return found

    def point(self, method: str, scale: float, row: int, state: State) -> MergeScore:
        """One network's scores; whatever an evaluator raises is NaN here and spoils no other."""
        label = self.collection.labels[row]
        table = {"model": label} | {name: column[row] for name, column in self.collection.table.items()}
        try:
            choose, judge = self.question.evaluate(state, table)
        except Cancelled:
            raise
        except Exception:
            # The evaluator is somebody else's code.
            choose = judge = nan
        return MergeScore(method, scale, label, choose, judge)


def _state(collection: Collection, row: int) -> State:
    with open_source(collection.refs[row]) as source:
        if not isinstance(source, Whole):
            raise LayerError(f"{collection.labels[row]} is no whole network, and no adapter")
        return source.state()


def _silent(fraction: float, message: str) -> None:
    """The report of a caller who wants none."""
