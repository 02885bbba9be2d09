"""The parts of the lineage page: its numbers, who is like whom, the groups, and the map of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.answers.lineage import ORDER
from uws_core.charts import lineage
from uws_core.charts.angle_tables import MOST_TARGETS, clicked
from uws_core.charts.norms import norm_strips
from uws_core.charts.style import Theme
from uws_core.export import Provenance
from uws_core.frames.lineage import HELP, cosines, models, stability
from uws_core.nouns.lineage import KINDS
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui import figures
from uws_core.ui.angles.controls import look_at, looked_at
from uws_core.ui.lineage import controls, relatives
from uws_core.ui.lineage.data import LineageResult
from uws_core.ui.page import Number
from uws_core.ui.pair import way
from uws_core.ui.selection import Selection

LIKENESS = "likeness"
DEFINITIONS: Mapping[str, str] = {
    "Cosine": "Inner product / product of norms, about zero (raw), the base, or the mean of the chosen models. "
    "About zero, models of one base are alike whatever they learned; about the base, what they learned is compared.",
    "Group": "Two models are relatives when their cosine is above the threshold; chains of relatives are a group "
    "(single linkage, connected components). (Gower and Ross 1969)",
    "Automatic threshold": "The middle of the widest range of thresholds between chance and 1 that give the same "
    "groups.",
    "Chance": "The largest cosine among as many pairs of independent directions that 1 in 20 collections exceeds; one "
    "such cosine is normal with deviation 1 / sqrt(d), d the effective number of weights.",
    "Equal lineages": "n^2 / sum of squared group sizes: so many equal groups would be as concentrated.",
    "Effective models": "n^2 / sum of squared cosines over all pairs: n for independent models, 1 for copies.",
    "Agreement": "Adjusted Rand index: 1 for the same groups, 0 on average by chance. (Hubert and Arabie 1985)",
    "Map": "Coordinates along the leading components about the mean of the models. (Gower 1966)",
    "Share explained": "Share of a component's variance that lies between the values of a column (ANOVA ratio); for "
    "a quantity the squared correlation. By chance (g - 1) / (n - 1) for g values. (Fisher 1925)",
    "Neuron order": ORDER,
    "Near copies": "Pairs nearer than 5 % of the usual distance to the nearest model, or equal in the first five "
    "digits; distance is |W_i - W_j| / mean norm.",
    **{f"To look at: {kind}": f"{meaning}." for kind, meaning in KINDS.items()},
}


def numbers(result: LineageResult) -> list[Number]:
    """The numbers beside the answer, each with its formula."""
    family = result.family
    return [
        Number("Groups", str(family.sizes.size), DEFINITIONS["Group"], f"of {family.s} models"),
        Number("Threshold", f"{family.threshold:.2f}", HELP["threshold"], f"chance: {family.chance:.2f}"),
        Number("Equal lineages", f"{family.effective_groups:.1f}", DEFINITIONS["Equal lineages"]),
        Number("Effective models", f"{family.effective_models:.1f}", DEFINITIONS["Effective models"]),
        Number("Near copies", str(len(family.duplicates)), DEFINITIONS["Near copies"], "pairs"),
    ]


def likeness(result: LineageResult, selection: Selection, source: Provenance) -> None:
    """The cosine of every pair under its tree; a strip shows the sidebar's group, or else the groups found."""
    shown = selection.group or relatives.FOUND
    strip = (
        relatives.columns(result)[shown]
        if shown in relatives.columns(result) and (selection.group or result.divided)
        else None
    )
    named = f", strip: {shown}" if strip is not None else ""
    labels, leaves = result.family.labels, result.family.order.leaves
    chosen = looked_at(labels)
    figures.figure(
        f"Cosine of every pair{named}",
        partial(
            _cosine_heatmap,
            result,
            None if strip is None else ["unknown" if v is None else str(v) for v in strip],
            controls.fit(),
            chosen,
        ),
        cosines(result.family),
        relatives.named(source, "cosines"),
        alt=f"Heatmap of cosines with a tree, like beside like. {source.caption}",
        key=LIKENESS,
        on_select=partial(_look_at, labels, tuple(leaves.tolist())),
    )
    if chosen is not None:
        way.offer(labels[chosen[0]], labels[chosen[1]], key="pair.lineage")
    elif len(labels) <= MOST_TARGETS:
        st.caption("Click a cell to compare its two models layer by layer.")


def stability_figure(result: LineageResult, source: Provenance) -> None:
    """How the groups change with the threshold."""
    frame = stability(result.family)
    draw = partial(_stability, frame, result.family.threshold, result.family.chance)
    alt = f"Number of groups against the threshold. {source.caption}"
    figures.figure(
        "Groups at every threshold", draw, frame, relatives.named(source, "stability"), alt=alt, key="stability"
    )


def norms(result: LineageResult, query: Query, source: Provenance) -> None:
    """How far each model is from the centre."""
    frame = models(result.family, result.stats)
    words = {"zero": "norm", "base": "distance from the base", "mean": "distance from the mean"}
    low, high = np.quantile(result.family.norms, [0.1, 0.9])
    figures.figure(
        "Norm of each model" + (f", p90/p10 = {high / low:.2f}" if low > 0 else ""),
        partial(_norms, frame, words[query.about]),
        frame,
        relatives.named(source, "strengths"),
        alt="Norms of the models, ascending",
        key="strengths",
    )


def source(
    name: str, caption: str, selection: Selection, collection: Collection, query: Query, result: LineageResult
) -> Provenance:
    """Where the figures of this page come from."""
    source = figures.origin(
        name,
        caption,
        page="lineage",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=result.left_out,
    )
    return replace(figures.viewed(source, dict(controls.views())), columns=HELP)


def place(query: Query, collection: Collection) -> str:
    """What is compared, in words: one layer, or several as one."""
    keys = [collection.by_name[name] for name in query.layers]
    where = f"`{keys[0].short.removesuffix(':A')}`" if len(keys) == 1 else f"{len(keys)} layers taken as one"
    return f"the A factors of {where}" if keys[0].factor == "A" else where


def _look_at(labels: Sequence[str], leaves: Sequence[int]) -> None:
    """The clicked cell's pair is looked at; a selection that went away with its figure changes nothing."""
    picked = st.session_state.get(f"figure.{LIKENESS}") or {}
    points = picked.get("selection", {}).get("points", [])
    rows = clicked(points[0], np.array(leaves)) if points else None
    if rows is not None:
        look_at(*(labels[row] for row in rows))


def _cosine_heatmap(
    result: LineageResult, strip: list[str] | None, fit: bool, chosen: tuple[int, int] | None, theme: Theme
) -> go.Figure:
    return lineage.cosine_heatmap(result.family, groups=strip, fit=fit, chosen=chosen, theme=theme)


def _stability(frame: pl.DataFrame, threshold: float, chance: float, theme: Theme) -> go.Figure:
    return lineage.stability(frame, threshold=threshold, chance=chance, theme=theme)


def _norms(frame: pl.DataFrame, axis_name: str, theme: Theme) -> go.Figure:
    return norm_strips(frame, axis_name=axis_name, theme=theme)
