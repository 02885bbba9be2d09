"""The controls of the adapt page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from uws_core.nouns.adapting import DEFAULT_ROWS, RATES, SEEDS, Row
from uws_core.nouns.models import Collection

HERE, FOLDER = "trained here", "a training log"
# As many steps as the built-in adapters had: 16 times through 1347 pictures in batches of 64.
STEPS, KEPT = 336, 6


@dataclass(frozen=True, slots=True)
class AdaptQuery:
    """What is trained on: plain texts and numbers, so that it can key a cache and name a folder."""

    collection: str
    fingerprint: str
    task: str
    kept: int
    steps: int
    seeds: int
    rows: tuple[str, ...]

    @property
    def trainings(self) -> int:
        """Trainings of the whole comparison: every rate at the first seed, one rate at the others."""
        return len(self.rows) * (len(RATES) + self.seeds - 1)


def source() -> str:
    """Whether the page shows what was trained here, or a log."""
    return str(
        st.segmented_control(
            "Results",
            (HERE, FOLDER),
            default=HERE,
            required=True,
            key="results",
            bind="query-params",
            help="Train on a built-in task here, or look at the log of trainings made elsewhere.",
        )
    )


def adapt(selection_id: str, collection: Collection, tasks: Sequence[str]) -> AdaptQuery:
    """The query of the adapt page, from its row of controls."""
    usual = "rotated" if "rotated" in tasks else tasks[0]
    # What another collection offered and this one does not is forgotten before the widget sees it.
    if st.session_state.get("task", usual) not in tasks:
        del st.session_state["task"]
    task = st.selectbox(
        "Task",
        tasks,
        index=list(tasks).index(usual),
        key="task",
        bind="query-params",
        width=150,
        help="The basis is made without all models of this task.",
    )
    kept = st.number_input(
        "Directions",
        min_value=1,
        max_value=16,
        value=KEPT,
        key="directions",
        bind="query-params",
        width=120,
        help="k directions a side of every layer: a core of k x k numbers is trained.",
    )
    steps = st.number_input(
        "Steps",
        min_value=10,
        max_value=5000,
        value=STEPS,
        step=50,
        key="steps",
        bind="query-params",
        width=120,
        help="Steps of AdamW in every training.",
    )
    seeds = st.number_input(
        "Seeds",
        min_value=3,
        max_value=20,
        value=len(SEEDS),
        key="seeds",
        bind="query-params",
        width=110,
        help="Fewer than three cannot tell a difference from luck.",
    )
    more = st.toggle(
        "Diagonals and mixture",
        key="morerows",
        bind="query-params",
        help="Train also diagonal cores on the shared and the random basis, and weights of the members' cores.",
    )
    return AdaptQuery(
        collection=selection_id,
        fingerprint=collection.fingerprint,
        task=str(task),
        kept=int(kept),
        steps=int(steps),
        seeds=int(seeds),
        rows=tuple(map(str, Row if more else DEFAULT_ROWS)),
    )


def folder() -> str:
    """The folder of a log, as typed."""
    return st.text_input(
        "Folder of the log",
        key="log",
        bind="query-params",
        placeholder="below the folder the app was started in",
        width=330,
        help="A folder that `uws adapt --out` wrote, or runs.csv with one training a line: row, seed, trainables, "
        "score, and where you have them rate, validation and task.",
    )


def logged_task(tasks: Sequence[str]) -> str:
    """The task of a log that is shown; empty for all of several."""
    if len(tasks) < 2:
        return tasks[0] if tasks else ""
    known = ("", *tasks)
    if st.session_state.get("logtask", "") not in known:
        del st.session_state["logtask"]
    return str(
        st.selectbox(
            "Task",
            known,
            format_func=lambda name: name or "all tasks",
            key="logtask",
            bind="query-params",
            width=150,
            help="One task, its seeds as pairs; or all, each task as one pair.",
        )
    )


def views() -> dict[str, str]:
    """What the page's own switches say, as the address has it."""
    first = {
        "results": HERE,
        "task": "",
        "directions": KEPT,
        "steps": STEPS,
        "seeds": len(SEEDS),
        "log": "",
        "logtask": "",
    }
    told = {name: str(st.session_state[name]) for name in first if name in st.session_state}
    told = {name: value for name, value in told.items() if value and value != str(first[name])}
    return told | ({"morerows": "true"} if st.session_state.get("morerows") else {})
