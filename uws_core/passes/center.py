"""The centre of a layer as a matrix, for the passes that need each model's whole layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.gram import Members
from uws_core.nouns.models import Collection, LayerKey, LowRank, ModelRef
from uws_core.passes.open_models import is_low_rank
from uws_core.passes.options import ComputeOptions
from uws_core.sources.base import Source
from uws_core.sources.files.row_slabs import slabs


@dataclass(frozen=True, slots=True)
class Chosen:
    """The models of a pass, in order, and the model (if any) whose weights are the centre.

    Adapters about their base have no such model: their updates are about it already.
    """

    rows: tuple[int, ...]
    center: ModelRef | None


def chosen(collection: Collection, layer: LayerKey, members: Members, about: str) -> Chosen:
    """The chosen models of a collection (None is all) and the centre that `about` names.

    Raises:
        NotEnoughModels: no model, or an index outside the collection.
        LayerError: `about` is neither mean, zero, base (with this layer) nor a model's label.
    """
    rows = np.arange(len(collection)) if members is None else np.asarray(members)
    rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.intp)
    if not rows.size or rows.min() < 0 or rows.max() >= len(collection):
        raise NotEnoughModels(f"Choose models between 0 and {len(collection) - 1}; found {rows.tolist()[:5]}")
    center = None
    if about == "base":
        base = base_of(collection, layer)
        center = None if is_low_rank(collection, layer) else base
    elif about not in ("mean", "zero"):
        if about not in collection.labels:
            raise LayerError(f"{layer.name}: no model is called {about!r}; the centre is mean, zero, base or a model")
        center = collection.refs[collection.labels.index(about)]
    return Chosen(tuple(rows.tolist()), center)


def base_of(collection: Collection, layer: LayerKey) -> ModelRef:
    """The model that all models started from.

    Raises:
        LayerError: none is known, or it does not have this layer.
    """
    if collection.base is None or layer.name not in collection.base_layers:
        raise LayerError(f"{layer.name}: no base model is known for this layer; choose the mean as the centre")
    return collection.base


def dense(source: Source, layer: LayerKey, *, into: Tensor) -> Tensor:
    """One model's layer as a matrix, written into `into` (m, p); an adapter's update is multiplied out."""
    values = source.read(layer.name) if layer.name in source.low_rank else source.read(layer.name, into=into)
    if isinstance(values, LowRank):
        torch.mm(values.up.to(into.dtype) * values.scale, values.down.to(into.dtype), out=into)
    return into


def center_matrix(
    sources: Sequence[Source],
    center: Source | None,
    layer: LayerKey,
    *,
    about: str,
    kind: torch.dtype,
    options: ComputeOptions,
) -> Tensor:
    """The centre (m, p) in `kind`: the mean of `sources`, the matrix of `center`, or zero.

    Reports each slab at the fraction 0, because the pass that needs the centre has not begun.
    """
    matrix = torch.zeros(layer.shape, dtype=kind)
    if center is not None:
        return dense(center, layer, into=matrix)
    if about == "mean":
        if layer.name in sources[0].low_rank:
            for index, source in enumerate(sources):
                part = source.read(layer.name)
                if not isinstance(part, LowRank):
                    raise LayerError(f"{source.ref}: {layer.name} is dense here and low-rank in other models")
                matrix.addmm_(part.up.to(kind) * (part.scale / len(sources)), part.down.to(kind))
                options.report(0.0, f"{layer.short}: mean of {index + 1} of {len(sources)} models")
            return matrix
        for slab in slabs(sources, layer, dtype=kind, budget=options.budget):
            torch.mean(slab.values, dim=0, out=matrix[slab.start : slab.stop])
            options.report(0.0, f"{layer.short}: mean of {slab.stop} of {layer.shape[0]} rows")
    return matrix
