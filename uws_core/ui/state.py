"""The session: the guard of every page, the selection, and its place in the address.

A selection is read from the address when a session begins and when its visitor goes back or forward in the browser.
Otherwise the widgets lead: `change` records what they say and writes the address. Everything else that wants to choose
(a click in a figure, a button) calls `set_selection`, which takes effect at the next run, before any widget is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from uws_core.ui.catalogue import catalogue
from uws_core.ui.selection import Selection, base_id

# Widgets that stand for a field of the selection have keys that begin so; `set_selection` makes them anew.
PICK = "pick."
# Switches of a view that keep themselves in the address (`bind="query-params"`); nothing else is left standing there.
VIEWS = frozenset(
    {
        "scale",
        "colour",
        "hosvd",
        "likeness",
        "threshold",
        "fit",
        "view",
        "measure",
        "order",
        "colours",
        "pair",
        "differs",
        "range",
        "hold",
        "relative",
        "reference",
        "own",
        "error",
        "count",
        "claim",
        "grouped",
        "draws",
        "seed",
        "kept",
        "take",
        "by",
        "lam",
        "weights",
        "conv",
        "rho",
        "mrank",
        "mseed",
        "against",
        "results",
        "task",
        "directions",
        "steps",
        "seeds",
        "morerows",
        "log",
        "logtask",
    }
)
ICON = Path(__file__).with_name("icon.svg")
_ENTERED = "app.entered"
_WAY = "app.way"
_CHOSEN = "app.selection"
_NEXT = "app.next"
_LOST = "app.lost"
# Of a name that nobody here knows.
_MOST_SHOWN = 80


def enter() -> None:
    """Mark this run as one that came through the entry, and send it on to the page it first asked for.

    Called by the entry right after `st.navigation`. Where the visitor went back or forward, the address leads again.
    """
    st.session_state[_ENTERED] = True
    run = get_script_run_ctx()
    if run is not None and run.is_history_navigation and "c" in st.query_params:
        _forget_widgets()
        st.session_state.pop(_CHOSEN, None)
    way = st.session_state.pop(_WAY, None)
    if way is not None:
        st.switch_page(way["page"], query_params=way["params"])


def home() -> None:
    """The page without a name: the spectrum, with whatever the address asked for."""
    st.switch_page("pages/spectrum.py", query_params=_params())


def require(page: str) -> Selection:
    """The guard of a page and what is chosen; `page` is the page's own word.

    The first session of a server can reach a page past the entry, without sidebar, configuration or checks: such a
    session goes to the entry first and comes back with its address.
    """
    # Taken away again, so that the mark speaks for this run only and not for one before it.
    if not st.session_state.pop(_ENTERED, False):
        st.session_state[_WAY] = {"page": f"pages/{page}.py", "params": _params()}
        st.switch_page("app.py", query_params=_params())
    return current()


def current() -> Selection:
    """What is chosen now: from the session, or from the address when the session is new."""
    chosen = st.session_state.get(_CHOSEN)
    wanted = st.session_state.pop(_NEXT, None)
    if wanted is not None:
        _forget_widgets()
        chosen = (chosen or {}) | wanted
    if chosen is None:
        params = _params()
        found = Selection.from_params(params, catalogue())
        asked = params.get("c", [""])[-1]
        st.session_state.pop(_LOST, None)
        if asked and base_id(asked) != base_id(found.collection):
            st.session_state[_LOST] = [asked[:_MOST_SHOWN], found.collection]
        return _keep(found)
    return _keep(Selection.clean(catalogue(), **chosen))


def lost() -> str:
    """The collection that the address named and nobody here knows, while the one shown in its place is chosen."""
    asked, shown = st.session_state.get(_LOST, ("", ""))
    if current().collection != shown:
        st.session_state.pop(_LOST, None)
        return ""
    return str(asked)


def change(**fields: object) -> Selection:
    """The selection with what a widget says, kept and written to the address."""
    before = current()
    after = Selection.clean(catalogue(), **asdict(before) | fields)
    _write(after.to_params())
    return _keep(after)


def set_selection(**fields: object) -> None:
    """Choose from outside the widgets, from the next run on: in a callback, or before `st.rerun()`."""
    st.session_state[_NEXT] = st.session_state.get(_NEXT, {}) | fields


def open_page(page: str, **fields: object) -> None:
    """Open another page with these fields chosen; ends the run, so call it last, where a button was pressed.

    Switches of the page that is left stay behind: an address that names them could not be cleared.
    """
    set_selection(**fields)
    st.switch_page(f"pages/{page}.py", query_params=current().to_params())


def held(name: str, value: object) -> str:
    """The key of a widget that stands for a field, its state seeded with what is chosen when the widget is new."""
    key = PICK + name
    if key not in st.session_state:
        st.session_state[key] = value
    return key


def _forget_widgets() -> None:
    """Widgets that stand for a field are made anew from what is chosen."""
    for key in [key for key in st.session_state if str(key).startswith(PICK)]:
        del st.session_state[key]


def _keep(selection: Selection) -> Selection:
    st.session_state[_CHOSEN] = asdict(selection)
    return selection


def _params() -> dict[str, list[str]]:
    """The address as it is: every key with all its values."""
    return {key: st.query_params.get_all(key) for key in st.query_params}


def _write(params: Mapping[str, str | list[str]]) -> None:
    """Make the address say this and nothing else, touching only what differs.

    A range of an axis is in the units of one collection's numbers, and goes with it.
    """
    other = params.get("c", "") != st.query_params.get("c", "")
    for key, values in _params().items():
        if (key not in params and key not in VIEWS) or (other and key == "range"):
            del st.query_params[key]
        elif key in params and values == _list(params[key]):
            params = {name: value for name, value in params.items() if name != key}
    if params:
        # At once: each message to the browser is an address of its own.
        st.query_params.update(params)


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
