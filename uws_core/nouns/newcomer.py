"""A model that is not in the collection, seen from it."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.arrays import Floats, frozen
from uws_core.nouns.models import LayerKey


@dataclass(frozen=True)
class Newcomer:
    """Where a model `x` outside a collection lies in one layer: one more row of its Gram, about the same mean `mu`.

    `to_models[i] = <W_i - mu, x - mu>` (n,), 0 for models that are not usable; `to_center = <x - mu, mu>`;
    `norm2 = |x - mu|^2`; `to_base = <x - mu, b - mu>`, NaN without a base.
    """

    model: str
    layer: LayerKey
    to_models: Floats
    to_center: float
    norm2: float
    to_base: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "to_models", frozen(self.to_models))
