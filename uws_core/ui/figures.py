"""A figure with its export at the same corner, everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

# Loaded whole before anything is drawn: plotly takes pandas out of `sys.modules` as it finds it there, and fails when
# the session of another visitor is just importing it.
import pandas  # noqa: F401
import polars as pl
import streamlit as st

from uws_core import export
from uws_core.charts.style import DARK, LIGHT, PRINT_MM, Theme
from uws_core.export import Draw, Provenance
from uws_core.nouns.models import Collection, LeftOut
from uws_core.ui import figure_component, page, ranges, state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.selection import Selection

_MIME = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png"}


def theme() -> Theme:
    """The light or the dark theme, as far as the browser has said which it shows."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def origin(
    name: str,
    caption: str,
    *,
    page: str,
    selection: Selection,
    collection: Collection,
    layers: Sequence[str],
    left_out: Sequence[LeftOut] = (),
) -> Provenance:
    """Where a figure of this page comes from."""
    params = selection.to_params()
    return Provenance(
        name=name,
        caption=caption,
        collection=collection.name,
        fingerprint=collection.fingerprint,
        models=tuple(str(collection.refs[i]) for i in selection.members_in(collection)),
        layers=tuple(layers),
        settings={key: value if isinstance(value, str) else ", ".join(value) for key, value in params.items()},
        left_out=(*collection.left_out, *left_out),
        address=f"/{page}?{urlencode(params, doseq=True)}",
    )


def viewed(source: Provenance, views: Mapping[str, str | list[str]]) -> Provenance:
    """The source with what a page's own switches say, so that its address opens the same view."""
    told = {key: value if isinstance(value, str) else ", ".join(value) for key, value in views.items() if value}
    mark = "&" if source.address.split("?", 1)[-1] else ""
    more = urlencode({key: value for key, value in views.items() if value}, doseq=True)
    return replace(
        source,
        settings={**source.settings, **told},
        address=f"{source.address}{mark}{more}" if more else source.address,
    )


def figure(
    title: str,
    draw: Draw,
    frame: pl.DataFrame,
    source: Provenance,
    *,
    alt: str,
    key: str,
    on_select: Callable[[], None] | None = None,
) -> None:
    """A figure under its title, with the export popover at the right of it.

    `draw` builds the figure for any theme; `frame` is the data behind it; `on_select` runs when a mark is clicked.
    """
    drawn = draw(theme())
    ranged = ranges.measured(drawn)
    if ranged and (ends := ranges.asked(key)):
        draw, source = ranges.applied(draw, ends), viewed(source, {ranges.WORD: ranges.words(key, ends)})
        drawn = draw(theme())
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**{title}**", width="content")
        corner = st.popover(
            "Export", icon=":material/download:", type="tertiary", key=f"export.{key}", on_change="rerun"
        )
        with corner:
            if page.is_open(corner):
                _export(draw, frame, source, key)
                if ranged:
                    ranges.fields(key)
    figure_component.draw(
        drawn,
        key=f"figure.{key}",
        alt=alt,
        filename=source.stem,
        # Another collection or another range from the address begins with a figure of its own.
        revision=f"{source.fingerprint} {st.query_params.get_all(ranges.WORD)}",
        names=_names(),
        on_select=on_select,
    )


def _names() -> tuple[str, ...]:
    """The labels of the chosen collection's models."""
    collection = catalogue().get(state.current().collection)
    return () if collection is None else collection.labels


def table_buttons(frame: pl.DataFrame, source: Provenance, *, key: str) -> None:
    """A table as CSV and as Parquet, each with where it comes from."""
    with st.container(horizontal=True):
        _button("CSV", partial(export.csv_bytes, frame, source), f"{source.stem}.csv", "text/csv", key)
        parquet = "application/vnd.apache.parquet"
        _button("Parquet", partial(export.parquet_bytes, frame, source), f"{source.stem}.parquet", parquet, key)


def _export(draw: Draw, frame: pl.DataFrame, source: Provenance, key: str) -> None:
    st.caption("Numbers")
    table_buttons(frame, source, key=key)
    st.caption("Figure")
    obstacle = export.print_obstacle()
    mm = st.segmented_control(
        "Width, mm", PRINT_MM, default=PRINT_MM[1], required=True, key=f"mm.{key}", disabled=bool(obstacle)
    )
    with st.container(horizontal=True):
        _button("HTML", partial(export.html_bytes, draw, source), f"{source.stem}.html", "text/html", key)
        for form in export.FORMS:
            draw_print = partial(export.print_bytes, draw, form=form, mm=int(mm or PRINT_MM[1]))
            _button(form.upper(), draw_print, f"{source.stem}.{form}", _MIME[form], key, disabled=bool(obstacle))
    st.caption(obstacle or "Printed figures have 7 pt text on white.")
    st.caption("The camera over the figure saves what you see as SVG.")
    st.caption("Everything, with where it comes from")
    _button("Bundle", partial(export.bundle_bytes, draw, frame, source), f"{source.stem}.zip", "application/zip", key)


def _button(label: str, data: Callable[[], bytes], name: str, mime: str, key: str, *, disabled: bool = False) -> None:
    # Made on the click, in a thread that must not touch the page.
    st.download_button(
        label, data, file_name=name, mime=mime, key=f"save.{key}.{label}", on_click="ignore", disabled=disabled
    )
