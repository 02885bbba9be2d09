"""How layers become work items: large layers in blocks of rows, small ones in batches.

Several workers share a large layer: the Grams of its blocks add up to the Gram of the layer. Small layers share one
opening of the models, which takes longer than reading so little. A work item carries names and numbers; the worker that
computes it imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from uws_core.errors import BudgetError
from uws_core.nouns.cost import slab_rows
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.options import ComputeOptions
from uws_core.sources.base import Rows, on_hub

# Seconds of work, so that little is lost with a worker; far above what it costs to send the item.
BLOCK_BYTES = 2**30
# What a batch reads and returns at most: a cancel then costs a fraction of a second, and more layers would save little.
_BATCH_BYTES, _RESULT_BYTES, _MOST_LAYERS = 2**24, 2**25, 8
# What a batch reads of each model on the Hub: a request takes as long as some 100 kB, and a cancel is noticed between.
_HUB_BYTES = 2**21


def layer_batches(collection: Collection, layers: Sequence[LayerKey]) -> Iterator[list[LayerKey]]:
    """The layers in order: small neighbours together, every other one by itself."""
    n, batch, weights = len(collection) + (collection.base is not None), list[LayerKey](), 0
    most = max(_BATCH_BYTES, n * _HUB_BYTES if on_hub(collection.refs[0]) else 0)
    for layer in layers:
        # An adapter's layer stores its factors, r (m + p) numbers.
        view = collection.by_name.get(f"{layer.name}:A")
        numbers = layer.entries if view is None else view.shape[0] * sum(layer.shape)
        full = 4 * n * (weights + numbers) > most or (len(batch) + 1) * 8 * n * n > _RESULT_BYTES
        if batch and (full or len(batch) == _MOST_LAYERS):
            yield batch
            batch, weights = [], 0
        batch.append(layer)
        weights += numbers
    if batch:
        yield batch


def row_blocks(collection: Collection, layer: LayerKey, *, budget: int, block_bytes: int = BLOCK_BYTES) -> list[Rows]:
    """Ranges of rows, each of about `block_bytes` of all models; `[None]`, the whole layer, if that is not more.

    A block is a whole number of slabs: the products are then the same as without blocks. An adapter's layer is never
    split, its factors are small.
    """
    m, p = layer.shape
    n = len(collection) + (collection.base is not None and layer.name in collection.base_layers)
    if 4 * n * m * p <= block_bytes or f"{layer.name}:A" in collection.by_name:
        return [None]
    try:
        slab = slab_rows(n, layer, item_bytes=4, budget=budget)
    except BudgetError:
        # The pass itself raises it, with the same message as without blocks.
        return [None]
    height = max(block_bytes // (4 * n * p * slab), 1) * slab
    return [(start, min(start + height, m)) for start in range(0, m, height)] if height < m else [None]


def block_gram(collection: Collection, layer: LayerKey, rows: Rows, options: ComputeOptions) -> Gram:
    """The Gram of a block of rows: one work item."""
    from uws_core.passes.gram import gram

    return gram(collection, layer, rows=rows, **options.keywords)


def single_layer_collection(collection: Collection, layer: LayerKey) -> Collection:
    """The part of a collection that one work item needs; without the table, which may have ten thousand rows."""
    return replace(collection, layers=(layer,), table={}, left_out=())


def join_blocks(layer: LayerKey, parts: Sequence[Gram]) -> Gram | None:
    """The layer's Gram from those of its blocks, or None if some model is not finite in some of them.

    Blocks in which different models are usable are about the means of different models and do not add.
    """
    if len(parts) == 1:
        return parts[0]
    if not all(part.usable.all() for part in parts):
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    # One layer again: its floor is the same fraction of its own bound; NaN makes Gram compute the other number anew.
    floors = [part.floor / _bound(part) for part in parts if _bound(part) > 0]
    floor = max(floors, default=0.0) * _bound(total)
    return replace(total, layers=(layer,), floor=floor, variance2_per_entry=float("nan"))


def _bound(gram: Gram) -> float:
    """An upper bound of the largest eigenvalue: the largest absolute row sum."""
    return float(np.abs(gram.values).sum(axis=1).max(initial=0.0))
