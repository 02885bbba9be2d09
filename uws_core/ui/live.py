"""A slider whose every position is in the browser: while it is dragged, figures, numbers and the answer follow there.

The page tells once what each position shows; the browser moves lines and restyles traces from that, and only the
release runs the page. What it takes to follow is computed when a pointer or the keyboard reaches for the slider, so
that a visitor who never drags does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import streamlit as st
from plotly.io._json import to_json_plotly
from streamlit.components import v2

from uws_core.charts.plain import sent
from uws_core.ui.page import ANSWER, NUMBERS, Number

_HERE = Path(__file__)
_CSS = """
.uws-slider label { display: flex; align-items: center; gap: 0.75rem; font: 0.875rem var(--st-font);
  color: var(--st-text-color); }
.uws-slider input { flex: 1; min-width: 8rem; height: 1.5rem; margin: 0; accent-color: var(--st-primary-color);
  cursor: grab; touch-action: none; }
.uws-slider input:active { cursor: grabbing; }
.uws-slider output { min-width: 5.5rem; font-variant-numeric: tabular-nums; }
"""
_mount = v2.component(
    "uws_slider",
    js=_HERE.with_name("slider_component.js").read_text(encoding="utf-8"),
    css=_CSS,
)

# One value of each property a position: numbers, texts, or an array whose first axis is the positions.
Values = Sequence[object]
Properties = Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class Move:
    """What the positions of a slider change in one figure.

    `shapes`, `annotations` and `traces` map a name in the figure to its properties; `layout` are properties of the
    layout, with dots (`yaxis.type`). Every property has one value a position.
    """

    shapes: Mapping[str, Properties] = field(default_factory=dict)
    annotations: Mapping[str, Properties] = field(default_factory=dict)
    traces: Mapping[str, Properties] = field(default_factory=dict)
    layout: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steps:
    """What each position shows: the answers, the rows of numbers, and the moves by the figures' keys."""

    answers: Sequence[str] = ()
    numbers: Sequence[Sequence[Number]] = ()
    figures: Mapping[str, Move] = field(default_factory=dict)


def slider(
    name: str,
    label: str,
    values: Sequence[float],
    value: float,
    *,
    steps: Callable[[], Steps],
    subject: str,
    choose: Callable[[float], None],
) -> None:
    """A slider over `values`, which begins at `value`; `choose` takes the value that it is released at.

    `steps` is called once the slider is reached for. `subject` says what it is about: another subject has other steps.
    """
    key = f"live.{name}"
    reached = st.session_state.get(f"{key}.reached") == subject
    texts = [f"{each:g}" for each in values]
    content = {
        "name": name,
        "label": label,
        "texts": texts,
        "at": min(range(len(values)), key=lambda i: abs(values[i] - value)),
        "subject": subject,
        "places": {"answer": ANSWER, "numbers": NUMBERS},
        "steps": _content(steps()) if reached else None,
    }
    _mount(
        key=key,
        data=to_json_plotly(content).encode(),
        on_reach_change=partial(_reach, key, subject),
        on_commit_change=partial(_commit, key, tuple(values), choose),
    )


def _content(steps: Steps) -> object:
    return sent(
        {
            "answers": list(steps.answers),
            "numbers": [[[item.name, item.value, item.note] for item in row] for row in steps.numbers],
            "figures": {f"figure.{key}": asdict(move) for key, move in steps.figures.items()},
        }
    )


def _reach(key: str, subject: str) -> None:
    st.session_state[f"{key}.reached"] = subject


def _commit(key: str, values: Sequence[float], choose: Callable[[float], None]) -> None:
    at = (st.session_state.get(key) or {}).get("commit")
    if isinstance(at, int | float) and 0 <= at < len(values):
        choose(values[int(at)])
