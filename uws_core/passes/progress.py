"""How far a scan is: the fraction of the weights it has to read that are behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from uws_core.nouns.models import LayerKey

Report = Callable[[float, str], None]


class Progress:
    """The fraction over the `layers` that have to be computed; what was stored already takes no time and counts not."""

    def __init__(self, layers: Sequence[LayerKey], report: Report) -> None:
        self._total = max(sum(layer.entries for layer in layers), 1)
        self._behind = 0
        # Layers of a bunch are read together and finished one by one: what was told stands.
        self._told = 0.0
        self._report = report

    def finished(self, layer: LayerKey) -> None:
        """A layer is done, or has failed."""
        self._behind += layer.entries
        self._tell(self._behind, layer.short)

    def beside(self, entries: int, message: str) -> None:
        """So many weights are done in layers that are not."""
        self._tell(self._behind + entries, message)

    def inside(self, layers: Sequence[LayerKey]) -> Report:
        """The report of the pass over some layers, as part of the whole."""
        own = sum(layer.entries for layer in layers)
        return lambda fraction, message: self._tell(self._behind + fraction * own, message)

    def _tell(self, entries: float, message: str) -> None:
        self._told = max(self._told, min(entries / self._total, 1.0))
        self._report(self._told, message)
