"""A group of models at one place that share layers."""

from __future__ import annotations

from dataclasses import dataclass

from uws_core.nouns.models import LayerKey


@dataclass(frozen=True, slots=True)
class Architecture:
    """Models that share layers by name and shape, told apart from the other models at the same place.

    `id` depends on the shared layers only, so it stays the same when models are added; `title` is for people.
    `models` are labels, `layers` those that all of them have, without the factor views of adapters.
    """

    id: str
    title: str
    kind: str
    models: tuple[str, ...]
    layers: tuple[LayerKey, ...]

    def __str__(self) -> str:
        """Returns the line of a list: title, number of models, number of layers."""
        layers = f"{len(self.layers)} layer" + ("" if len(self.layers) == 1 else "s")
        return f"{self.title}: {len(self.models)} models, {layers}"
