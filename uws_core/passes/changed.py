"""The share of a layer's entries in which two models differ."""

from __future__ import annotations

import torch

from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.center import dense
from uws_core.passes.open_models import open_models
from uws_core.passes.options import ComputeOptions

# Entries of one block of rows of one model.
_BLOCK = 2**24


def changed_share(
    collection: Collection, layer: LayerKey | str, left: int, right: int, *, options: ComputeOptions | None = None
) -> float:
    """The share of entries that are not equal in the models with these indices, in the types that their files store.

    A number that is NaN in both is equal. Updates that are stored as factors are compared multiplied out, in float32.
    """
    key, options = collection.layer(layer), options or ComputeOptions()
    refs = [collection.refs[left], collection.refs[right]]
    m, p = key.shape
    step, count = max(_BLOCK // p, 1), 0
    with open_models(refs, key, report=options.report) as sources:
        if any(key.name in source.low_rank for source in sources):
            first, second = (dense(source, key, into=torch.empty(m, p)) for source in sources)
            return _different(first, second) / key.entries
        for start in range(0, m, step):
            rows = (start, min(start + step, m))
            first, second = (_read(source.read(key.name, rows)) for source in sources)
            count += _different(first, second)
            options.report(rows[1] / m, f"{key.short}: entries compared")
    return count / key.entries


def _read(part: object) -> torch.Tensor:
    if not isinstance(part, torch.Tensor):
        raise TypeError(f"rows of a dense layer are a tensor; found {type(part).__name__}")
    return part


def _different(first: torch.Tensor, second: torch.Tensor) -> int:
    unequal = first != second
    return int((unequal & ~(first.isnan() & second.isnan())).sum())
