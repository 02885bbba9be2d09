"""Angles or cosines of every pair: a heatmap ordered by similarity, with the tree, and chance on the colour bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from uws_core.charts import style
from uws_core.charts.style import LIGHT, Theme
from uws_core.nouns.angles import AngleTable, Order
from uws_core.nouns.arrays import Floats
from uws_core.nouns.lineage import Lineage

Indices = NDArray[np.intp]
Places = NDArray[np.uint16]

# More rows are pooled: a browser takes seconds for them, and no screen shows them.
MOST_CELLS = 512
# Limits in rows for names, gaps between cells, numbers in cells, and a hover text for every cell.
MOST_NAMES = 60
MOST_GAPS = 24
MOST_NUMBERS = 16
MOST_SENTENCES = 100
# Clickable cells cost 10 bytes each: 4 MB for 500 rows.
MOST_TARGETS = 500
# The name of the matrix that a slider of k restyles.
CELLS = "pairs"
# Ticks of the colour bar within this share of the scale from the chance level are dropped.
_ROOM = 0.08


@dataclass(frozen=True, slots=True)
class Measure:
    """The number of a cell: a property of the table, its title on the colour bar, its format, and its scale.

    The scale runs from 0 to `most` (None: to the largest value), or over the range of the values where `fit` is set.
    """

    name: str
    title: str
    form: str
    most: float | None = None
    scale: str = style.SEQUENTIAL
    fit: bool = False


# Similar pairs are bright on every scale: small angles and large overlaps.
MEAN = Measure("mean_degrees", "mean angle, degrees", ".0f", 90.0, f"{style.SEQUENTIAL}_r")
LARGEST = Measure("largest_degrees", "largest angle, degrees", ".0f", 90.0, f"{style.SEQUENTIAL}_r")
# Overlaps of few directions in many dimensions are small, so their scale ends at the largest.
OVERLAP = Measure("overlap", "overlap", ".2g")


def heatmap(
    table: AngleTable | Lineage,
    order: Order,
    *,
    measure: Measure = MEAN,
    chance: float = float("nan"),
    chosen: tuple[int, int] | None = None,
    groups: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> go.Figure:
    """Every pair of the table as a cell, in the given order, with its tree above and chance on the colour bar.

    `groups` (one a row of the table) becomes a strip of colours; `chosen` gets a frame. More than 512 rows are pooled,
    which the title of the axis says.
    Up to 500 rows, every cell names its two rows and can be clicked; see `clicked`.
    """
    step = -(-len(order.leaves) // MOST_CELLS)
    leaves = order.leaves[::step]
    # The diagonal is blank, so that the scale is that of different rows.
    matrix = np.array(getattr(table, measure.name))
    np.fill_diagonal(matrix, np.nan)
    values = _pooled(matrix[np.ix_(order.leaves, order.leaves)], step)
    clickable = step == 1 and len(leaves) <= MOST_TARGETS
    figure = style.figure(theme, height=560)
    least, most = _scale(values, measure)
    names = [table.labels[k] for k in leaves]
    figure.add_heatmap(
        name=CELLS,
        z=values if len(leaves) <= MOST_SENTENCES else values.astype(np.float32),
        x=np.arange(len(leaves)),
        y=np.arange(len(leaves)),
        zmin=least,
        zmax=most,
        colorscale=measure.scale,
        colorbar=_bar(measure, least, most, chance, theme),
        hoverongaps=False,
        xgap=1 if len(leaves) <= MOST_GAPS else 0,
        ygap=1 if len(leaves) <= MOST_GAPS else 0,
        # Where marks are on the cells, they have the hover text.
        hoverinfo="skip" if clickable else "z",
        texttemplate=f"%{{z:{measure.form}}}" if len(leaves) <= MOST_NUMBERS else None,
    )
    _tree(figure, order, theme, pooled=step > 1)
    _strip(figure, [groups[k] for k in leaves] if groups is not None else [], theme)
    if clickable:
        _targets(figure, table, leaves, values, measure)
    _frame(figure, leaves, chosen if step == 1 else None, theme)
    # Sets the axes: names where they fit and for hover texts, own scales for the tree and the strip.
    names = names if clickable else []
    g = len(leaves)
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": list(names)}
    # Plotly measures every label for its overflow at each redraw: 13 of 42 ms at 40 names.
    overflow = {"ticklabeloverflow": "allow"}
    plain = {"showgrid": False, "ticks": "", "showline": False, "range": [-0.5, g - 0.5], **overflow, **ticks}
    pooled = (
        f"{len(order.leaves)} rows on {g}: a cell is the mean of up to {step} x {step} pairs; the export has them all"
    )
    small = {"tickfont": {"size": 10}} if len(names) > MOST_GAPS else {}
    figure.update_layout(
        # Columns repeat the rows; where names are small, once is enough.
        xaxis_title_text=pooled if step > 1 else None,
        xaxis={**plain, "tickangle": -90 if len(names) > 6 else 0, "showticklabels": len(names) <= MOST_GAPS},
        yaxis={**plain, **small, "range": [g - 0.5, -0.5], "domain": [0, 0.84], "showticklabels": g <= MOST_NAMES},
        yaxis2={"domain": [0.88, 1], "visible": False, "fixedrange": True},
        yaxis3={"domain": [0.85, 0.87], "visible": False, "fixedrange": True, "range": [0, 1]},
        bargap=0,
        showlegend=False,
    )
    return figure


def restyled(
    every: Floats, leaves: Indices, *, measure: Measure, chances: Sequence[float], theme: Theme
) -> dict[str, Sequence[object]]:
    """What other numbers of directions change in the matrix of `heatmap`, in the order it has: one value a position.

    `every` (positions, g, g) are the table's numbers, `chances` their chance levels.
    """
    cells = np.array(every[:, leaves[:, None], leaves], dtype=np.float32)
    cells[:, range(len(leaves)), range(len(leaves))] = np.nan
    scales = [_scale(values, measure) for values in cells]
    bars = [_bar(measure, *scale, chance, theme) for scale, chance in zip(scales, chances, strict=True)]
    return {
        "z": cells,  # type: ignore[dict-item]  # an array is sent as one
        "zmin": [least for least, _ in scales],
        "zmax": [most for _, most in scales],
        "colorbar.tickvals": [bar["tickvals"] for bar in bars],
        "colorbar.ticktext": [bar["ticktext"] for bar in bars],
    }


def clicked(point: Mapping[str, object], leaves: Indices) -> tuple[int, int] | None:
    """The two rows of the table behind a clicked point of `heatmap`; None where it belongs to no pair."""
    rows, position = point.get("customdata"), [point.get("y"), point.get("x")]
    if not isinstance(rows, list):
        cells = [int(at) for at in position if isinstance(at, int | float) and 0 <= at < len(leaves)]
        rows = [int(leaves[cell]) for cell in cells]
    if len(rows) != 2 or not all(isinstance(row, int | float) and 0 <= row < len(leaves) for row in rows):
        return None
    return int(rows[0]), int(rows[1])


def _pooled(values: Floats, step: int) -> Floats:
    """Means over blocks of `step` by `step` cells; unknown cells are skipped."""
    if step == 1:
        return values
    size = -(-len(values) // step) * step
    wide = np.full((size, size), np.nan)
    wide[: len(values), : len(values)] = values
    blocks = (
        wide.reshape(size // step, step, size // step, step)
        .transpose(0, 2, 1, 3)
        .reshape(size // step, size // step, -1)
    )
    known = ~np.isnan(blocks)
    counts = known.sum(axis=2)
    sums = np.where(known, blocks, 0.0).sum(axis=2)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts, dtype=np.float64)


def _scale(values: Floats, measure: Measure) -> tuple[float, float]:
    """Start and end of the colours."""
    known = values[~np.isnan(values)]
    least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if not measure.fit:
        least, most = 0.0, measure.most or most
    return least, most if most > least else least + 1.0


def _bar(measure: Measure, least: float, most: float, chance: float, theme: Theme) -> dict[str, object]:
    """The colour bar, with a tick at the chance level."""
    span, form = most - least, ".0f" if measure.most and most - least > 9 else ".2g"
    marks = {float(tick): f"{tick:{form}}" for tick in np.linspace(least, most, 4)}
    if not isnan(chance) and least - _ROOM * span <= chance <= most + _ROOM * span:
        marks = {tick: text for tick, text in marks.items() if abs(tick - chance) > _ROOM * span}
        marks[min(max(chance, least), most)] = f"◂ chance {chance:{measure.form}}"
    return {
        "title": {"text": measure.title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "tickmode": "array",
        "tickvals": list(marks),
        "ticktext": list(marks.values()),
        "tickcolor": theme.quiet,
        "y": 0,
        "yanchor": "bottom",
        "len": 0.84,
    }


def _tree(figure: go.Figure, order: Order, theme: Theme, *, pooled: bool) -> None:
    """Adds the dendrogram behind the order, above the cells."""
    if pooled or not len(order.along):
        return
    gaps = np.full((len(order.along), 1), np.nan)
    x, y = np.hstack([order.along, gaps]), np.hstack([order.heights, gaps])
    line = {"color": theme.quiet, "width": 1}
    # The axis starts just below the first merge; from 0 all merges would lie on one line.
    low, high = float(order.heights[:, 1].min()), float(order.heights[:, 1].max())
    span = high - low + 1e-9
    figure.update_layout(yaxis2={"range": [low - 0.25 * span, high + 0.02 * span]})
    figure.add_scatter(
        x=x.ravel(), y=y.ravel(), yaxis="y2", mode="lines", line=line, hoverinfo="skip", showlegend=False, name="tree"
    )


def _strip(figure: go.Figure, groups: Sequence[str], theme: Theme) -> None:
    """Adds one colour a group above the cells; the hover text has the group's name, because colours repeat."""
    if not groups:
        return
    kinds = list(dict.fromkeys(sorted(groups)))
    colours = [style.colour_of(kinds.index(name), theme) for name in groups]
    figure.add_bar(
        x=np.arange(len(groups)),
        y=np.ones(len(groups)),
        yaxis="y3",
        marker={"color": colours, "line": {"width": 0}},
        width=1,
        text=groups,
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        name="group",
    )


def _targets(figure: go.Figure, table: AngleTable | Lineage, leaves: Indices, values: Floats, measure: Measure) -> None:
    """Adds invisible marks on the cells of different pairs, because a heatmap itself cannot be selected."""
    y, x = (part.ravel() for part in np.indices(values.shape, dtype=np.uint16))
    there = ~np.isnan(values.ravel())
    if len(leaves) > MOST_SENTENCES:
        # Adds marks as binary arrays only: names come from the axes, and a click is known by its position.
        figure.add_scattergl(
            x=x[there],
            y=y[there],
            mode="markers",
            marker={"symbol": "square", "size": 4, "opacity": 0, "color": "#888888"},
            customdata=values.ravel()[there].astype(np.float32),
            hovertemplate=f"%{{y}}, %{{x}}<br>{measure.title}: %{{customdata:{measure.form}}}<extra></extra>",
            showlegend=False,
            name="cells",
        )
        figure.update_layout(clickmode="event+select", dragmode=False)
        return
    rows, columns = leaves[y[there]], leaves[x[there]]
    words = [
        f"{table.labels[i]}, {table.labels[j]}<br>{measure.title}: {value:{measure.form}}"
        for i, j, value in zip(rows, columns, values.ravel()[there], strict=True)
    ]
    scatter = figure.add_scattergl if len(words) > 900 else figure.add_scatter
    scatter(
        x=x[there],
        y=y[there],
        mode="markers",
        marker={"symbol": "square", "size": max(4, 420 // len(leaves)), "opacity": 0, "color": "#888888"},
        # Plain lists: with a typed array, a click reports no pair.
        customdata=np.stack([rows, columns], axis=1).tolist(),
        text=words,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        name="cells",
    )
    figure.update_layout(clickmode="event+select", dragmode=False)


def _frame(figure: go.Figure, leaves: Indices, chosen: tuple[int, int] | None, theme: Theme) -> None:
    """Adds frames around the two cells of the chosen pair."""
    positions = {int(row): position for position, row in enumerate(leaves)}
    if chosen is None or any(row not in positions for row in chosen):
        return
    first, second = (positions[row] for row in chosen)
    for x, y in {(first, second), (second, first)}:
        corners = {"x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
        figure.add_shape(type="rect", line={"color": theme.series[5], "width": 3}, **corners)
