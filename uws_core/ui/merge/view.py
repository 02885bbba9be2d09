"""The parts of the merge page: its numbers, the scale, members by methods, warnings, and layers that collide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.answers.merge import NAMES
from uws_core.answers.wording import share_text
from uws_core.charts import merge
from uws_core.charts.style import Theme
from uws_core.export import Provenance
from uws_core.frames import merge as frames
from uws_core.nouns.merge_preview import BestScale, Compatibility, MergeScore, Standing
from uws_core.nouns.merging import MergeMethod
from uws_core.nouns.models import Collection
from uws_core.ui import figures, page, state, tokens
from uws_core.ui.merge import scores
from uws_core.ui.merge.controls import MergeQuery, views
from uws_core.ui.merge.data import Preview
from uws_core.ui.page import Number
from uws_core.ui.selection import Selection

DEFINITIONS: Mapping[str, str] = {
    "Update": "tau = W - base; for adapters the update they store.",
    "Scale": "merge = base + lambda (merge at 1 - base), for every method alike.",
    "Distance to the members": "Root mean square over members of |merge - W_i| / |tau_i|. The base has 1.",
    "Off the mean": "The sine of the angle between merge and mean, about the base: what no scale of the mean gives.",
    "Survives": "<merge - base, tau_i> / |tau_i|^2: 1 where the whole update is in the merge.",
    "Score kept": "Score at each member's task with its own head, over the member's own score, clipped to 0 to 1, mean "
    "over members. Half of the test pictures choose the scale, the other half judge it.",
    "Collides": "A layer where two updates are opposed beyond chance (1 in 20 networks of independent updates, over "
    "all layers and pairs), or where signs are opposed beyond what the cosine predicts.",
    "Opposed signs": "Two Gaussian updates of cosine c have opposite signs in arccos(c) / pi of their entries. A "
    "pair is compared with itself after one update is mirrored at the other, which keeps lengths and cosine; errors "
    "by a jackknife over blocks of rows and columns.",
    "Mean, task arithmetic": "Mean of the updates (Wortsman et al. 2022); their sum (Ilharco et al. 2022).",
    "SLERP, Multi-SLERP, Karcher": "Means on the sphere, at the mean length. mergekit's SLERP and Karcher work on "
    "whole weights: choose its convention.",
    "Model stock": "t mean + (1 - t) base, t = n c / (1 + (n - 1) c), c the mean cosine. (Jang et al. 2024)",
    "TIES": "Entries of largest size, elected sign, mean over those that agree. (Yadav et al. 2023)",
    "DARE, DELLA": "Entries dropped at random, the rest scaled up. (Yu et al. 2023; Deep et al. 2024)",
    "TSV, Iso-C, KnOTS, Core Space": "Rules on singular directions. (Gargiulo et al. 2024; Marczak et al. 2025; Stoica "
    "et al. 2024; arXiv 2509.17786)",
}


def numbers(query: MergeQuery, standing: Standing, preview: Preview) -> list[Number]:
    """The numbers beside the answer, each with its formula."""
    kept = standing.kept[0, 0]
    known = kept[np.isfinite(kept)]
    least, rest = (share_text(known.min()), f"most: {share_text(known.max())}") if known.size else ("-", "")
    return [
        Number("Members", str(len(preview.labels)), "The models that become one.", f"{len(query.layers)} layers"),
        Number("To the mean", _percent(standing.distance_to_mean[0, 0]), frames.HELP["distance_to_mean"]),
        Number("Off the mean", _percent(standing.off_mean[0]), frames.HELP["off_mean"], _nearest(standing)),
        Number("Length", _percent(standing.norm_to_members[0, 0]), frames.HELP["norm_to_members"], "of a member's"),
        Number("Survives, least", least, frames.HELP["least_kept"], rest),
    ]


def sweep_figure(query: MergeQuery, preview: Preview, points: tuple[MergeScore, ...], source: Provenance) -> None:
    """Every method against the scale: distance, or the score where networks were tried."""
    kinds = {
        **({"score": "score"} if points else {}),
        "distance_to_members": "distance to members",
        "distance_to_mean": "distance to the mean",
    }
    if st.session_state.get("against", next(iter(kinds))) not in kinds:
        del st.session_state["against"]
    column = str(
        st.segmented_control(
            "Against the scale",
            list(kinds),
            default=next(iter(kinds)),
            required=True,
            key="against",
            bind="query-params",
            format_func=kinds.__getitem__,
        )
    )
    frame = scores.sweep(points, dict(NAMES)) if column == "score" else frames.sweep(preview.swept, names=NAMES)
    chosen = NAMES[query.method]
    figures.figure(
        f"{kinds[column].capitalize()} against the scale",
        partial(_sweep, frame, column, chosen, query.scale),
        frame,
        replace(source, name=f"{source.name} {kinds[column]}"),
        alt=f"Lines of every method against the scale, {chosen} in colour, the mean dashed, the base a level line. "
        f"{source.caption}",
        key=f"against.{column}",
    )


def kept_figure(preview: Preview, source: Provenance) -> None:
    """Members by methods: what survives of each member's update."""
    frame = frames.kept(preview.at, preview.labels, names=NAMES)
    figures.figure(
        f"What survives of each member at scale {preview.at[0].scales[0]:g}",
        partial(_kept, frame),
        frame,
        replace(source, name=f"{source.name} survives"),
        alt=f"Heatmap, members by methods, of the share of an update that survives. {source.caption}",
        key="kept",
    )


def warnings(compatibility: Compatibility, collection: Collection) -> None:
    """What speaks against this merge, each with a button that leads out of it."""
    st.markdown("**Before merging**")
    if not compatibility.warnings:
        st.caption("Nothing speaks against it: no copies, one base, lengths within ten times, no opposed layers.")
    for one in compatibility.warnings:
        st.markdown(f":material/info: {page.plain(one.text)}")
        if one.way_out and not one.members:
            st.caption(f"{one.way_out}.")
        elif one.way_out:
            st.button(
                one.way_out,
                on_click=_take,
                args=(tokens.tokens_for(collection, list(one.members)),),
                key=f"way.{one.kind}",
            )


def cosines_figure(compatibility: Compatibility, source: Provenance) -> None:
    """Members by members: the cosines of their updates."""
    figures.figure(
        f"Cosines of the updates, chance up to {compatibility.chance:.2g}",
        partial(_cosines, compatibility),
        frames.pairs(compatibility),
        replace(source, name=f"{source.name} cosines"),
        alt=f"Heatmap of cosines of every two members' updates. {source.caption}",
        key="pairs",
    )


def layers_figure(compatibility: Compatibility, source: Provenance) -> None:
    """Layers that collide."""
    frame = frames.layers(compatibility)
    count = int(frame["collides"].sum())
    figures.figure(
        f"Layers that collide: {count} of {frame.height}",
        partial(_layers, frame),
        frame,
        replace(source, name=f"{source.name} layers"),
        alt=f"Mean and smallest cosine of two updates in every layer with the range of chance. {source.caption}",
        key="layers",
    )


def tables(
    preview: Preview,
    compatibility: Compatibility | None,
    best: tuple[BestScale, ...],
    points: tuple[MergeScore, ...],
) -> None:
    """The numbers behind the figures, folded."""
    percent = (
        *("distance_to_mean", "off_mean", "norm_to_mean", "norm_to_members", "farthest", "least_kept"),
        *("score_kept", "worst_kept"),
    )
    page.table(
        frames.methods(preview.at, preview.labels, names=NAMES, best=best),
        frames.HELP,
        label="Methods",
        percent=percent,
    )
    if compatibility is not None:
        page.table(frames.layers(compatibility), frames.HELP, label="Layers", percent=("survives", "opposed", "excess"))
        page.table(frames.pairs(compatibility), frames.HELP, label="Pairs")
    if points:
        page.table(frames.scores(points, names=NAMES), frames.HELP, label="Scores")


def source(
    caption: str, selection: Selection, collection: Collection, query: MergeQuery, preview: Preview
) -> Provenance:
    """Where the figures of this page come from."""
    origin = figures.origin(
        f"merge {collection.name}",
        caption,
        page="merge",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=preview.left_out,
    )
    models = tuple(str(collection.refs[row]) for row in query.members)
    return replace(figures.viewed(origin, views()), columns=frames.HELP, models=models)


def _take(members: tuple[str, ...]) -> None:
    """Choose these models in the sidebar, and merge all that are chosen."""
    state.set_selection(members=members)
    st.session_state["take"] = "all"


def _nearest(standing: Standing) -> str:
    scale = float(standing.mean_scale[0, 0])
    return f"mean at {scale:.2f} is nearest" if np.isfinite(scale) else ""


def _percent(value: float) -> str:
    return share_text(value) if np.isfinite(value) else "-"


def _sweep(frame: pl.DataFrame, column: str, chosen: str, scale: float, theme: Theme) -> go.Figure:
    return merge.sweep(frame, column=column, chosen=chosen, mean=NAMES[MergeMethod.MEAN], scale=scale, theme=theme)


def _kept(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    return merge.kept(frame, theme=theme)


def _cosines(compatibility: Compatibility, theme: Theme) -> go.Figure:
    return merge.cosines(compatibility.cosines, compatibility.labels, theme=theme)


def _layers(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    return merge.layers(frame, theme=theme)
