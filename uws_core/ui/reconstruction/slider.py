"""The slider of k on the reconstruction page, and what its positions show."""

from __future__ import annotations

from functools import partial

import polars as pl

from uws_core.answers import reconstruction
from uws_core.charts.reconstruction import CHOSEN, chosen
from uws_core.nouns.models import Collection
from uws_core.nouns.query import RebuildQuery
from uws_core.ui import live, state
from uws_core.ui.reconstruction import controls, view
from uws_core.ui.reconstruction.data import Rebuilt


def directions(rebuilt: Rebuilt, query: RebuildQuery, collection: Collection, sizes: pl.DataFrame, k: int) -> None:
    """A slider over the numbers of directions: errors, sizes, numbers and answer follow in the browser."""
    kept = [int(each) for each in rebuilt.together[0].kept if 1 <= each <= rebuilt.ceiling]
    values = tuple(sorted({*kept, k}))
    if len(values) < 2:
        return
    live.slider(
        "k",
        "k",
        values,
        k,
        steps=lambda: steps(rebuilt, query, collection, sizes, values),
        subject=f"{query!r} {k if k not in kept else ''} {controls.whole()}",
        choose=lambda value: state.set_selection(k=int(value)),
    )


def steps(
    rebuilt: Rebuilt, query: RebuildQuery, collection: Collection, sizes: pl.DataFrame, values: tuple[int, ...]
) -> live.Steps:
    """What every k shows."""
    place, whole = view.place(query, collection), controls.whole()
    answer = partial(reconstruction.answer, rebuilt.together, location=place, by=query.group, chance=rebuilt.chance)
    texts = [answer(k=k) for k in values]
    numbers = [view.numbers(rebuilt, view.stored(query, collection, k), k) for k in values]
    rings = [chosen(sizes, k, whole=whole) for k in values]
    figures = {
        "errors": live.Move(shapes={CHOSEN: {"x0": values, "x1": values}}),
        "sizes": live.Move(traces={CHOSEN: {key: [ring[key] for ring in rings] for key in ("x", "y", "text")}}),
    }
    if len(rebuilt.layers) == 1:
        columns = [int(each) for each in rebuilt.together[0].kept]
        at = [max(i for i, each in enumerate(columns) if each <= k) for k in values]
        figures["models"] = live.Move(shapes={CHOSEN: {"x0": at, "x1": at}})
    return live.Steps(texts, numbers, figures)
