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
        self._report = report

    def finished(self, layer: LayerKey) -> None:
        """A layer is done, or has failed."""
        self._behind += layer.entries
        self._report(min(self._behind / self._total, 1.0), layer.short)

    def beside(self, entries: int, message: str) -> None:
        """So many weights are done in layers that are not."""
        self._report(min((self._behind + entries) / self._total, 1.0), message)

    def inside(self, layer: LayerKey) -> Report:
        """The report of one layer's pass, as part of the whole."""
        return lambda fraction, message: self._report((self._behind + fraction * layer.entries) / self._total, message)
