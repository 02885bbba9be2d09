"""The parts of the angles page: every pair at once, and one pair in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.charts import angles as charts
from uws_core.charts.angle_tables import LARGEST, MEAN, MOST_TARGETS, OVERLAP, Measure, clicked, heatmap
from uws_core.charts.style import Theme
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames import angles as frames
from uws_core.frames.angles import HELP
from uws_core.nouns.angles import Angles, AngleTable, Order
from uws_core.nouns.chance import NullBand
from uws_core.nouns.models import Collection
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import figures, page, state
from uws_core.ui.angles import controls, data
from uws_core.ui.angles.data import AnglesResult
from uws_core.ui.page import Number
from uws_core.ui.pair import way

DEFINITIONS: Mapping[str, str] = {
    "Principal angles": "theta_i = arccos of the singular values of Q_S^T Q_T for orthonormal bases of the two: "
    "0 where they share a direction, 90 degrees where nothing of one is in the other. (Björck and Golub 1973)",
    "Overlap": "The mean of cos^2 theta_i: which part of one subspace lies in the other.",
    "Chance": "Two random subspaces of k and k' directions in D dimensions overlap by max(k, k') / D on average; their "
    "angles are drawn from the multivariate beta law, A (A + B)^-1 with Wishart A and B. (Absil, Edelman, Koev 2006)",
    "A model's directions": "The leading singular vectors of its layer about the chosen centre: right ones are "
    "directions of the inputs, left ones of the outputs.",
    "Shared directions": "Of a group or half: the leading eigenvectors of the Gram of its models about their own mean: "
    "on the models axis in R^d, on the side axes those of all their rows (in) or columns (out).",
    "Shuffled labels": "The same groups with the models shuffled among them: low and high are 2.5 and 97.5 % points "
    "of the mean overlap of different groups; p is two-sided.",
    "Floor": "The angle that rounding can make out of nothing; what is smaller reads 0. With e the rounding relative "
    "to the weakest variance, it is sqrt(2 e) on the models axis (degrees for weights in single precision), e on the "
    "side axes; of models' own directions 9e-16 (s_1 / s_k)^2, at least 1e-5 degrees. (Davis and Kahan 1970)",
}
FIGURE = "angles"
# A smaller angle cannot be told from 0 in a figure of 90 degrees.
SEEN = 0.1
MEASURES: Mapping[str, Measure] = {
    "mean": MEAN,
    "largest": LARGEST,
    "overlap": OVERLAP,
}
# Beyond it a browser shows a table slowly; the export has every row.
MOST_ROWS = 2_000


def place(query: AnglesQuery, collection: Collection) -> str:
    """What is looked at, in words."""
    if query.view == "layers":
        return f"{len(query.layers)} layers"
    return f"`{collection.by_name[query.layers[0]].short}`"


def numbers(result: AnglesResult) -> list[Number]:
    """The numbers beside the answer, each with its formula and what chance gives."""
    table, level = result.table, result.level
    chance = "" if np.isnan(level.overlap) else f"chance: {level.overlap:.2g}"
    if table is None:
        overlaps = [one.overlap for one in result.splits]
        middle = float(np.median([one.mean_degrees for one in result.splits]))
        return [
            Number("Overlap", f"{np.median(overlaps):.2g}", HELP["overlap"], chance),
            Number("Mean angle", f"{middle:.0f}°", HELP["mean_degrees"], f"chance: {level.mean_degrees:.0f}°"),
            Number("Splits", str(len(overlaps)), "Random splits of the models in two halves."),
        ]
    apart = np.triu_indices(table.g, 1)
    if not apart[0].size or np.isnan(table.overlap[apart]).all():
        return []
    numbers = [
        Number("Overlap", f"{np.nanmedian(table.overlap[apart]):.2g}", HELP["overlap"], chance),
        Number(
            "Mean angle",
            f"{np.nanmedian(table.mean_degrees[apart]):.0f}°",
            HELP["mean_degrees"],
            f"chance: {level.mean_degrees:.0f}°",
        ),
        Number("Pairs", f"{int((~np.isnan(table.overlap[apart])).sum())}", "Pairs that can be compared."),
    ]
    if result.band is not None:
        between = result.band.between
        shuffled = f"shuffled: {between.low:.2g} to {between.high:.2g}"
        numbers.append(Number("p", f"{result.band.p_between:.2g}", "Two-sided, against shuffled labels.", shuffled))
    return numbers


def pairs_figure(
    result: AnglesResult, query: AnglesQuery, collection: Collection, source: Provenance, *, chosen: tuple[int, int]
) -> None:
    """Every pair as a cell, in the order that is asked for; a click looks at the pair."""
    table, measure = _table(result), MEASURES[controls.measure()]
    groups = _groups(query, collection)
    order = order_of(result, query, collection)
    chance = getattr(result.level, measure.name)
    figures.figure(
        f"{query.view.capitalize()} by {query.view}: {measure.title}",
        partial(_heatmap, table, order, replace(measure, fit=controls.fitted()), chance, chosen, groups),
        result.frame(),
        source,
        alt=f"Heatmap of the {measure.title} of every pair. {source.caption}",
        key=FIGURE,
        on_select=partial(_choose, table.labels, tuple(order.leaves.tolist())),
    )
    tell_floor(table.floor)
    if table.g <= MOST_TARGETS:
        st.caption("Click a cell to look at its pair.")


def thinned(query: AnglesQuery, collection: Collection) -> tuple[str, ...]:
    """What is told where only a part of the chosen models is compared."""
    chosen = len(state.current().members_in(collection))
    if query.view != "models" or len(query.members) == chosen:
        return ()
    step = controls.thinning(chosen)
    return (
        f"One in {step} of the {chosen:,} models is compared, {len(query.members)} in all, as pairs grow with the "
        "square: choose others in the sidebar, or compare groups",
    )


def order_of(result: AnglesResult, query: AnglesQuery, collection: Collection) -> Order:
    """The order of the rows that is asked for; without a group the order of the list."""
    table, groups = _table(result), _groups(query, collection)
    if controls.order() == "likeness" and result.order is not None:
        return result.order
    rows = list(range(table.g))
    if controls.order() == "group" and groups is not None:
        known = list(dict.fromkeys(groups))
        rows = sorted(rows, key=lambda row: known.index(groups[row]))
    return Order(np.array(rows, dtype=np.intp), np.empty((0, 4)), np.empty((0, 4)))


def halves_figure(result: AnglesResult, source: Provenance) -> None:
    """The angles of every random split."""
    figures.figure(
        "Angles between random halves",
        partial(_halves, result.frame()),
        result.frame(),
        source,
        alt=f"Principal angles between random halves. {source.caption}",
        key="halves",
    )
    tell_floor(max(one.floor for one in result.splits))


def tell_floor(radians: float) -> None:
    """Below which angle nothing can be told, for the least certain pair; no word where no figure shows it."""
    if np.degrees(radians) >= SEEN:
        st.caption(f"Angles below {np.degrees(radians):.2g}° are rounding and read 0.")


def nearest(table: AngleTable) -> tuple[int, int]:
    """The two different rows that overlap most: the first pair worth a look."""
    overlap = np.where(np.isnan(table.overlap), -1.0, table.overlap)
    np.fill_diagonal(overlap, -2.0)
    left, right = np.unravel_index(int(overlap.argmax()), overlap.shape)
    return (int(left), int(right)) if left != right else (0, 1)


def pair(query: AnglesQuery, names: tuple[str, str], source: Provenance) -> None:
    """One pair in full, or why these two have no angles between them."""
    try:
        angles, band = data.pair(query, *names)
    except UwsError as error:
        st.caption(f"{page.plain(str(error))}.")
        return
    _in_full(angles, band, names, source)
    if query.view == "models":
        way.offer(*names, key="pair.angles")


def _in_full(angles: Angles, band: NullBand, names: tuple[str, str], source: Provenance) -> None:
    """The angles of a pair against chance, and every direction with every other."""
    if not angles.k:
        st.caption("One of the two has no direction of its own here.")
        return
    frame = frames.pair(angles, band)
    summary = f"{names[0]} and {names[1]}: mean angle {angles.mean_degrees:.3g}°, overlap {angles.overlap:.2g}, "
    summary += f"chance {angles.chance:.2g}."
    pair_source = replace(source, name=f"angles {names[0]} {names[1]}", caption=summary)
    st.caption(summary)
    tell_floor(angles.floor)
    figures.figure(
        "Angles of the pair",
        partial(_pair, frame, float(np.degrees(angles.floor))),
        frame,
        pair_source,
        alt=f"Principal angles of the pair in degrees, against random subspaces. {summary}",
        key="pair",
    )
    figures.figure(
        "Direction by direction",
        partial(_cosines, frames.cosines(angles), names),
        frames.cosines(angles),
        pair_source,
        alt=f"Squared cosines of every direction of {names[0]} with every direction of {names[1]}",
        key="cosines",
    )
    for note in angles.notes:
        st.caption(f"{note}.")


def rows_table(result: AnglesResult, query: AnglesQuery, collection: Collection) -> None:
    """Every row with its nearest; choosing two looks at their pair."""
    table = _table(result)
    attributes = {}
    if query.view == "models":
        rows = list(query.members)
        attributes = {
            name: [column[row] for row in rows] for name, column in collection.table.items() if name != "name"
        }
    frame = frames.subspaces(table, attributes)
    with page.folded(f"{query.view.capitalize()} ({table.g} rows)", icon="table_rows", key="angles.rows") as unfolded:
        if not unfolded:
            return
        st.caption("Choose two rows to look at their pair.")
        st.dataframe(
            frame,
            hide_index=True,
            column_config=page.configs(frame, HELP),
            alt=f"Every one of the {query.view} with its nearest",
            key=f"angles.table.{query.view}",
            on_select=partial(_rows, table.labels, query.view),
            selection_mode="multi-row",
        )


def pairs_table(result: AnglesResult) -> None:
    """The pairs that overlap most."""
    frame = result.frame()
    if result.table is not None:
        frame = frame.sort("overlap", descending=True, nulls_last=True).head(MOST_ROWS)
    page.table(frame, HELP, label="Pairs, nearest first" if result.table is not None else "Angles")


def views(query: AnglesQuery, names: tuple[str, str] | None) -> dict[str, str | list[str]]:
    """What the page's own switches say, for the address of an export."""
    switches: dict[str, str | list[str]] = {
        "view": query.view,
        "measure": controls.measure(),
        "order": controls.order(),
    }
    switches["colours"] = "fitted" if controls.fitted() else "fixed"
    if names is not None:
        switches["pair"] = list(names)
    return switches


def _table(result: AnglesResult) -> AngleTable:
    if result.table is None:
        raise ValueError("Random halves have no table of pairs")
    return result.table


def _groups(query: AnglesQuery, collection: Collection) -> tuple[str, ...] | None:
    name = state.current().group
    return data.groups_of(collection, name, query.members) if query.view == "models" else None


def _choose(labels: Sequence[str], leaves: Sequence[int]) -> None:
    """The clicked cell's pair is looked at; a selection that went away with its figure changes nothing."""
    picked = st.session_state.get(f"figure.{FIGURE}") or {}
    points = picked.get("selection", {}).get("points", [])
    rows = clicked(points[0], np.array(leaves)) if points else None
    if rows is not None:
        controls.look_at(*(labels[row] for row in rows))


def _rows(labels: Sequence[str], view: str) -> None:
    picked = st.session_state.get(f"angles.table.{view}") or {}
    rows = picked.get("selection", {}).get("rows", [])
    if len(rows) == 2 and all(0 <= row < len(labels) for row in rows):
        controls.look_at(*(labels[row] for row in rows))


def _heatmap(
    table: AngleTable,
    order: Order,
    measure: Measure,
    chance: float,
    chosen: tuple[int, int],
    groups: Sequence[str] | None,
    theme: Theme,
) -> go.Figure:
    return heatmap(table, order, measure=measure, chance=chance, chosen=chosen, groups=groups, theme=theme)


def _halves(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    return charts.halves(frame, theme=theme)


def _pair(frame: pl.DataFrame, floor: float, theme: Theme) -> go.Figure:
    return charts.pair(frame, floor_degrees=floor, theme=theme)


def _cosines(frame: pl.DataFrame, names: tuple[str, str], theme: Theme) -> go.Figure:
    return charts.cosines(frame, names=names, theme=theme)
