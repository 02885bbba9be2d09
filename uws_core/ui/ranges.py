"""Which part of a figure's axes is drawn, on the page and in every export of it; kept in the address."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isfinite, log10

import plotly.graph_objects as go
import streamlit as st

from uws_core.charts.plain import parts_of
from uws_core.charts.style import Theme
from uws_core.export import Draw

# The word in the address; each value is `figure:axis:from:to`, an end that is left to the data empty.
WORD = "range"
_AXES = {"x": "Across", "y": "Up"}

Ends = tuple[float | None, float | None]


def asked(key: str) -> dict[str, Ends]:
    """The ends that the address asks for, by axis, of the figure called `key`; what is no range asks for nothing."""
    found: dict[str, Ends] = {}
    for value in st.query_params.get_all(WORD):
        name, _, rest = value.partition(":")
        parts = rest.split(":")
        if name == key and len(parts) == 3 and parts[0] in _AXES:
            ends = (_number(parts[1]), _number(parts[2]))
            if ends != (None, None):
                found[parts[0]] = ends
    return found


def words(key: str, ends: Mapping[str, Ends]) -> list[str]:
    """What stands in the address for these ends."""
    return [f"{key}:{axis}:{_text(low)}:{_text(high)}" for axis, (low, high) in ends.items()]


def applied(draw: Draw, ends: Mapping[str, Ends]) -> Draw:
    """The same figure with its axes ending there."""
    return partial(_drawn, draw, dict(ends)) if ends else draw


def fields(key: str) -> None:
    """Where the axes of this figure begin and end, asked for."""
    st.caption("Axes, in the units of the numbers (a share of 5 % is 0.05)")
    known = asked(key)
    for axis, title in _AXES.items():
        with st.container(horizontal=True):
            for place, word in enumerate(("from", "to")):
                st.number_input(
                    f"{title} {word}",
                    value=known.get(axis, (None, None))[place],
                    placeholder="all",
                    format="%g",
                    width=120,
                    key=_field(key, axis, word),
                    on_change=_take,
                    args=(key,),
                )
    if known:
        st.button("Show all", key=f"range.{key}.all", on_click=_clear, args=(key,))


def _drawn(draw: Draw, ends: Mapping[str, Ends], theme: Theme) -> go.Figure:
    drawn = draw(theme)
    for axis, (low, high) in ends.items():
        own = drawn.layout[f"{axis}axis"]
        if own.type == "log":
            low, high = (None if end is None or end <= 0 else log10(end) for end in (low, high))
        # An end that is not asked for stays what the figure had, or follows the data.
        before = own.range or (None, None)
        own.range = [new if new is not None else old for new, old in zip((low, high), before, strict=True)]
    return drawn


def measured(drawn: go.Figure) -> bool:
    """Whether both axes have numbers, and there is one of each: among names or cells a range says nothing."""
    parts = parts_of(drawn)
    across, up = ([name for name in parts["layout"] if name.startswith(axis)] for axis in ("xaxis", "yaxis"))
    if len(across) > 1 or len(up) > 1:
        return False
    axis = parts["layout"].get("xaxis", {})
    if axis.get("ticktext") or axis.get("showticklabels") is False:
        return False
    return all(trace["type"] in ("scatter", "scattergl", "histogram", "bar") for trace in parts["data"])


def _take(key: str) -> None:
    ends = {axis: (_typed(key, axis, "from"), _typed(key, axis, "to")) for axis in _AXES}
    _write(key, {axis: both for axis, both in ends.items() if both != (None, None)})


def _clear(key: str) -> None:
    for axis in _AXES:
        for word in ("from", "to"):
            st.session_state.pop(_field(key, axis, word), None)
    _write(key, {})


def _write(key: str, ends: Mapping[str, Ends]) -> None:
    others = [value for value in st.query_params.get_all(WORD) if value.partition(":")[0] != key]
    said = [*others, *words(key, ends)]
    if said:
        st.query_params[WORD] = said
    elif WORD in st.query_params:
        del st.query_params[WORD]


def _typed(key: str, axis: str, word: str) -> float | None:
    value = st.session_state.get(_field(key, axis, word))
    return None if value is None else float(value)


def _field(key: str, axis: str, word: str) -> str:
    return f"range.{key}.{axis}.{word}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"
