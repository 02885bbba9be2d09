"""Networks rebuilt from a shared subspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis.heldout import combinations
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.center import center_matrix, dense
from uws_core.passes.gram import gram
from uws_core.passes.open_models import open_models
from uws_core.passes.options import ComputeOptions
from uws_core.sources.base import Source, Whole
from uws_core.sources.files.row_slabs import slabs
from uws_core.sources.opening import open_source

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Basis:
    """A shared subspace: the models that span it (None is all), its axis and its centre.

    On the side axes the centre is the mean of these models.
    """

    others: Sequence[int] | None = None
    axis: Axis = Axis.MODELS
    about: str = "mean"


def rebuild(
    collection: Collection,
    model: int,
    *,
    kept: int,
    basis: Basis | None = None,
    layers: Sequence[LayerKey | str] | None = None,
    grams: Mapping[str, Gram] | None = None,
) -> State:
    """The state dict of one model with the named layers (None: all) rebuilt at `kept` directions of the basis.

    The default basis is all models, this one included, on the models axis about the mean. Tensors that are not named
    stay the model's own. `grams` holds known Grams by layer name; on the models axis missing ones are computed. Each
    layer of each model of the basis is read once.

    Raises:
        NotEnoughModels: no others.
        LayerError: an unknown layer, or a model of which only updates are stored.
        SourceError: a model cannot be read.
    """
    keys = [collection.layer(layer) for layer in (layers if layers is not None else collection.layers)]
    rebuilt = {
        key.name: rebuilt_layer(
            collection, key, [model], basis or Basis(), kept=[kept], known=(grams or {}).get(key.name)
        )[0, 0]
        for key in keys
    }
    with whole(collection, model) as source:
        return source.put(source.state(), rebuilt)


def rebuilt_layer(
    collection: Collection,
    key: LayerKey,
    models: Sequence[int],
    basis: Basis,
    *,
    kept: Sequence[int],
    known: Gram | None = None,
) -> Tensor:
    """One layer of the models `t` at each of `q` numbers of directions of the basis: (t, q, m, p) float32.

    Raises:
        NotEnoughModels: no others.
    """
    others = list(range(len(collection))) if basis.others is None else list(basis.others)
    if not others:
        raise NotEnoughModels(f"{key.name}: nothing to rebuild from, no other model is chosen")
    if basis.axis is Axis.MODELS:
        weights, of_center = combinations(known or gram(collection, key), models, others, kept=kept, about=basis.about)
        return _combined(collection, key, weights, of_center, basis.about)
    return _projected(collection, key, models, others, kept, basis.axis)


@contextmanager
def whole(collection: Collection, model: int) -> Iterator[Whole]:
    """One model as a source that has all of its network.

    Raises:
        LayerError: only updates of the model are stored.
    """
    with open_source(collection.refs[model]) as source:
        if not isinstance(source, Whole):
            raise LayerError(
                f"{collection.labels[model]} stores updates only; add them to their base to have a network"
            )
        yield source


def other_numbers(collection: Collection, members: Sequence[int] | None = None) -> int:
    """The count of numbers that the chosen models store outside the layers of the collection; reads headers only.

    Raises:
        LayerError: only updates of a model are stored.
    """
    rows = range(len(collection)) if members is None else members
    layers = sum(layer.entries for layer in collection.layers)
    total = 0
    for row in rows:
        with open_source(collection.refs[row]) as source:
            if not isinstance(source, Whole):
                raise LayerError(
                    f"{collection.labels[row]} stores updates only, so that its other tensors are not known"
                )
            total += source.entries() - layers
    return total


def _combined(collection: Collection, key: LayerKey, weights: np.ndarray, of_center: np.ndarray, about: str) -> Tensor:
    """Sums of models with these weights (t, q, n), in slabs, about their mean so that small parts survive."""
    t, q, _ = weights.shape
    # Models without a part are not read; where nobody has one, any stands for the zero it adds.
    used = np.flatnonzero(np.abs(weights).sum(axis=(0, 1)))
    used = used if used.size else np.zeros(1, dtype=np.intp)
    rows = torch.from_numpy(weights[:, :, used].reshape(t * q, used.size)).float()
    rest = torch.from_numpy(of_center.reshape(t * q)).float()
    rebuilt = torch.empty(t * q, *key.shape)
    with ExitStack() as stack:
        refs = [collection.refs[row] for row in used]
        center = [collection.base] if about == "base" and collection.base else []
        sources = stack.enter_context(open_models([*refs, *center], key))
        for slab in slabs(sources, key, dtype=torch.float32, budget=BUDGET):
            values = slab.values.flatten(1)
            mean = values[: used.size].mean(dim=0)
            part = rows @ (values[: used.size] - mean) + rows.sum(1, keepdim=True) * mean
            if about == "base":
                part += rest[:, None] * values[-1]
            rebuilt[:, slab.start : slab.stop] = part.view(t * q, -1, key.shape[1])
    return rebuilt.view(t, q, *key.shape)


def _projected(
    collection: Collection, key: LayerKey, models: Sequence[int], others: Sequence[int], kept: Sequence[int], axis: Axis
) -> Tensor:
    """The models' rows (or columns) projected on the others' leading directions, about the others' mean."""
    width = key.shape[1] if axis is Axis.IN else key.shape[0]
    with open_models([collection.refs[row] for row in (*others, *models)], key) as sources:
        targets = sources[len(others) :]
        makers = [source for source in sources[: len(others)] if torch.isfinite(_whole(source, key)).all()]
        mean = center_matrix(makers, None, key, about="mean", kind=torch.float32, options=ComputeOptions(budget=BUDGET))
        total = torch.zeros(width, width, dtype=torch.float64)
        for source in makers:
            rows = _rows(source, key, mean, axis)
            total += (rows.T @ rows).double()
        directions = torch.linalg.eigh(total)[1].flip(1).float()
        rebuilt = torch.empty(len(models), len(kept), *key.shape)
        for index, source in enumerate(targets):
            rows = _rows(source, key, mean, axis)
            for number, k in enumerate(kept):
                part = rows @ directions[:, :k] @ directions[:, :k].T
                rebuilt[index, number] = mean + (part if axis is Axis.IN else part.T)
    return rebuilt


def _rows(source: Source, key: LayerKey, mean: Tensor, axis: Axis) -> Tensor:
    away = _whole(source, key) - mean
    return away if axis is Axis.IN else away.T


def _whole(source: Source, key: LayerKey) -> Tensor:
    return dense(source, key, into=torch.empty(key.shape))
