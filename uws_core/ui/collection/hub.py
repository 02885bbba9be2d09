"""The Hub's part of the collection page: a query, what it finds, and opening it."""

from __future__ import annotations

from collections import Counter
from typing import Final

import streamlit as st

from uws_core.frames import hub
from uws_core.jobs import JobStatus
from uws_core.nouns.hub import PRESETS, HubListing
from uws_core.sources.listing import not_listed
from uws_core.ui import job_panel, page, state
from uws_core.ui.collection import controls, opening
from uws_core.ui.collection.opening import Opening
from uws_core.ui.grams import jobs

_QUERY, _ASKED, _PRESET, _LIST = "hub.query", "hub.asked", "hub.preset", "hub.list"
_UNDERWAY, _STOPPED = "hub.underway", "hub.stopped"
# A list of names is short; a whole file of another kind is not one.
_LONGEST_LIST = 1_000_000
HELP: Final = (
    "Words between spaces. Models by name, at a branch, tag or commit: `owner/name@revision`; one file of several: "
    "`owner/name#file.safetensors`. Globs: `owner/*task*`. Filters: `adapters:owner/base`, `finetunes:owner/base`, "
    "`author:name`, `tag:word`, `task:`, `library:`, `license:`, `since:2024-01-31`, `min_downloads:100`, `gated:no`, "
    "`sort:downloads|likes|created|updated`, `limit:100`. Lines with addresses or a `#` comment are fine too."
)


def show() -> None:
    """The query with its presets, the models it finds, and the way to open them."""
    _underway()
    if stopped := st.session_state.get(_STOPPED):
        page.problem(str(stopped))
    # The box for a query or a list, filled from a preset or a file.
    st.selectbox(
        "Start from",
        list(PRESETS),
        index=None,
        key=_PRESET,
        on_change=_take_preset,
        placeholder="a collection of the paper, or write a query of your own",
    )
    st.text_area(
        "Query, or a list of models",
        key=_QUERY,
        height=100,
        help=HELP,
        placeholder="finetunes:owner/base limit:50\nowner/*task*\nowner/name@revision",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Search", key="hub.search", on_click=_search, type="primary")
        with st.popover("From a text file", icon=":material/upload_file:"):
            st.file_uploader("A list of models", type=["txt", "csv", "md"], key=_LIST, on_change=_take_list)
    asked = str(st.session_state.get(_ASKED, ""))
    if not asked:
        st.caption("Nothing is asked of the Hub before you search, and no weight is read before you scan a layer.")
        return
    found = opening.listing(asked)
    if found.listing is None:
        page.problem(found.problem)
    else:
        _found(asked, found.listing)


def _found(query: str, listing: HubListing) -> None:
    """The table of what was found, and the button that opens the picked rows, or all."""
    count = len(listing.models)
    st.caption(f"{count} models" + (f", and more than the limit of {listing.query.limit}" if listing.more else ""))
    if listing.left_out:
        page.left_out(listing.left_out, key="hub left out")
    if not count:
        return
    frame = hub.models(listing.models)
    event = st.dataframe(
        frame,
        key="hub.models",
        on_select="rerun",
        selection_mode="multi-row",
        hide_index=True,
        height=page.height(frame.height, most=260),
        column_config=page.configs(frame, hub.HELP),
        alt="Models that the query found on the Hub",
    )
    picked = [listing.models[row] for row in event.selection.rows] or list(listing.models)
    # The name, the base, and the button that opens the picked models.
    missing = not_listed(listing)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name of the collection", value=query.splitlines()[0][:80], width=280, key=f"hub.name.{query}"
        )
        named = Counter(one.base for one in picked if one.base)
        base = st.text_input(
            "Base model",
            placeholder=(named.most_common(1)[0][0] if named else "") or "none",
            width=280,
            key="hub.base",
            help="The model they all started from, `owner/name`; leave it empty to compare without one. Of it, too, "
            "only the layers that you scan are read.",
        )
        taken = controls.options("hub", pickled=False)
        refs = tuple(one.ref for one in picked)
        chosen = Opening(refs, name.strip() or "models", query, base.strip(), missing, choices=taken)
        # No callback: its arguments would be those of the run before, without the name that was just typed.
        if st.button(
            f"Open {len(picked)} models",
            key="hub.open",
            type="primary",
            help="Reads their headers, a few kB each, and no weights: then the page shows what matches, what is left "
            "out, and what a layer costs in bytes.",
        ):
            st.session_state.pop(_STOPPED, None)
            st.session_state[_UNDERWAY] = opening.start(chosen).key
            st.rerun()


def _underway() -> None:
    """The opening that this session waits for: its progress, what stopped it, or the way to what it made."""
    key = st.session_state.get(_UNDERWAY)
    job = jobs().get(str(key)) if key else None
    if job is None:
        return
    if job.status.active:
        job_panel.progress(job.key, text=lambda job: job.message or job_panel.job_line(job))
        return
    del st.session_state[_UNDERWAY]
    if job.status is JobStatus.DONE:
        st.session_state.pop(_ASKED, None)
        state.set_selection(collection=job.key.removeprefix("open/"))
        st.rerun()
    st.session_state[_STOPPED] = job.error or "Stopped before all models were open; nothing was kept."


def _search() -> None:
    st.session_state.pop(_STOPPED, None)
    st.session_state[_ASKED] = str(st.session_state.get(_QUERY, "")).strip()


def _take_preset() -> None:
    preset = PRESETS.get(str(st.session_state.get(_PRESET)))
    if preset:
        st.session_state[_QUERY] = preset


def _take_list() -> None:
    """The text of an uploaded list becomes the query, to be looked at before it is asked."""
    file = st.session_state.get(_LIST)
    if file is not None:
        st.session_state[_QUERY] = file.getvalue()[:_LONGEST_LIST].decode("utf-8", errors="replace")
