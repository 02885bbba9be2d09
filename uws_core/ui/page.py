"""The parts of a page around its figures: head, numbers, problems, and what is folded under them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl
import streamlit as st

from uws_core.errors import StoreError
from uws_core.frames.collection import left_out_frame
from uws_core.nouns.left_out import counts
from uws_core.nouns.models import Collection, LeftOut
from uws_core.store.results import default_store
from uws_core.ui import state
from uws_core.ui.catalogue import catalogue
from uws_core.ui.selection import Selection

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig
    from streamlit.elements.lib.mutable_expander_container import ExpanderContainer
    from streamlit.elements.lib.mutable_popover_container import PopoverContainer


# Keys of the parts that a dragged slider writes anew in the browser.
ANSWER, NUMBERS = "answer", "numbers"


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its name and its formula; `note` is a second line, mostly what chance gives."""

    name: str
    value: str
    formula: str
    note: str = ""


def head(title: str, question: str, *, keeps: bool = True) -> None:
    """The page's title and the one question it answers; one that `keeps` results ends here where no store can be used.

    Nothing could be shown twice without being computed twice, and half of the parts of a page would fail one by one.
    """
    st.title(title, anchor=False)
    st.caption(question)
    if not keeps:
        return
    try:
        default_store()
    except StoreError as error:
        problem(str(error))
        st.button("Try again", key="store.again")
        st.stop()


def opened(selection: Selection, title: str, question: str) -> Collection:
    """The head of a page about one collection, and the collection; the page ends here where it cannot be opened."""
    # On a phone the sidebar, which names it too, is folded away.
    head(title, f"{question} {plain(catalogue().title(selection.collection))}.")
    entry = catalogue().open(selection.collection)
    if entry.collection is None:
        problem(entry.problem, way_out="Open the first built-in collection", set_selection={"collection": ""})
        st.stop()
    return entry.collection


def need_two(members: Sequence[int], what: str) -> None:
    """Ends the page where fewer than two models are chosen; `what` needs them, in words."""
    if len(members) < 2:
        problem(
            f"{what} at least two models; {len(members)} are chosen. Clear the models in the sidebar.",
            way_out="Choose all models",
            set_selection={"members": ()},
        )
        st.stop()


class Rest:
    """What stands outside a page's fragment: the sidebar, with the choice of data and what is being computed.

    A changed control runs the fragment alone. The whole page follows only where the sidebar shows what has changed.
    """

    def __init__(self) -> None:
        self._shown: object = None

    def follow(self, *, complete: bool) -> None:
        """Called at the end of the fragment; not `complete` where a panel stands in the place of figures."""
        chosen = state.current()
        before, self._shown = self._shown, (complete, chosen.collection, chosen.members, chosen.layers, chosen.group)
        if before is not None and before != self._shown:
            st.rerun()


def answer(text: str) -> None:
    """The answer in words, before everything else."""
    with st.container(key=ANSWER):
        st.subheader(text, anchor=False)


def numbers(items: Sequence[Number], *, key: str | None = NUMBERS) -> None:
    """A row of numbers, each with its formula as help; they wrap on a narrow screen. A second row has another `key`."""
    with st.container(horizontal=True, gap="medium", key=key):
        for item in items:
            with st.container(width=118, gap=None):
                st.metric(item.name, item.value, help=item.formula)
                if item.note:
                    st.caption(item.note)


def problem(text: str, *, way_out: str = "", set_selection: Mapping[str, object] | None = None) -> None:
    """What went wrong and a button that gets out of it; `set_selection` is what the button chooses."""
    with st.container(border=True):
        st.markdown(f":material/info: {plain(text)}")
        if way_out and set_selection is not None:
            st.button(way_out, on_click=state.set_selection, kwargs=dict(set_selection), key=f"way.{way_out}")


@contextmanager
def folded(label: str, *, icon: str, key: str) -> Iterator[bool]:
    """A box that is closed at first; whether it is open, and so has to be filled.

    What nobody looks at is not sent: a table takes a browser as long to draw as a figure.
    """
    with st.expander(label, icon=f":material/{icon}:", key=f"fold.{key}", on_change="rerun") as box:
        yield is_open(box)


def is_open(box: ExpanderContainer | PopoverContainer) -> bool:
    """Whether a reader has opened it."""
    return bool(box.open)


def left_out(items: Sequence[LeftOut], *, key: str = "left out") -> None:
    """Everything that is not compared, folded, with the counts in the label; `key` where a page has two such lists."""
    with folded(f"Left out ({str(counts(items)) or 'nothing'})", icon="filter_alt_off", key=key) as unfolded:
        if not unfolded:
            return
        if not items:
            st.caption("Nothing: every tensor of every model is compared.")
            return
        st.dataframe(
            left_out_frame(items),
            hide_index=True,
            column_config={"what": st.column_config.TextColumn(width="medium")},
            alt="What is not compared, and why",
        )


def table(
    frame: pl.DataFrame,
    columns: Mapping[str, str],
    *,
    label: str = "Table",
    percent: Sequence[str] = (),
    key: str = "",
) -> None:
    """The numbers behind the figures, folded; each column explains itself. `key` is for a label that changes."""
    with folded(f"{label} ({frame.height} rows)", icon="table_rows", key=key or label) as unfolded:
        if unfolded:
            st.dataframe(frame, hide_index=True, column_config=configs(frame, columns, percent=percent), alt=label)


def configs(frame: pl.DataFrame, columns: Mapping[str, str], *, percent: Sequence[str] = ()) -> dict[str, ColumnConfig]:
    """Column settings from the frame's own help texts: the formula as a tooltip, and sensible digits."""
    found: dict[str, ColumnConfig] = {}
    for name, kind in frame.schema.items():
        told = columns.get(name)
        if kind.is_float():
            form = "percent" if name in percent else "%.4g"
            found[name] = st.column_config.NumberColumn(help=told, format=form)
        elif kind.is_integer():
            found[name] = st.column_config.NumberColumn(help=told, format="%d")
        else:
            found[name] = st.column_config.Column(help=told)
    return found


def height(rows: int, *, most: int = 300) -> int | Literal["content"]:
    """The height of a table: that of its rows where they fit in `most` pixels."""
    # A row and the head take 35 pixels each.
    return "content" if 35 * (rows + 1) <= most else most


def facts(title: str, items: Mapping[str, str]) -> None:
    """Names and values, one under the other; values are shown as they are."""
    st.subheader(title, anchor=False)
    for name, value in items.items():
        st.markdown(f"**{name}**  \n{plain(value)}")


def definitions(items: Mapping[str, str]) -> None:
    """Formulas with their sources, folded."""
    with folded("Definitions", icon="function", key="definitions") as unfolded:
        for name, text in items.items() if unfolded else ():
            st.markdown(f"**{name}** {text}")


def plain(text: str) -> str:
    """Text from outside, shown as it is: no link, picture or formula can be made of it."""
    for mark in "\\`*_{}[]<>()#+!|$~:":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", "  \n")
