"""The parts of the compress page below its figures: scores, the folder that is written, members that are rebuilt."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from uws_core.charts import compress
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames.compress import HELP
from uws_core.jobs import JobState, JobStatus
from uws_core.nouns.models import Collection
from uws_core.ui import figures, job_panel, page, state, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.compress import data
from uws_core.ui.compress.controls import CompressQuery
from uws_core.ui.grams import jobs
from uws_core.use.rebuild import TARGETS
from uws_core.zoo.demo import DEMOS, PREFIX


def scores(query: CompressQuery, collection: Collection, source: Provenance) -> None:
    """Score against bytes of a built-in collection, or a button that computes it; nothing for others."""
    demo = DEMOS.get(query.collection.removeprefix(PREFIX)) if query.collection.startswith(PREFIX) else None
    if demo is None or not demo.scored or (demo.name == "lora" and collection.base is None):
        return
    st.subheader("Score against bytes", anchor=False)
    st.caption(
        "Every model rebuilt at four sizes and tried on the 450 test pictures of its task, beside its own SVD at the "
        "same bytes. From Python any collection can be scored with a function of your own (`uws_core.use.scores`)."
    )
    task = data.score_task(query, collection)
    if not job_panel.task_panel(task, tasks.peek(task)):
        return
    frame = data.scored(query)
    if frame is None:
        return
    figures.figure(
        "Score against bytes",
        lambda theme: compress.scores(frame, theme=theme),
        frame,
        source,
        alt="The median of the models' scores relative to their own, against the bytes of the folder",
        key="scores",
    )
    page.table(frame, HELP, label="Scores", percent=("score",))


def write(query: CompressQuery, collection: Collection) -> None:
    """The field that names the folder, the button that writes it, the job while it runs, and what to do then."""
    st.subheader("Write the folder", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        name = st.text_input(
            "Folder to write",
            value=f"{collection.name.removeprefix('demo:').replace('/', '-')}-compressed",
            key="compress.folder",
            help="Below the folder that the app was started in. A stopped writer goes on where it was.",
        )
        pressed = st.button("Write", key="compress.write")
    try:
        job = data.write(query, collection, name) if pressed else jobs().get(data.write_key(query, name))
    except UwsError as error:
        page.problem(str(error))
        return
    if job is None or not _finished(job, f"{page.plain(name)} is written."):
        return
    st.button(
        "Open it as a collection",
        key="compress.open",
        on_click=_open,
        args=(data.below_root(name),),
        help="Every page then shows the rebuilt models: what did compression change?",
    )


def members(path: Path | None) -> None:
    """Where the chosen collection is a compressed folder: one of its members as files that other programs load."""
    try:
        folder = data.compressed_folder(path)
    except UwsError as error:
        page.problem(str(error))
        return
    if folder is None or path is None:
        return
    with st.container(border=True):
        st.markdown(
            f"**A compressed folder**: {len(folder.members)} models in {len(folder.plans)} layers, revision "
            f"{folder.index['revision']}, basis {folder.index['basis']}. Its layers are rebuilt when they are read."
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            member = st.selectbox("Member", folder.members, key="rebuild.member", width=220)
            targets = TARGETS if folder.files.adapters else TARGETS[:1]
            target = st.selectbox(
                "For",
                targets,
                key="rebuild.target",
                width=120,
                format_func=lambda name: name if folder.files.adapters else "transformers",
                help="What must load it. What a target cannot hold is refused by name.",
            )
            into = st.text_input("Into", value=f"{path.name}-rebuilt", key="rebuild.into", width=220)
            pressed = st.button("Rebuild", key="rebuild.write", type="primary")
        try:
            key = data.rebuild_key(path, member, target, into)
            job = data.rebuild_member(path, member, target, into) if pressed else jobs().get(key)
        except UwsError as error:
            page.problem(str(error))
            return
        if job is not None:
            _finished(job, f"{page.plain(member)} is rebuilt in {page.plain(into)}.")


def _finished(job: JobState, text: str) -> bool:
    """Whether a job is done; its progress, or what went wrong, where it is not."""
    if job.status.active:
        job_panel.progress(job.key)
        return False
    if job.error:
        page.problem(job.error)
        return False
    if job.status is JobStatus.CANCELLED:
        st.caption("Stopped; what was finished is kept, and the button goes on from there.")
        return False
    st.caption(text)
    return True


def _open(folder: Path) -> None:
    state.set_selection(collection=catalogue().add(str(folder)), members=(), layers=())
