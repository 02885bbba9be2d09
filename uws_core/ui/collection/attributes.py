"""A spreadsheet of the models' attributes; what is edited is kept with the collection, wherever its files lie."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import polars as pl
import streamlit as st

from uws_core.errors import UwsError
from uws_core.nouns.models import Collection, Value
from uws_core.sources.model_table import KEY, parse_table
from uws_core.ui import page, saved_collections
from uws_core.ui.catalogue import read_again

_NEW, _PROBLEM, _ROUND = "attributes.new", "attributes.problem", "attributes.round"


def editor(collection: Collection) -> None:
    """The table as texts to be edited or pasted over, columns to add and drop, and the buttons that keep or undo."""
    with st.expander("Edit attributes", icon=":material/edit_note:"):
        wrong = st.session_state.pop(_PROBLEM, "")
        if wrong:
            page.problem(wrong)
        st.caption("Cells and whole columns can be pasted from a spreadsheet. The models' files are not touched.")
        # A new round gives a new editor: what was typed into the old one is kept or dropped by then.
        here = f"{collection.fingerprint}.{st.session_state.get(_ROUND, 0)}"
        with st.container(horizontal=True, vertical_alignment="bottom"):
            added = st.text_input("New column", key=f"{_NEW}.{here}", width=200, placeholder="task, seed, metric, ...")
            dropped = st.multiselect(
                "Columns to drop", list(collection.table), key=f"attributes.drop.{here}", width=320
            )
        before = as_texts(collection, added=added.strip(), dropped=dropped)
        table = st.data_editor(
            before,
            key=f"attributes.{here}.{added.strip()}.{','.join(dropped)}",
            disabled=[KEY],
            hide_index=True,
            height=page.height(before.height),
            alt="The models' attributes, to be edited",
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            # No callback: its arguments would be those of the run before, without the cell that was just left.
            if st.button("Keep", key="attributes.keep", type="primary"):
                try:
                    saved_collections.keep_edits(replace(collection, table=from_texts(table)))
                except UwsError as error:
                    st.session_state[_PROBLEM] = str(error)
                else:
                    _again()
                st.rerun()
            if saved_collections.has_edits(collection):
                st.button("Back to the models' own", key="attributes.undo", on_click=_undo, args=(collection,))
            changed = cells_changed(before, table)
            if changed:
                st.caption(f"{changed} cell{'' if changed == 1 else 's'} changed and not kept yet")


def as_texts(collection: Collection, *, added: str = "", dropped: list[str] | None = None) -> pl.DataFrame:
    """One row a model, every attribute as text, without the columns `dropped` and with an empty one `added`."""
    kept = {name: column for name, column in collection.table.items() if name not in (KEY, *(dropped or ()))}
    if added and added not in kept and added != KEY:
        # Beside the models' names, where it is seen at once.
        kept = {added: (None,) * len(collection), **kept}
    texts = {name: ["" if value is None else str(value) for value in column] for name, column in kept.items()}
    return pl.DataFrame({KEY: list(collection.labels), **texts}, schema=dict.fromkeys([KEY, *texts], pl.String))


def cells_changed(before: pl.DataFrame, after: pl.DataFrame) -> int:
    """How many cells differ between two tables of the same form."""
    return sum(int((before[name].fill_null("") != after[name].fill_null("")).sum()) for name in before.columns)


def from_texts(frame: pl.DataFrame) -> dict[str, tuple[Value, ...]]:
    """The attributes in a table of texts, typed like those in `models.csv`: numbers, true and false, or texts.

    Raises:
        UwsError: a column has no name, or two have the same.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([KEY, *frame.columns[1:]])
    # A row number instead of the model's name, which may be any text.
    writer.writerows(
        [i, *("" if cell is None else cell for cell in row[1:])] for i, row in enumerate(frame.iter_rows())
    )
    found = parse_table(text.getvalue())
    if len(found.rows) != frame.height:
        raise UwsError(
            f"the table cannot be kept: {found.left_out[0].reason if found.left_out else 'rows are missing'}"
        )
    rows = [found.rows[str(i)] for i in range(frame.height)]
    return {name: tuple(row[i] for row in rows) for i, name in enumerate(found.columns)}


def _undo(collection: Collection) -> None:
    saved_collections.forget_edits(collection)
    _again()


def _again() -> None:
    """Whatever was worked out with the old attributes is forgotten."""
    st.session_state[_ROUND] = int(st.session_state.get(_ROUND, 0)) + 1
    read_again()
    st.cache_data.clear()
