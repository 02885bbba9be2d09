"""What a merge costs before it starts, from file headers."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.merging import Convention, MergeMethod, Need
from uws_core.sources.opening import open_source
from uws_core.use.merge.network import Network
from uws_core.use.merge.plan import MergePlan


@dataclass(frozen=True, slots=True)
class MergePrice:
    """Bytes to read in one pass, how often a layer that exceeds the budget is read, bytes to write, bytes of memory.

    `written` of an adapter is that at the rank asked for, or at the sum of its members' ranks.
    """

    read: int
    passes: int
    written: int
    memory: int


def price(plan: MergePlan) -> MergePrice:
    """Returns the price of a merge; reads headers only.

    Raises:
        SourceError: a model is missing or changed.
        CollectionError: a format that cannot be merged.
    """
    sources = [open_source(plan.collection.refs[row]) for row in plan.members]
    read = sum(source.stored_bytes(key.name) for source in sources for key in plan.layers)
    if plan.adapters:
        item, rank = 4 if plan.dtype in ("auto", "float32") else 2, plan.recipe.rank
        # At the rank asked for, else as many numbers as all members store; at most full rank.
        stored = read // max(4 * len(plan.layers), 1)
        numbers = [
            min(rank * sum(key.shape) if rank else stored, min(key.shape) * sum(key.shape)) for key in plan.layers
        ]
        largest = max(sum(source.stored_bytes(key.name) for source in sources) for key in plan.layers)
        return MergePrice(read, 1, sum(numbers) * item, 6 * largest)
    if plan.collection.base is not None:
        base = open_source(plan.collection.base)
        read += sum(base.stored_bytes(key.name) for key in plan.layers)
    count = len(plan.members) + (plan.collection.base is not None)
    held = max(4 * count * key.entries for key in plan.layers)
    return MergePrice(
        read, _passes(plan) if held > plan.budget // 2 else 1, Network(plan).nbytes, min(held, plan.budget)
    )


def _passes(plan: MergePlan) -> int:
    recipe = plan.recipe
    trimmed = recipe.density < 1
    if recipe.method in (MergeMethod.TIES, MergeMethod.BREADCRUMBS):
        return 3 if trimmed else 1
    if recipe.method is MergeMethod.SCE:
        return 5 if trimmed else 2
    if recipe.facts.need is Need.ENTRIES:
        return 2 if recipe.convention is Convention.MERGEKIT and trimmed else 1
    fixed = (MergeMethod.MEAN, MergeMethod.LINEAR, MergeMethod.TASK_ARITHMETIC)
    return 1 if recipe.method in fixed else 2
