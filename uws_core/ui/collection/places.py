"""Where collections come from: built in, a folder, the Hub, an upload, or one that was saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import polars as pl
import streamlit as st

from uws_core.collection import fingerprint
from uws_core.errors import UwsError
from uws_core.nouns.models import Collection, ModelRef
from uws_core.store.results_file import RESULTS_SUFFIX
from uws_core.store.saved_collections import SUFFIX, common_folder, is_local, saved_text
from uws_core.ui import page, saved_collections, state
from uws_core.ui.collection import controls, hub, opening, view
from uws_core.ui.selection import Selection
from uws_core.zoo.demo import DEMOS, PREFIX

_TABS: Final = ("Built-in", "Folder", "Hub", "Upload", "Saved")
_UPLOAD, _UPLOAD_NAME, _SAVE_NAME, _KEPT, _PROBLEM = (
    "upload.files",
    "upload.name",
    "save.name",
    "saved.kept",
    "places.problem",
)


def show(selection: Selection) -> None:
    """One tab for every place a collection can come from."""
    wrong = st.session_state.pop(_PROBLEM, "")
    if wrong:
        page.problem(wrong)
    built_in, folder, on_hub, upload, saved = st.tabs(_TABS)
    with built_in:
        demos = list(DEMOS.values())
        frame = pl.DataFrame(
            {"collection": [one.title for one in demos], "what it shows": [one.about for one in demos]}
        )
        event = st.dataframe(
            frame,
            key="built.in",
            on_select="rerun",
            selection_mode="single-row",
            hide_index=True,
            height=page.height(frame.height, most=250),
            column_config={"collection": st.column_config.TextColumn(width="medium")},
            alt="Built-in collections",
        )
        rows = event.selection.rows
        chosen = {"collection": PREFIX + demos[rows[0]].name} if rows else {}
        st.button("Open", key="built.in.open", on_click=state.set_selection, kwargs=chosen, disabled=not rows)
    with folder:
        view.path_box(selection)
    with on_hub:
        hub.show()
    with upload:
        _upload()
    with saved:
        _saved(selection)


def save_box(selection: Selection, collection: Collection) -> None:
    """A box that keeps the chosen models as a collection of their own, and one that hands its file out."""
    members = selection.members_in(collection)
    if not members or collection.refs[0].without_weights:
        return
    with st.popover("Save as a collection", icon=":material/bookmark_add:", key="save"):
        st.caption(f"Names and commits of the {len(members)} chosen models with their attributes; no weights.")
        name = st.text_input("Name", value=collection.name[:80], key=f"{_SAVE_NAME}.{collection.fingerprint}")
        part = subset(collection, members, name.strip() or "models")
        query, folder = opening.query_of(selection.collection), common_folder(part.refs)
        _where(part.refs)
        # No callback: its arguments would be those of the run before, without the name that was just typed.
        if st.button("Save", key="save.keep"):
            try:
                state.set_selection(collection=saved_collections.keep(part, query=query))
            except UwsError as error:
                st.session_state[_PROBLEM] = str(error)
            st.rerun()
        st.download_button(
            f"Download {SUFFIX}",
            saved_text(part, beside=folder, query=query),
            file_name=f"{saved_collections.id_for(part.name).removeprefix(saved_collections.SAVED)}{SUFFIX}",
            mime="application/toml",
            key="save.download",
            help="Opens on another machine: on its Upload tab, or with uws_core.collect.",
        )


def subset(collection: Collection, members: tuple[int, ...], name: str) -> Collection:
    """Some models of a collection, in order, as a collection of their own."""
    refs = tuple(collection.refs[i] for i in members)
    return replace(
        collection,
        name=name,
        refs=refs,
        labels=tuple(collection.labels[i] for i in members),
        table={key: tuple(column[i] for i in members) for key, column in collection.table.items()},
        fingerprint=fingerprint(refs),
    )


def _upload() -> None:
    files = st.file_uploader(
        f"Safetensors files, a model each, adapters with adapter_config.json, one collection file ({SUFFIX}), or one "
        f"results file ({RESULTS_SUFFIX})",
        type=["safetensors", "json", "toml", "zip", "bin", "pt", "pth", "ckpt"],
        accept_multiple_files=True,
        key=_UPLOAD,
        help="They are kept in a folder of this app on the machine it runs on, until the collection is removed. One "
        "adapter_config.json is taken for all adapters; several say whose they are by name, such as "
        "task1.adapter_config.json for task1.safetensors. Pickled .bin and .pt files only when the options say so.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name of the collection", value="uploaded models", key=_UPLOAD_NAME, width=280)
        controls.options("upload")
        st.button("Open", key="upload.open", on_click=_take_uploads, disabled=not files, type="primary")


def _saved(selection: Selection) -> None:
    kept = {one.id: one for one in saved_collections.listed()}
    if not kept:
        st.caption(
            "Nothing is saved yet. What you open from the Hub or upload is; so is what you save below the models."
        )
        return
    names = list(kept)
    chosen = st.selectbox(
        "Saved collection",
        names,
        index=names.index(selection.collection) if selection.collection in kept else 0,
        # Of its own for every open collection, so that opening one also chooses it here.
        key=f"{_KEPT}.{selection.collection}",
        format_func=lambda name: f"{kept[name].title} ({_day(kept[name].when)})" if name in kept else name,
    )
    if chosen not in kept:
        return
    # The ways to open a kept collection, to take its file elsewhere, and to remove it.
    one = kept[chosen]
    content, refs = opening.handed_on(one.path)
    _where(refs)
    with st.container(horizontal=True):
        st.button("Open", key="saved.open", on_click=state.set_selection, kwargs={"collection": chosen}, type="primary")
        st.download_button(
            f"Download {RESULTS_SUFFIX if saved_collections.is_results(one.path) else SUFFIX}",
            content,
            file_name=one.path.name,
            mime="application/zip" if saved_collections.is_results(one.path) else "application/toml",
            key="saved.download",
        )
        with st.popover("Remove", icon=":material/delete:"):
            st.caption("Deletes this collection and any uploads used only by it.")
            st.button("Remove it", key="saved.remove", on_click=_remove, args=(chosen,))


def _where(refs: Sequence[ModelRef]) -> None:
    """Where a downloaded file has to lie, when its models are of this machine."""
    if (folder := common_folder(refs)) is not None:
        st.caption(
            f"The models lie on this machine: on another one, put the file into the folder that holds them (here "
            f"`{folder}`) and open it there with `uws_core.collect`. What lies outside, such as a base, has to lie at "
            "the same path."
        )
    elif any(is_local(ref) for ref in refs):
        st.caption(
            "The models lie on this machine in no common folder: on another one, they have to lie at these paths."
        )


def _remove(name: str) -> None:
    saved_collections.remove(name)


def _take_uploads() -> None:
    """Open what was uploaded: a collection file by itself, or models."""
    files = [(file.name, file.getvalue()) for file in st.session_state.get(_UPLOAD) or ()]
    tables = [file for file in files if file[0].endswith((".toml", ".zip"))]
    try:
        if tables and len(files) > 1:
            raise UwsError(f"{len(files)} files, among them a collection or results file: upload that one by itself")
        name = str(st.session_state.get(_UPLOAD_NAME, "")).strip() or "uploaded models"
        taken = controls.taken("upload")
        if tables:
            state.set_selection(collection=opening.open_file(*files[0], pickled=taken.pickled))
        else:
            state.set_selection(collection=opening.open_uploads(files, name, taken))
    except UwsError as error:
        st.session_state[_PROBLEM] = str(error)


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")
