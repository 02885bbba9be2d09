"""The slider of k on the angles page, and what its positions show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from uws_core.charts.angle_tables import CELLS, MOST_CELLS, restyled
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import figures, live, page, state
from uws_core.ui.angles import controls, data, view
from uws_core.ui.angles.data import AnglesResult
from uws_core.ui.angles.reads import KEPT

# Where every k would take too long, these; where these do, the figure follows at the release.
FEW = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
EVERY_SECONDS, FEW_SECONDS = 1.5, 3.0
# One multiply-add of the eigenvalues of one pair: 100 models of width 768, every k to 32, take 9 s.
_SECONDS_PER_STEP = 3e-9


@dataclass(frozen=True)
class EveryK:
    """The numbers of every pair at several k, by measure (positions, g, g), with their chance, answers and numbers."""

    pairs: Mapping[str, Floats]
    chances: Mapping[str, tuple[float, ...]]
    answers: tuple[str, ...]
    numbers: tuple[tuple[page.Number, ...], ...]


def directions(result: AnglesResult, query: AnglesQuery, collection: Collection) -> None:
    """A slider over k: heatmap, numbers and answer follow in the browser where all of them are quickly computed."""
    table = result.table
    if table is None or table.g > MOST_CELLS:
        return
    most = min(KEPT, table.dimension)
    known = _known(query, table.g, most)
    values = tuple(sorted({*(known or range(1, most + 1)), query.k}))
    if len(values) < 2:
        return
    order = view.order_of(result, query, collection)
    measure = replace(view.MEASURES[controls.measure()], fit=controls.fitted())

    def steps() -> live.Steps:
        if not known:
            return live.Steps()
        every = every_k(replace(query, k=1), values, view.place(query, collection))
        matrix = restyled(
            every.pairs[measure.name],
            order.leaves,
            measure=measure,
            chances=every.chances[measure.name],
            theme=figures.theme(),
        )
        return live.Steps(every.answers, every.numbers, {view.FIGURE: live.Move(traces={CELLS: matrix})})

    live.slider(
        "angles",
        "k",
        values,
        query.k,
        steps=steps,
        subject=f"{query!r} {measure} {order.leaves.tobytes().hex()} {figures.theme().name}",
        choose=lambda value: state.set_selection(k=int(value)),
    )


@st.cache_data(max_entries=8, max_size="128mb", show_spinner=False)
def every_k(query: AnglesQuery, values: tuple[int, ...], location: str) -> EveryK:
    """What the page shows of the query at each of these k."""
    results = [data.result_of(replace(query, k=k)) for k in values]
    names = [measure.name for measure in view.MEASURES.values()]
    return EveryK(
        {name: np.stack([np.asarray(getattr(one.table, name), dtype=np.float32) for one in results]) for name in names},
        {name: tuple(float(getattr(one.level, name)) for one in results) for name in names},
        tuple(one.answer(replace(query, k=k), location) for one, k in zip(results, values, strict=True)),
        tuple(tuple(view.numbers(one)) for one in results),
    )


def _known(query: AnglesQuery, rows: int, most: int) -> tuple[int, ...]:
    """The numbers of directions that are computed for the browser; none where that would take too long."""
    if query.view == "groups" and query.axis == Axis.MODELS:
        # Each k has shuffled labels of its own.
        return ()
    few = tuple(k for k in FEW if k <= most)
    if _seconds(rows, range(1, most + 1)) <= EVERY_SECONDS:
        return tuple(range(1, most + 1))
    return few if _seconds(rows, few) <= FEW_SECONDS else ()


def _seconds(rows: int, values: tuple[int, ...] | range) -> float:
    return rows**2 * sum(k**3 for k in values) * _SECONDS_PER_STEP
