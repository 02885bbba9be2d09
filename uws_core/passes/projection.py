"""The inner products of a model outside a collection with its models: the row that it adds to a Gram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import LayerError
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.gram import Gram
from uws_core.nouns.heldout import UnseenModel
from uws_core.nouns.models import Collection, LayerKey, LeftOut, ModelRef
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.open_models import (
    full_single_precision,
    is_low_rank,
    open_models,
    product_dtype,
)
from uws_core.passes.options import ComputeOptions, no_report
from uws_core.sources.base import Source
from uws_core.sources.files.row_slabs import slabs
from uws_core.sources.opening import open_source


def comparable(collection: Collection, model: ModelRef) -> tuple[tuple[LayerKey, ...], tuple[LeftOut, ...]]:
    """The collection's layers that a model outside it has too, and what is missing, of another shape, or foreign.

    Raises:
        SourceError: the model cannot be opened.
    """
    with open_source(model) as source:
        own = {layer.name: layer for layer in source.layers()}
    shared = tuple(layer for layer in collection.layers if own.get(layer.name) == layer)
    missing = [
        LeftOut(layer.name, _why(layer, own.get(layer.name))) for layer in collection.layers if layer not in shared
    ]
    foreign = [LeftOut(name, f"{collection.name} has no such layer") for name in own if name not in collection.by_name]
    return shared, (*missing, *foreign)


def check_layer(source: Source, key: LayerKey) -> None:
    """Refuses a model that lacks the layer or has it in another shape.

    Raises:
        LayerError: it does.
    """
    own = {layer.name: layer for layer in source.layers()}
    if own.get(key.name) != key:
        raise LayerError(f"{source.ref}: {key.name}: {_why(key, own.get(key.name))}")


def unseen_model_row(
    collection: Collection,
    layer: LayerKey | str,
    model: ModelRef,
    *,
    gram: Gram,
    label: str = "",
    options: ComputeOptions | None = None,
) -> UnseenModel:
    """The row that a model outside the collection adds to its Gram of this layer: one pass over all models.

    `gram` is the collection's own of this layer: its usable models make the mean. `label` names the unseen model; by
    default its reference does. Price: `n d` weights read and as many multiply-adds.

    Raises:
        LayerError: the model lacks the layer, has it in another shape, or has NaN or infinity in it.
        SourceError: a model cannot be read.
    """
    key, options = collection.layer(layer), options or ComputeOptions(budget=BUDGET)
    dense_base = gram.base is not None and collection.base is not None and not is_low_rank(collection, key)
    rows = np.flatnonzero(gram.usable)
    refs = [collection.refs[row] for row in rows]
    extra = [model, *([collection.base] if dense_base and collection.base else [])]
    with open_models([*refs, *extra], key, report=options.report) as sources, full_single_precision():
        check_layer(sources[rows.size], key)
        kind = product_dtype(options.precision, sources[: rows.size], key)
        products = _by_models if key.name in sources[0].low_rank else _by_slabs
        toward, own = products(sources, rows.size, key, kind, options)
    if not (np.isfinite(toward).all() and np.isfinite(own).all()):
        raise LayerError(f"{model}: weights are NaN or infinite in {key.name}; it cannot be compared there")
    return _row(gram, rows, key, label or str(model), toward, own)


def _row(gram: Gram, rows: np.ndarray, key: LayerKey, label: str, toward: np.ndarray, own: np.ndarray) -> UnseenModel:
    """The noun, moved from the slab means (rounded to the products' type) to the exact mean.

    `toward` (n, t) holds the models' inner products with the unseen model, a dense base and the mean, `own` (t,) its
    own; the mean of `toward` is what rounding moved the centre by.
    """
    moved = toward.mean(axis=0)
    to_models = np.zeros(gram.n)
    to_models[rows] = toward[:, 0] - moved[0]
    to_center, to_base = float(own[-1] + moved[0] - moved[-1]), float("nan")
    if gram.base is not None:
        # An adapter's base is the update zero, as far from the mean as zero is.
        to_base = float(own[1] - moved[0] - moved[1]) if own.size > 2 else -to_center
    return UnseenModel(
        model=label,
        layer=key,
        to_models=to_models,
        to_center=to_center,
        norm2=float(own[0] - 2 * moved[0]),
        to_base=to_base,
    )


def _by_slabs(
    sources: Sequence[Source], n: int, key: LayerKey, kind: torch.dtype, options: ComputeOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products (n, t) and (t,) about the mean with the unseen model, the base if there is one, and the mean."""
    toward, own = _zeros(sources, n)
    for slab in slabs(sources, key, dtype=kind, budget=options.budget):
        rows = slab.values.flatten(1)
        mean = rows[:n].mean(dim=0)
        rows -= mean
        others = torch.cat([rows[n:], mean[None]])
        toward += (rows[:n] @ others.T).double()
        own += (others @ others[0]).double()
        options.report(slab.stop / key.shape[0], f"{key.short}: {slab.stop} of {key.shape[0]} rows")
    return toward.numpy(), own.numpy()


def _by_models(
    sources: Sequence[Source], n: int, key: LayerKey, kind: torch.dtype, options: ComputeOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The same for adapters, one multiplied out at a time; their base is the update zero and no row of its own."""
    toward, own = _zeros(sources, n)
    mean = center_matrix(sources[:n], None, key, about="mean", kind=kind, options=replace(options, report=no_report))
    extra = [dense(source, key, into=torch.empty(key.shape, dtype=kind)).sub_(mean) for source in sources[n:]]
    others = torch.stack([*extra, mean]).flatten(1)
    own += (others @ others[0]).double()
    buffer = torch.empty(key.shape, dtype=kind)
    for index, source in enumerate(sources[:n]):
        toward[index] = (others @ dense(source, key, into=buffer).sub_(mean).flatten()).double()
        options.report((index + 1) / n, f"{key.short}: {index + 1} of {n} models")
    return toward.numpy(), own.numpy()


def _zeros(sources: Sequence[Source], n: int) -> tuple[Tensor, Tensor]:
    count = len(sources) - n + 1
    return torch.zeros(n, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)


def _why(expected: LayerKey, actual: LayerKey | None) -> str:
    if actual is None:
        return "the model does not have it"
    expected_shape, shape = (f"{key.shape[0]} x {key.shape[1]}" for key in (expected, actual))
    return f"{expected_shape} was expected, the model has {shape}"
