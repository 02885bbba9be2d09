"""Merge: models into one, measured before a byte is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from uws_core.nouns.cost import BUDGET
from uws_core.nouns.merging import Convention, Merge, MergeMethod, MergeRecipe
from uws_core.nouns.models import Collection, LayerKey
from uws_core.use.merge.adapters import beside_weights, merged_layers
from uws_core.use.merge.forming import Crew
from uws_core.use.merge.network import Network
from uws_core.use.merge.plan import MergePlan, plan_merge
from uws_core.use.merge.writing import SHARD_BYTES, WriteOptions, written

Report = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class MergeDraft(Merge):
    """A measured merge that can be written; see `Merge` for the figures."""

    plan: MergePlan

    def write(
        self,
        folder: str | Path,
        *,
        target: str = "peft",
        shard_bytes: int = SHARD_BYTES,
        executor: Executor | None = None,
        report: Report | None = None,
    ) -> Path:
        """Writes the merged model into a folder, which appears only when complete, and returns it.

        Whole models: safetensors, in shards of at most `shard_bytes`, with index, configuration and tokenizer.
        Adapters: a PEFT folder that `target` (peft, vllm, llama.cpp) loads. `merge.json` and, where mergekit knows the
        method, `recipe.yaml` lie beside. The same call goes on where a killed or stopped one was. With an `executor`
        (`cluster.connected(address)`) the workers of a cluster read and merge, and this process writes.

        Raises:
            ClusterError: a worker was lost.
            ExportError: the folder exists, or the disk is full or read-only.
            CollectionError: the target cannot load what the merge has.
            SourceError: a model cannot be read, or changed.
        """
        path = Path(folder).expanduser()
        written(self.plan, path, WriteOptions(target, shard_bytes), report=report or _silent, executor=executor)
        return path

    def state(self) -> dict[str, Tensor]:
        """Returns the merge in memory, to be scored: every tensor of a whole model by its stored name.

        Of adapters the merged update (m, p) of each layer by its name, to be added to their base.
        """
        if self.plan.adapters:
            return {
                layer.key.name: torch.from_numpy(layer.factors.up @ layer.factors.down).float()
                for layer in merged_layers(self.plan)
            }
        network = Network(self.plan)
        cuts = network.cuts()
        return {
            formed.tensor.name: torch.cat([piece.reshape(-1) for piece in formed.pieces()])
            .to(formed.tensor.dtype)
            .reshape(formed.tensor.shape)
            for formed in network.formed(network.tensors, cuts)
        }


class RecipeKeywords(TypedDict, total=False):
    """The options of a method; see `MergeRecipe` for what each is and for the defaults."""

    weights: Sequence[float] | None
    scale: float
    convention: Convention | str
    density: float
    t: float
    ridge: float
    rule: MergeMethod | str
    rank: int | None
    seed: int


class MergeKeywords(RecipeKeywords, total=False):
    """The same, and how the merge is computed; see `merge`."""

    budget: int
    executor: Executor | None
    report: Report | None


def merge(
    collection: Collection,
    *,
    method: MergeMethod | str = MergeMethod.MEAN,
    recipe: MergeRecipe | None = None,
    members: Sequence[int | str] | None = None,
    layers: Sequence[LayerKey | str] | None = None,
    dtype: str = "auto",
    beside: str = "mean",
    **keywords: Unpack[MergeKeywords],
) -> MergeDraft:
    """Returns the merge of a collection's models as it would be: norms, distances, what survives of each member.

    The merge is `base + scale * method(updates)`; options of the method are keywords, see `RecipeKeywords`.
    `method` is one of mean, linear, task-arithmetic, slerp, multi-slerp, karcher, model-stock, subspace, ties,
    dare, dare-ties, della, breadcrumbs, sce, tsv, iso-c, iso-cts, knots, core, regmean, ctm; `convention` whose
    reading of it (paper, mergekit, peft). A `recipe` holds every option and takes the place of those before it.
    `members` are rows or labels. Adapters are merged as adapters: `rank` is the result's, and `beside` (mean, drop,
    a label) says what becomes of heads they trained whole. With an `executor` the workers of a cluster read and
    merge. Nothing is written. Price: each weight is read once, twice where a method needs inner products, three
    times where it trims more than the `budget` holds.

    Raises:
        NotEnoughModels: fewer than two models, or more than the method takes.
        CollectionError: weights that sum to zero, an unknown method, an option or a rank out of range.
        LayerError: no base where the method needs one, or weights that are NaN.
        BudgetError: a method of factors on matrices that do not fit.
    """
    budget, executor = keywords.pop("budget", BUDGET), keywords.pop("executor", None)
    report = keywords.pop("report", None)
    options: dict[str, Any] = {
        "method": method,
        **keywords,
        "weights": tuple(map(float, keywords.get("weights") or ())),
    }
    if unknown := sorted(set(options) - set(RecipeKeywords.__annotations__) - {"method"}):
        raise TypeError(f"merge() got an unexpected keyword argument {unknown[0]!r}")
    chosen = recipe or MergeRecipe.from_dict(options)
    plan = plan_merge(collection, chosen, members=members, layers=layers, dtype=dtype, beside=beside, budget=budget)
    measured_merge = measured(plan, report=report or _silent, executor=executor)
    known = {field.name: getattr(measured_merge, field.name) for field in fields(Merge)}
    return MergeDraft(**known, plan=plan)


def measured(plan: MergePlan, *, report: Report, executor: Executor | None = None) -> Merge:
    """Returns the distances of a merge without writing it; with an `executor` its workers read and merge."""
    count, number = len(plan.layers), 0
    crew = Crew(executor, lambda: report(number / count, "waiting for the workers"), kept=False)
    if plan.adapters:
        found = []
        for number, layer in enumerate(merged_layers(plan, crew), start=1):
            found.append(layer.measured)
            report(number / count, f"{layer.key.short} merged")
        return Merge(plan.recipe, plan.labels, tuple(found), plan.about, "adapters", beside_weights(plan)[1])
    network = Network(plan)
    cuts = network.cuts(crew)
    by_name = {one.key.name: one for one in network.tensors if one.key is not None}
    layers = []
    chosen = [by_name[key.name] for key in plan.layers if key.name in by_name]
    for number, formed in enumerate(network.formed(chosen, cuts, crew), start=1):
        for _ in formed.pieces():
            pass
        distances = network.measured(formed.tensor, formed.sums)
        if distances is not None:
            layers.append(distances)
        report(number / count, f"{formed.tensor.name} merged")
    return Merge(plan.recipe, plan.labels, tuple(layers), plan.about, "weights", network.notes())


def _silent(fraction: float, message: str) -> None:
    """The report of a caller who wants none."""
