"""The figures, the training panel and the export of the adapt page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from uws_core.analysis.adapt import judged
from uws_core.answers.adapt import answer
from uws_core.charts import adapt
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames import adapt as frames
from uws_core.jobs import JobStatus
from uws_core.nouns.adapting import GradientShare, Judged, Row
from uws_core.nouns.models import Collection
from uws_core.ui import figure_component, figures, job_panel, page
from uws_core.ui.adapt import data
from uws_core.ui.adapt.controls import AdaptQuery
from uws_core.ui.grams import jobs
from uws_core.use.adapt.log import Log

# What `use.adapt.export` writes; it loads torch, which the page itself does not need.
_EXPORTED = (Row.SHARED, Row.RANDOM, Row.BASE, Row.LORA, Row.DIAGONAL, Row.RANDOM_DIAGONAL, Row.MIXTURE)
_TARGETS = ("peft", "vllm", "llama.cpp")

DEFINITIONS = {
    "Shared": "W + U C V^T with frozen W and the two-sided basis U, V of the other groups' updates (the target's whole "
    "group is held out); only C (k x k), zero at the start, is trained. Orthonormal columns.",
    "Random": "The same with Haar-random directions, drawn anew for each seed: as many numbers, nothing shared.",
    "Base SVD": "The same with the leading singular directions of W itself (LoRA-XS, arXiv 2405.17604).",
    "LoRA": "B A of the rank, at least 1, whose numbers are nearest to those of the cores; scale 1.",
    "Full": "Every weight of the same layers.",
    "Diagonals, mixture": "U diag(c) V^T on the shared or a random basis; U (sum of a_i C_i / |C_i|) V^T with one "
    "trained weight for each member's core.",
    "Fair": "Every row trains the same head, steps and batches with AdamW. Rates from .001 to .3 are tried at the "
    "first seed, the one with the best validation score is used for all; the test score counts. A note says where "
    "the best rate is at the end of the grid.",
    "Differences": "Shared minus rival, seed by seed; over several tasks each task, its seeds averaged, is one pair. "
    "The interval is Student's t at 95 %.",
    "Captured gradient": "|U^T G V|^2 / |G|^2 of one batch's gradient G with the head of the first seed, before "
    "anything is trained. A random subspace holds k_out k_in / (m p) of any gradient on average. It tells about "
    "the first step alone.",
}


def training_panel(query: AdaptQuery, collection: Collection, log: Log | None) -> None:
    """What training costs with a button, its progress with live curves and a stop, or how it ended."""
    job = jobs().get(data.job_key(query))
    if job is not None and job.status.active:
        job_panel.progress(job.key, below=partial(_live, query, job.key), text=lambda state: state.message or "waiting")
        return
    finished = len(log.comparison.runs) if log else 0
    if log is not None and log.comparison.complete and finished:
        return
    with st.container(border=True):
        minutes = max(data.seconds(query, finished) / 60, 0.1)
        done = (
            f"{finished} of {query.trainings} trainings are finished and kept. The rest takes"
            if finished
            else (f"{query.trainings} trainings of {query.steps} steps take")
        )
        st.markdown(f"{done} about {minutes:.1f} min on one core.")
        if job is not None and job.status is JobStatus.FAILED:
            st.caption(f"The last attempt stopped: {page.plain(job.error)}")
        st.button(
            "Go on" if finished or job is not None else "Train",
            on_click=_start,
            args=(query, collection),
            type="primary",
            key="adapt.train",
        )


def results(log: Log, task: str, source: Provenance) -> None:
    """Score against numbers, paired differences, curves, tables and the export of a log."""
    whole = judged(log.comparison, task)
    rows, differences = frames.rows(whole), frames.differences(whole)
    metric = log.comparison.metric
    left, right = st.columns([3, 2], gap="medium")
    with left:
        shown = frames.averaged(rows)
        figures.figure(
            "Score against trained numbers",
            lambda theme: adapt.scores(shown, metric=metric, theme=theme),
            shown,
            source,
            alt=f"Mean test score of each row against its trained numbers. {source.caption}",
            key="adapt scores",
        )
    with right:
        figures.figure(
            "Paired differences, 95 %",
            lambda theme: adapt.differences(differences, metric=metric, theme=theme),
            differences,
            source,
            alt="Mean difference of the shared basis to each rival, with its 95 % interval",
            key="adapt differences",
        )
    if task:
        curves(whole, log, source)
    page.table(rows, frames.HELP, label="Rows")
    page.table(differences, frames.HELP, label="Differences")
    page.table(frames.runs(log.comparison, task), frames.HELP, label="Trainings")


def curves(whole: Judged, log: Log, source: Provenance) -> None:
    """Training losses of every row at its best rate."""
    frame = frames.curves(whole, log.curves)
    if frame.is_empty():
        return
    figures.figure(
        "Training curves",
        lambda theme: adapt.curves(frame, theme=theme),
        frame,
        source,
        alt="Training loss against the step, a line for each row at its best rate, seeds averaged",
        key="adapt curves",
    )


def gradient(shares: Sequence[GradientShare], source: Provenance) -> None:
    """The captured gradient of every layer."""
    frame = frames.gradient(shares)
    figures.figure(
        "Captured gradient of every layer",
        lambda theme: adapt.gradient(frame, theme=theme),
        frame,
        source,
        alt="Share of one batch's gradient in the shared basis, in the base's own directions and in random subspaces",
        key="adapt gradient",
    )
    page.table(
        frame, frames.HELP, label="Layers", percent=[name for name in frame.columns if name not in ("layer", "k")]
    )


def export_panel(log: Log, task: str) -> None:
    """A trained row as a LoRA adapter to download."""
    folder = log.folders.get(task)
    whole = judged(log.comparison, task)
    kept = [str(score.row) for score in whole.scores if score.row in _EXPORTED]
    if folder is None or not kept or not (folder / "trained").is_dir():
        return
    st.subheader("Take it along", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        row = st.selectbox("Row", kept, key=f"adapt.row.{'|'.join(kept)}", width=170)
        target = st.selectbox(
            "For", _TARGETS, key="adapt.target", width=130, help="The program that must load the adapter."
        )
        try:
            packed = data.adapter_bytes(folder, task, str(row), str(target))
        except UwsError as error:
            page.problem(str(error))
            return
        st.download_button(
            "LoRA adapter",
            packed,
            file_name=f"{task}-{row}-{target}.zip".replace(" ", "-"),
            mime="application/zip",
            icon=":material/download:",
            key="adapt.export",
            on_click="ignore",
            help="The update as plain LoRA factors, exact; the seed with the best validation score.",
        )
    st.caption(
        "The trained head goes along, as modules_to_save."
        if target == "peft"
        else f"{target} cannot load a trained head, so it is left out."
    )


def _live(query: AdaptQuery, key: str) -> None:
    """What the training has shown so far, redrawn every second, with the stop."""
    try:
        log = data.own_log(query)
    except UwsError:
        log = None
    if log is not None and log.comparison.tasks:
        whole = judged(log.comparison, query.task)
        st.caption(f"{len(log.comparison.runs)} of {query.trainings} trainings. {answer(whole)}")
        frame = frames.curves(whole, log.curves)
        if not frame.is_empty():
            figure_component.draw(
                adapt.curves(frame, theme=figures.theme()),
                key="figure.adapt live",
                alt="Training loss against the step, a line for each row and one for the training under way",
                filename=f"curves-{query.task}",
                revision=query.task,
            )
    st.button("Stop", on_click=_stop, args=(key,), key=f"stop.{key}")


def _start(query: AdaptQuery, collection: Collection) -> None:
    data.start(query, collection)


def _stop(key: str) -> None:
    jobs().cancel(key)
