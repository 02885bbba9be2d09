"""The progress of a scan: the fraction of the weights it has to read that are done."""

from __future__ import annotations

from collections.abc import Sequence

from uws_core.nouns.models import LayerKey
from uws_core.passes.options import Report


class Progress:
    """The fraction done of the `layers` to compute; layers already in the store are excluded."""

    def __init__(self, layers: Sequence[LayerKey], report: Report) -> None:
        self._total = max(sum(layer.entries for layer in layers), 1)
        self._done = 0
        # Layers of a batch are read together and finished one by one: the fraction must not fall in between.
        self._highest = 0.0
        self._report = report

    def finished(self, layer: LayerKey) -> None:
        """A layer is done, or has failed."""
        self._done += layer.entries
        self._tell(self._done, layer.short)

    def beside(self, entries: int, message: str) -> None:
        """So many weights are done in unfinished layers."""
        self._tell(self._done + entries, message)

    def inside(self, layers: Sequence[LayerKey]) -> Report:
        """The report of the pass over some layers, as part of the whole."""
        entries = sum(layer.entries for layer in layers)
        return lambda fraction, message: self._tell(self._done + fraction * entries, message)

    def _tell(self, entries: float, message: str) -> None:
        self._highest = max(self._highest, min(entries / self._total, 1.0))
        self._report(self._highest, message)
