"""Adapters merged as adapters, LoRA in and LoRA out: thin factors of one layer at a time, without the base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis.merge_methods import combine
from uws_core.errors import CollectionError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.merge_preview import MergeGrams
from uws_core.nouns.merging import MergedLayer, MergeRecipe, Need
from uws_core.nouns.models import LayerKey
from uws_core.passes.updates import thin_updates
from uws_core.sources.base import Portable
from uws_core.sources.opening import open_source
from uws_core.use.merge.factors import Factors, Products, Thin, by_rule, combined, merged_factors
from uws_core.use.merge.forming import HERE, Crew, in_order, one_layer
from uws_core.use.merge.measures import of_thin
from uws_core.use.merge.plan import MergePlan, some_of

# Up to this side a full decomposition takes less than a second; beyond, a random start and subspace iteration.
_SMALL_SIDE = 1024
_SPARE, _STEPS = 16, 4


@dataclass(frozen=True)
class AdapterLayer:
    """One merged layer: its factors with the scale in them, singular values split evenly, and its distances."""

    key: LayerKey
    factors: Thin
    measured: MergedLayer


def merged_layers(plan: MergePlan, crew: Crew = HERE) -> Iterator[AdapterLayer]:
    """The layers of a merged adapter in order; one layer of all members is in memory at a time.

    Raises:
        LayerError: factors that are NaN or infinite, or a member that stores the layer whole.
        ClusterError: a worker was lost.
    """
    items = [(one_layer(plan, key),) for key in plan.layers]
    yield from in_order(crew, _planned_layer, items) if crew.executor else (_planned_layer(*item) for item in items)


def _planned_layer(plan: MergePlan) -> AdapterLayer:
    """The one layer of a plan."""
    (key,) = plan.layers
    updates = thin_updates(plan.collection, key, plan.members)
    ups, downs = (
        [part.astype(np.float64) for part in side]
        for side in (updates.parts(updates.up.T), updates.parts(updates.down))
    )
    return merged_layer(plan.recipe, key, [up.T for up in ups], downs, plan.labels)


def merged_layer(
    recipe: MergeRecipe, key: LayerKey, ups: Sequence[Floats], downs: Sequence[Floats], labels: Sequence[str]
) -> AdapterLayer:
    """Returns the merge of updates up_i (m, r_i), down_i (r_i, p) of one layer, scales in `up`.

    Rules on entries look at the products, formed row by row, and need a rank: by default the sum of the members'.
    """
    factors = Factors.balanced(ups, downs)
    lost2 = 0.0
    if recipe.facts.need is Need.GRAM:
        # The base of adapters is the update zero.
        grams = MergeGrams(
            layers=(key,),
            labels=tuple(labels),
            updates=factors.products[None],
            to_base=np.zeros((1, factors.n)),
            base_norm2=np.zeros(1),
            sharpest=np.zeros(1),
            has_base=True,
        )
        coefficients: Floats = np.asarray(combine(grams, recipe).coefficients)[0]
        whole = combined(factors, coefficients)
    elif recipe.facts.need is Need.FACTORS:
        whole = merged_factors(recipe, factors, key.name)
    else:
        matrix = by_rule(
            recipe, Products([part.up for part in factors.parts], [part.down for part in factors.parts]), key.name
        )
        rank = recipe.rank or sum(part.down.shape[0] for part in factors.parts)
        whole, lost2 = nearest(matrix, min(rank, *key.shape))
    cut, more = whole.cut(recipe.rank if recipe.facts.need is not Need.ENTRIES else None)
    written = Thin(cut.up * recipe.scale, cut.down)
    lost2 = (lost2 + more) * recipe.scale**2
    return AdapterLayer(key, written, of_thin(key, factors, written, lost2=lost2, rank=cut.down.shape[0]))


def nearest(matrix: Floats, rank: int) -> tuple[Thin, float]:
    """Returns a matrix (m, p) at a rank, and the squared norm that is lost.

    Large matrices by four steps of subspace iteration from a seeded start, which loses at most a little more.
    """
    total = float(np.square(matrix).sum())
    if min(matrix.shape) <= max(_SMALL_SIDE, 4 * rank):
        left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    else:
        block = np.random.default_rng(0).standard_normal((matrix.shape[1], rank + _SPARE))
        for _ in range(_STEPS):
            block = np.linalg.qr(matrix.T @ np.linalg.qr(matrix @ block)[0])[0]
        left, sizes, turned = np.linalg.svd(matrix @ block, full_matrices=False)
        right = turned @ block.T
    root = np.sqrt(sizes[:rank])
    kept = float(np.square(sizes[:rank]).sum())
    return Thin(left[:, :rank] * root, root[:, None] * right[:rank]), max(total - kept, 0.0)


def beside_weights(plan: MergePlan) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns the weights that the adapters trained whole, such as heads, merged as `plan.beside` says, and notes.

    Raises:
        CollectionError: a format that does not say what stands beside its updates.
    """
    if plan.beside == "drop":
        return {}, ("Weights that adapters trained whole, such as heads, are left out",)
    names = [key.name for key in plan.layers]
    if plan.beside != "mean":
        row = plan.collection.labels.index(plan.beside)
        found = _untouched(plan, row, names)
        return found, (
            f"Taken from {plan.beside}, which trained them whole: {some_of(sorted(found))}",
        ) if found else ()
    total: dict[str, Tensor] = {}
    shapes: dict[str, set[tuple[int, ...]]] = {}
    kinds: dict[str, torch.dtype] = {}
    counts: dict[str, int] = {}
    for row in plan.members:
        for name, tensor in _untouched(plan, row, names).items():
            shapes.setdefault(name, set()).add(tuple(tensor.shape))
            counts[name] = counts.get(name, 0) + 1
            kinds.setdefault(name, tensor.dtype)
            if name not in total:
                total[name] = tensor.double()
            elif total[name].shape == tensor.shape:
                total[name] = total[name] + tensor.double()
    n = len(plan.members)
    alike = [name for name in total if counts[name] == n and len(shapes[name]) == 1 and kinds[name].is_floating_point]
    others = [name for name in total if name not in alike]
    notes = []
    if alike:
        notes.append(f"Averaged, being trained whole beside the updates: {some_of(sorted(alike))}")
    if others:
        notes.append(f"Left out, not being alike in all adapters: {some_of(sorted(others))}")
    return {name: (total[name] / n).to(kinds[name]) for name in alike}, tuple(notes)


def config_of(plan: MergePlan) -> Mapping[str, object]:
    """Returns the configuration of the first member."""
    source = open_source(plan.collection.refs[plan.members[0]])
    return dict(source.config) if isinstance(source, Portable) else {}


def _untouched(plan: MergePlan, row: int, names: Sequence[str]) -> dict[str, Tensor]:
    source = open_source(plan.collection.refs[row])
    if not isinstance(source, Portable):
        raise CollectionError(
            f"{plan.collection.labels[row]}: adapters in this format cannot be merged; convert them to PEFT's first"
        )
    return source.untouched(names)
