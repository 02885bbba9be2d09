"""Writing a merge: where, at what cost, as a job, and the way to its result beside its members."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from uws_core import cluster
from uws_core.collection import collect
from uws_core.errors import ExportError, OutsideRoot, UwsError
from uws_core.jobs import JobState, JobStatus, Report
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.models import Collection, ModelRef
from uws_core.ui import compute, folders, job_panel, page, saved_collections, state, tasks
from uws_core.ui.grams import jobs
from uws_core.ui.merge.controls import MergeQuery

DTYPES = ("auto", "float32", "bfloat16", "float16")
TARGETS = ("peft", "vllm", "llama.cpp")


def panel(query: MergeQuery, collection: Collection, *, low_rank: bool) -> None:
    """The folder's name, what is written and what it costs, the button, and the job while it runs."""
    st.subheader("Write it", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        name = st.text_input(
            "Folder to write",
            value=_usual(query, collection),
            key=f"merge.folder.{collection.fingerprint}.{query.method}.{query.scale}",
            help="Below the folder that the app was started in.",
        )
        dtype = st.selectbox("Numbers", DTYPES, key="merge.dtype", width=110, help="auto is the type of the base.")
        target = "peft"
        if low_rank:
            target = st.selectbox(
                "For", TARGETS, key="merge.target", width=110, help="The program that must load the adapter."
            )
        pressed = st.button("Write", key="merge.write")
    st.caption(_price(query, collection, low_rank))
    try:
        key = _key(query, name, str(dtype), str(target))
        job = write(query, collection, name, str(dtype), str(target)) if pressed else jobs().get(key)
    except UwsError as error:
        page.problem(str(error))
        return
    if job is not None:
        _shown(job, query, collection, name)


def write(query: MergeQuery, collection: Collection, text: str, dtype: str, target: str) -> JobState:
    """The job that writes the merge below a folder this app may use.

    Raises:
        OutsideRoot: the folder lies outside the roots.
        ExportError: it exists already.
        UwsError: the members cannot be merged so.
    """
    # torch is loaded only where weights are read.
    from uws_core.use.merge.plan import plan_merge
    from uws_core.use.merge.writing import WriteOptions, written

    folder = _inside(text)
    if folder.exists():
        raise ExportError(f"{folder.name} exists already; name a new folder")
    plan = plan_merge(
        collection,
        query.recipe(scale=query.scale),
        members=query.members,
        layers=query.layers,
        dtype=dtype,
        budget=compute.options().budget,
    )

    where = compute.scheduler()

    def work(report: Report) -> None:
        with cluster.connected(where) as executor:
            written(plan, folder, WriteOptions(target), report=report, executor=executor)

    return jobs().submit(_key(query, text, dtype, target), work, title=f"Write {folder.name}", bytes_total=0)


def beside_members(query: MergeQuery, collection: Collection, folder: Path) -> str:
    """The id of a saved collection of the merge and its members, under the base they have.

    Raises:
        UwsError: the merge cannot be compared with them.
    """
    places: list[ModelRef | Path] = [*(collection.refs[row] for row in query.members), folder]
    made = collect(places, base=collection.base, name=f"{folder.name} and its members")
    rows: list[int | None] = [*query.members, None]
    table = {
        name: tuple(None if row is None else column[row] for row in rows) for name, column in collection.table.items()
    }
    labels = (*(collection.labels[row] for row in query.members), f"merge {folder.name}")
    if len(made) == len(labels):
        made = replace(made, table=table, labels=labels)
    return saved_collections.keep(made)


def _shown(job: JobState, query: MergeQuery, collection: Collection, name: str) -> None:
    if job.status.active:
        job_panel.progress(job.key)
        return
    if job.status is not JobStatus.DONE:
        page.problem(job.error or "The merge was stopped; writing it again goes on where it was.")
        st.button("Write again", on_click=_again, args=(job.key,), key="merge.again")
        return
    folder = _inside(name)
    if not folder.is_dir():
        return
    st.caption(f"{page.plain(name)} is written. merge.json in it says what was merged and how far it lies from all.")
    if st.button("Open it beside its members", key="merge.open", type="primary"):
        try:
            opened = beside_members(query, collection, folder)
        except UwsError as error:
            page.problem(str(error))
            return
        state.open_page("angles", collection=opened, members=(), layers=(), layer="", about="mean", group="")


def _again(key: str) -> None:
    jobs().retry(key)


def _inside(text: str) -> Path:
    """The folder that a text names, below a root.

    Raises:
        OutsideRoot: it is not.
    """
    roots = folders.roots()
    folder = (roots[0] / Path(text.strip()).expanduser()).resolve()
    if not text.strip() or folder in roots or not any(folder.is_relative_to(root) for root in roots):
        raise OutsideRoot(f"{text!r} is outside the folders this app may use: {', '.join(map(str, roots))}")
    return folder


def _usual(query: MergeQuery, collection: Collection) -> str:
    place = collection.name.removeprefix("demo:").replace("/", "-").replace(" ", "-")
    return f"{place}-{query.method}-{query.scale:g}"


def _price(query: MergeQuery, collection: Collection, low_rank: bool) -> str:
    """What writing costs: the layers' bytes read and written, and about how long."""
    entries = sum(collection.by_name[name].entries for name in query.layers)
    share = len(query.members) / len(collection)
    seconds = tasks.read_seconds(collection, query.layers, times=2 * share) + 4 * entries / tasks.BYTES_PER_SECOND
    size = "an adapter" if low_rank else f"{bytes_text(4 * entries)} of layers, more in other tensors,"
    return (
        f"Reads {len(query.members)} models in {len(query.layers)} layers and writes {size} in about "
        f"{max(seconds, 1):.0f} s on a modest machine. The models are left as they are."
    )


def _key(query: MergeQuery, text: str, dtype: str, target: str) -> str:
    return tasks.key_of("merged folder", query, text, dtype, target)
