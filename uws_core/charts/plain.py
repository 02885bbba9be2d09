"""A plotly figure that keeps its parts as plain dictionaries until somebody asks for the validated figure.

Plotly's objects check every property they are given: 8 to 10 ms a figure, 0.4 ms as dictionaries. Pages and exports
send the dictionaries; who reads `data` or `layout`, as every test of a chart does, gets the validated figure, so a
wrong property still fails there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from _plotly_utils.utils import to_typed_array_spec  # type: ignore[import-untyped]
from plotly.basedatatypes import BasePlotlyType
from plotly.colors import get_colorscale

# Properties whose own name has an underscore; in every other name it leads to a part: `title_text`, `margin_t`.
_WHOLE = frozenset({"error_x", "error_y", "paper_bgcolor", "plot_bgcolor"})
# Plotly keeps these as they are: a range of two numbers is no array.
_AS_LISTS = frozenset({"range", "layer"})

Part = dict[str, Any]


class PlainFigure(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A `go.Figure` built from dictionaries; whatever is not defined here makes it an ordinary one first."""

    def __init__(self, layout: Mapping[str, object]) -> None:
        # Not the constructor of plotly, which validates: see `__getattr__`.
        object.__setattr__(self, "_plain", {"data": [], "layout": _expanded(layout)})

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Called for what plotly's constructor would have set: the figure becomes an ordinary one and answers."""
        if self.__dict__.get("_plain") is None:
            raise AttributeError(name)
        parts = self._plain
        object.__setattr__(self, "_plain", None)
        super().__init__(data=parts["data"], layout=parts["layout"])
        return getattr(self, name)

    def __reduce__(self) -> tuple[type[go.Figure], tuple[Part]]:
        """A copy is an ordinary figure."""
        return go.Figure, (self.to_dict(),)

    def to_dict(self) -> Part:
        """The figure as plotly's JSON has it, arrays as base64."""
        if self._plain is None:
            whole: Part = super().to_dict()
            return whole
        return {name: sent(part) for name, part in self._plain.items()}

    def add_scatter(self, **properties: object) -> go.Figure:
        """Adds a trace of points or lines."""
        return self._trace("scatter", properties)

    def add_scattergl(self, **properties: object) -> go.Figure:
        """Adds a trace of points that the graphics card draws."""
        return self._trace("scattergl", properties)

    def add_bar(self, **properties: object) -> go.Figure:
        """Adds bars."""
        return self._trace("bar", properties)

    def add_heatmap(self, **properties: object) -> go.Figure:
        """Adds a matrix of coloured cells."""
        return self._trace("heatmap", properties)

    def add_shape(self, **properties: object) -> go.Figure:
        """Adds a line or a rectangle."""
        return self._item("shapes", "add_shape", properties)

    def add_annotation(self, **properties: object) -> go.Figure:
        """Adds a text."""
        return self._item("annotations", "add_annotation", properties)

    def update_layout(self, **properties: object) -> go.Figure:
        """Changes these properties of the layout, parts of parts included."""
        if self._plain is None:
            return super().update_layout(**properties)
        _merge(self._plain["layout"], _expanded(properties))
        return self

    def update_xaxes(self, selector: object = None, **properties: object) -> go.Figure:
        """Changes every x axis, or those with the properties in `selector`."""
        if self._plain is None:
            return super().update_xaxes(selector=selector, **properties)
        return self._axes("xaxis", selector, properties)

    def update_yaxes(self, selector: object = None, **properties: object) -> go.Figure:
        """Changes every y axis, or those with the properties in `selector`."""
        if self._plain is None:
            return super().update_yaxes(selector=selector, **properties)
        return self._axes("yaxis", selector, properties)

    def _trace(self, kind: str, properties: Mapping[str, object]) -> go.Figure:
        if self._plain is None:
            return getattr(super(), f"add_{kind}")(**properties)
        self._plain["data"].append({"type": kind, **_expanded(properties)})
        return self

    def _item(self, name: str, method: str, properties: Mapping[str, object]) -> go.Figure:
        if self._plain is None:
            return getattr(super(), method)(**properties)
        self._plain["layout"].setdefault(name, []).append(_expanded(properties))
        return self

    def _axes(self, prefix: str, selector: object, properties: Mapping[str, object]) -> go.Figure:
        layout = self._plain["layout"]
        layout.setdefault(prefix, {})
        for name in [name for name in layout if name.startswith(prefix)]:
            wanted = selector if isinstance(selector, Mapping) else {}
            if all(layout[name].get(key) == value for key, value in wanted.items()):
                _merge(layout[name], _expanded(properties))
        return self


def parts_of(figure: go.Figure) -> Part:
    """The figure's `data` and `layout` as dictionaries, to read: without validation where it has none yet."""
    plain = figure.__dict__.get("_plain")
    parts: Part = figure.to_dict() if plain is None else plain
    return parts


def sent(value: object, name: str = "") -> object:
    """The value with its arrays as plotly.js reads them, in base64."""
    if isinstance(value, dict):
        return {key: sent(part, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [sent(part) if isinstance(part, dict) else part for part in value]
    return to_typed_array_spec(value) if isinstance(value, np.ndarray) and name not in _AS_LISTS else value


def _expanded(properties: Mapping[str, object]) -> Part:
    """The properties as nested dictionaries, as plotly reads `title_text`, a title of text, and names of scales."""
    parts: Part = {}
    for name, value in properties.items():
        if value is None:
            continue
        head, _, rest = (name, "", "") if name in _WHOLE else name.partition("_")
        if rest:
            _merge(parts, {head: _expanded({rest: value})})
        elif head == "title" and isinstance(value, str):
            _merge(parts, {head: {"text": value}})
        elif head == "colorscale" and isinstance(value, str):
            colours = [colour for _, colour in get_colorscale(value)]
            parts[head] = [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]
        elif isinstance(value, BasePlotlyType):
            parts[head] = value.to_plotly_json()
        elif isinstance(value, Mapping):
            _merge(parts, {head: _expanded(value)})
        else:
            parts[head] = value
    return parts


def _merge(target: Part, changes: Part) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value
