"""Markup of the report: the templates with autoescape, figures as HTML, and tables as rows of text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from uws_core.export import PLOTLY_CONFIG

# Longer tables are cut on the page; the Parquet files hold every row.
MOST_ROWS = 500


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure's HTML with its caption; a `wide` one keeps its width on a phone and scrolls sideways."""

    markup: Markup
    caption: str
    wide: bool


@dataclass(frozen=True, slots=True)
class Table:
    """The first `MOST_ROWS` rows of a table as text; `height` counts all rows, `numeric` columns are right-aligned."""

    title: str
    columns: tuple[str, ...]
    numeric: frozenset[str]
    rows: tuple[tuple[str, ...], ...]
    height: int


def render(template: str, **context: object) -> str:
    """The filled template as a whole document, with plotly.js inside."""
    return _environment().get_template(template).render(plotly_js=Markup(get_plotlyjs()), **context)


def drawing(figure: go.Figure, name: str, caption: str, *, wide: bool = False) -> Drawing:
    """A figure on a white ground; `name` is unique on the page."""
    figure.update_layout(paper_bgcolor="#ffffff", plot_bgcolor="#ffffff", width=None)
    markup = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config=dict(PLOTLY_CONFIG),
        div_id=f"figure-{name}",
        default_width="100%",
        default_height=f"{int(figure.layout.height or 380)}px",
    )
    return Drawing(Markup(markup), caption, wide)


def table(title: str, frame: pl.DataFrame) -> Table:
    """A frame as a table: numbers with four significant digits, empty cells for unknown values."""
    names = {column: column.replace("_", " ") for column in frame.columns}
    return Table(
        title=title,
        columns=tuple(names.values()),
        numeric=frozenset(name for column, name in names.items() if frame.schema[column].is_numeric()),
        rows=tuple(
            tuple("" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
            for row in frame.head(MOST_ROWS).iter_rows()
        ),
        height=frame.height,
    )


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, finalize=_units_stay_with_numbers
    )


def _units_stay_with_numbers(value: object) -> object:
    """The value with a no-break space before every percent sign; markup is left alone."""
    return value.replace(" %", "\u00a0%") if isinstance(value, str) and not isinstance(value, Markup) else value
