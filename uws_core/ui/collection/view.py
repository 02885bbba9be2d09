"""The parts of the collection page: the path box, the models, and the layers."""

from __future__ import annotations

from collections import Counter

import polars as pl
import streamlit as st

from uws_core.collection import is_results
from uws_core.errors import UwsError
from uws_core.frames import collection as frames
from uws_core.nouns.left_out import OTHERS
from uws_core.nouns.loader import Choices
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.store.results_file import RESULTS_SUFFIX
from uws_core.ui import folders, page, saved_collections, state, tokens
from uws_core.ui.catalogue import catalogue, read_again
from uws_core.ui.collection import controls, data, opening
from uws_core.ui.pair import way
from uws_core.ui.selection import ARCHITECTURE, Selection, base_id, having_id, id_parts

_PATH, _PROBLEM = "collection.path", "collection.problem"


def path_box(selection: Selection) -> None:
    """A box for the path of a folder, what is wrong with it, and a way to read the open one again."""
    roots = ", ".join(str(root) for root in folders.roots())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Open a folder of your own",
            key=_PATH,
            placeholder="path/to/checkpoints",
            width=420,
            help=f"A folder with one safetensors file a model, or one folder a model; attributes in `models.csv`. Or a "
            f"results file (`{RESULTS_SUFFIX}`), here or on the Hub as owner/name/file{RESULTS_SUFFIX}. "
            f"Folders below {roots} can be opened; name others in UWS_ROOTS when you start the app.",
        )
        if st.button("Open", key="collection.open"):
            _open(str(st.session_state.get(_PATH, "")), controls.taken("folder"))
        controls.options("folder")
        if catalogue().path(selection.collection) is not None:
            st.button("Read again", on_click=read_again, help="Read the open folder anew: files changed.")
    wrong = st.session_state.pop(_PROBLEM, "")
    if wrong:
        page.problem(wrong)


def architectures(selection: Selection, collection: Collection) -> None:
    """The architectures at the collection's place, one of them chosen with a click; nothing where there is one only."""
    known = catalogue().architectures(selection.collection)
    if not known:
        saved = selection.collection.startswith(saved_collections.SAVED)
        if saved and any(item.reason.startswith(OTHERS) for item in collection.left_out):
            st.caption("Models of other architectures that came with these are saved as collections of their own.")
        return
    titles = {item.id: str(item) for item in known}
    shown = next((item.id for item in known if collection.labels[0] in item.models), known[0].id)
    key = f"collection.architecture.{selection.collection}"

    def choose() -> None:
        picked = st.session_state.get(key)
        if picked:
            state.set_selection(collection=f"{base_id(selection.collection)}{ARCHITECTURE}{picked}")

    st.pills(
        f"{len(known)} architectures lie here; those of one are compared",
        list(titles),
        default=shown,
        required=True,
        format_func=lambda name: titles.get(name, name),
        key=key,
        on_change=choose,
    )


def models(selection: Selection, collection: Collection) -> None:
    """The models with their attributes, filters and a search; picked rows become the chosen models."""
    chosen = set(selection.members_in(collection))
    frame = frames.models(collection).with_row_index("row")
    frame = frame.with_columns(pl.Series("chosen", [i in chosen for i in range(len(collection))]))
    shown = _filtered(frame, collection, selection.collection)
    st.caption(_by_group(selection, collection) or f"{shown.height} of {len(collection)} models shown")
    table = shown.select("model", "chosen", pl.exclude("model", "chosen", "row"))
    event = st.dataframe(
        table,
        key=f"collection.models.{selection.collection}",
        on_select="rerun",
        selection_mode="multi-row",
        hide_index=True,
        height=page.height(table.height),
        column_config=page.configs(table, {**frames.HELP, "chosen": "Whether the model is in the selection."}),
        alt=f"Models of {collection.name} with their attributes",
    )
    picked = [int(row) for row in shown["row"].gather(event.selection.rows)]
    _use_models(selection, collection, picked, [int(row) for row in shown["row"]])


def layers(selection: Selection, collection: Collection, query: Query) -> pl.DataFrame:
    """The layers with place, shape, scree and rank; picked rows become the chosen layers. The table is returned."""
    frame = data.layers(collection, query)
    config = page.configs(frame, frames.HELP)
    # Streamlit's own format writes kB; the other sizes on the page are in KiB.
    config["bytes"] = st.column_config.NumberColumn("KiB", help=frames.HELP["bytes"], format="%.1f")
    config["rank"] = st.column_config.NumberColumn(f"rank at {100 * query.share:g} %", help=frames.HELP["rank"])
    config["scree"] = st.column_config.BarChartColumn(help=frames.HELP["scree"], y_min=0.0)
    event = st.dataframe(
        frame.with_columns(pl.col("bytes") / 1024),
        key=f"collection.layers.{selection.collection}",
        on_select="rerun",
        selection_mode="multi-row",
        hide_index=True,
        height=page.height(frame.height),
        column_config=config,
        alt=f"Layers that the models of {collection.name} share",
    )
    names = [str(name) for name in frame["layer"].gather(event.selection.rows)]
    with st.container(horizontal=True):
        label = _use(len(names), "layer")
        st.button(
            label, on_click=state.set_selection, kwargs={"layers": tuple(names)}, disabled=not names, key="use.layers"
        )
        if selection.layers:
            st.button("Use all layers", on_click=state.set_selection, kwargs={"layers": ()}, key="use.all.layers")
    return frame


def partial_layers(selection: Selection) -> None:
    """The layers that part of the models have, folded; the models that have a picked one become the collection."""
    place, (*_, chosen) = having_id(selection.collection, ""), id_parts(selection.collection)
    whole = catalogue().get(place)
    if whole is None or not whole.partial:
        return
    held = next((item for item in whole.partial if item.key.name == chosen), None)
    if held is not None:
        st.caption(f"{len(held.models)} of {held.of} models are compared: those that have {page.plain(chosen)}.")
    with page.folded(
        f"Layers that part of the models have ({len(whole.partial)})", icon="layers", key="partial"
    ) as unfolded:
        if not unfolded:
            return
        st.caption("Pick one to compare it among the models that have it.")
        frame = frames.partial(whole)
        event = st.dataframe(
            frame,
            key=f"collection.partial.{place}",
            on_select="rerun",
            selection_mode="single-row",
            hide_index=True,
            height=page.height(frame.height),
            column_config=page.configs(frame, frames.HELP),
            alt=f"Layers that part of the models of {whole.name} have",
        )
        names = [str(name) for name in frame["layer"].gather(event.selection.rows)]
        with st.container(horizontal=True):
            st.button(
                "Compare the models that have it",
                on_click=state.set_selection,
                kwargs={"collection": having_id(place, names[0] if names else "")},
                disabled=not names,
                key="use.having",
            )
            if held is not None:
                st.button(
                    f"Back to all {len(whole)} models",
                    on_click=state.set_selection,
                    kwargs={"collection": place},
                    key="use.all.having",
                )


def _open(text: str, taken: Choices) -> None:
    try:
        with st.spinner("Reading the models' headers"):
            is_file = is_results(text.strip())
            name = opening.open_results(text.strip()) if is_file else catalogue().add(text, taken)
    except UwsError as error:
        st.session_state[_PROBLEM] = str(error)
        return
    state.set_selection(collection=name)
    st.rerun()


def _filtered(frame: pl.DataFrame, collection: Collection, here: str) -> pl.DataFrame:
    """The rows that the search and the filters leave."""
    columns = tokens.group_columns(collection)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sought = st.text_input("Search", key=f"collection.search.{here}", placeholder="name or value", width=220)
        with st.popover("Filter", icon=":material/filter_list:", disabled=not columns, key="collection.filter"):
            kept = {
                name: st.multiselect(name, tokens.groups_of(collection.table[name]), key=f"collection.{here}.{name}")
                for name in columns
            }
    for name, values in kept.items():
        if values:
            frame = frame.filter(pl.col(name).cast(pl.String).is_in(values))
    if sought:
        words = pl.concat_str(pl.exclude("row", "chosen").cast(pl.String), separator="\n", ignore_nulls=True)
        frame = frame.filter(words.str.to_lowercase().str.contains(sought.lower(), literal=True))
    return frame


def _use_models(selection: Selection, collection: Collection, picked: list[int], shown: list[int]) -> None:
    with st.container(horizontal=True):
        label = _use(len(picked), "model")
        some = {"members": tokens.tokens_for(collection, picked)}
        st.button(label, on_click=state.set_selection, kwargs=some, disabled=not picked, key="use.models")
        if len(picked) == 2:
            way.offer(*(collection.labels[row] for row in picked), key="pair.models")
        if 0 < len(shown) < len(collection):
            every = {"members": tokens.tokens_for(collection, shown)}
            st.button(f"Use the {len(shown)} shown", on_click=state.set_selection, kwargs=every, key="use.shown")
        if selection.members:
            st.button("Use all models", on_click=state.set_selection, kwargs={"members": ()}, key="use.all.models")


def _use(count: int, noun: str) -> str:
    return f"Use {count} picked {noun}" + ("" if count == 1 else "s") if count else f"Use picked {noun}s"


def _by_group(selection: Selection, collection: Collection) -> str:
    """How many of the chosen models each value of the group attribute has."""
    if not selection.group:
        return ""
    column = collection.table[selection.group]
    counts = Counter(str(column[i]) for i in selection.members_in(collection))
    return f"by {selection.group}: " + ", ".join(f"{value} {count}" for value, count in counts.items())
