"""What nouns show of themselves in a notebook."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Shown:
    """A noun that a notebook shows as a sentence and a table, and that draws itself with `plot()`.

    Tables and charts stand floors above the nouns, so they are loaded by name, when a notebook asks.
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        """The noun as HTML: what it is in a sentence, and its table."""
        return str(import_module("uws_core.notebook").html(self))

    def plot(self, **options: Any) -> Any:  # noqa: ANN401 -- plotly has no types
        """The noun's `plotly` figure, as the pages draw it; `options` go to its chart.

        Raises:
            UwsError: this noun has a table and no figure.
        """
        return import_module("uws_core.notebook").figure(self, **options)
