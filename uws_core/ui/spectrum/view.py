"""The parts of the spectrum page: its numbers, its two curves, and the overview of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import isfinite, isnan

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.answers.shared_directions import p_text
from uws_core.charts import overview as overview_charts
from uws_core.charts.spectrum import cumulative, scree, several
from uws_core.charts.style import Theme, percent
from uws_core.export import Provenance
from uws_core.frames.spectrum import HELP
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui import figures, job_panel, state
from uws_core.ui.page import Number
from uws_core.ui.selection import Selection
from uws_core.ui.spectrum import controls, data
from uws_core.ui.spectrum.data import SpectrumResult

DEFINITIONS: Mapping[str, str] = {
    "Points and centre": "Every model's layer is one point with d = m p coordinates; the centre is subtracted before "
    "anything is squared. This is the models axis: k directions mean k numbers a model and layer.",
    "Axes in and out": "All rows (in) or all columns (out) of all centred models are the points: the modes of the "
    "HOSVD, a principal component analysis over the p inputs or the m outputs. k directions mean k m or k p numbers a "
    "model and layer. (De Lathauwer, De Moor and Vandewalle 2000; arXiv 2512.05117, Algorithm 1)",
    "Noise on the side axes": "Every centred model keeps its own singular values and gets random directions on both "
    "sides, 20 draws, so that p is never below 1 / 21.",
    "Variance": "The eigenvalues of the n x n inner products of the centred models; not divided by n. "
    "At most n - 1 are not zero about the mean: the ceiling. (Jolliffe 2002, section 3.5)",
    "Rank at a share": "The fewest directions whose variances sum to that share of the total; "
    '"more than k" where no more than k were kept.',
    "Effective rank": "exp(-sum p log p) over the shares p. (Roy and Vetterli 2007)",
    "Noise of the same profile": "Every model's part in every block of rows, or of columns, gets a random sign. That "
    "keeps norms, scales of rows and columns, heavy tails, sparsity and rounding steps, and destroys agreement between "
    "blocks. Not covered: entries correlated on both sides at once, and weights of one sign. (Hong, Sheng and Dobriban "
    "2020)",
    "Noise of the same strengths": "Every model keeps its distance from the centre and gets a random direction: "
    "D R D with R Wishart of d degrees of freedom, drawn by Bartlett's decomposition. It assumes entries of equal "
    "variance. (Bartlett 1933; Horn 1965)",
    "Noise of equal strengths": "The same with equal distances; its bulk ends at (1 + sqrt((n-1)/d))^2 times the mean "
    "variance. (Marchenko and Pastur 1967)",
    "Shared directions": "Each model in units of its own noise, about the mean weighted by precision; the largest "
    "eigenvalue is tested against noise, taken away, and the next one is tested against noise without it, until one is "
    "no larger than 5 % of the draws. Rows and columns are flipped in turn and the smaller count stands. The filled "
    "points are the components along which these directions lie: behind a strong model not the first. The same number "
    "as on the evidence page and in the report.",
    "z and p": "z = (seen - mean of the draws) / their standard deviation; p = (1 + draws at least as large) / "
    "(1 + draws), one-sided and never below 1 / (1 + draws): a direction above each of the first 40 draws has p = "
    "0.024. What no draw reached is ranked by a fitted Tracy-Widom tail, which is no test. The band holds 95 % of the "
    "draws.",
    "Above noise": "On the side axes: leading directions above the band, counted until the first that is not. "
    "(Horn 1965)",
    "Floor": "Shares at or below it are rounding of the pass, about 1e-7 of the largest in single precision; greyed. "
    "Where the first direction is less than 10 floors strong, nothing is counted; double precision has a floor of "
    "1e-15 (Options).",
}
MEASURES: Mapping[str, overview_charts.Measure] = {
    "rank": overview_charts.RANK,
    "effective rank": overview_charts.EFFECTIVE_RANK,
    "z": overview_charts.Z,
}
OVERVIEW_KEY = "overview"


def numbers(result: SpectrumResult, query: Query) -> list[Number]:
    """The numbers beside the answer, each with its formula and what noise gives."""
    share = query.share
    beyond = None if result.band is None else result.band.concentration(share)
    noise = "" if result.band is None else f"noise: {result.band.rank(share).middle:.0f}"
    single = result.items[0].spectrum if len(result.items) == 1 else None
    numbers = (
        [Number(f"Rank at {100 * share:g} %", str(result.rank(share)), HELP["rank"], noise)] if not result.lines else []
    )
    if single is not None:
        effective = f"{single.effective_rank:.1f}" if not single.below_precision else "-"
        numbers.append(Number("Effective rank", effective, HELP["effective_rank"]))
    if not result.lines:
        first = float(result.frame["share"][0]) if result.frame.height else 0.0
        shown = "-" if single is not None and single.below_precision else percent(first)
        numbers.append(Number("First direction", shown, HELP["first_share"]))
    if result.band is not None and beyond is not None:
        shared = result.band.shared
        if shared is not None and shared.known:
            numbers.append(Number("Shared directions", str(shared.count), HELP["above"], p_text(shared)))
        else:
            most = f"of {result.ceiling} directions"
            numbers.append(Number("Above noise", str(result.band.above), HELP["above"], most))
        z = f"{beyond.z:.1f}" if isfinite(beyond.z) else "-" if isnan(beyond.z) else "beyond any draw"
        p = "rounding" if isnan(beyond.p) else f"p = {beyond.p:.2g}"
        leading = f"the first {result.rank(share).k}"
        formula = f"Share that {leading} directions carry, against noise: {HELP['z']}"
        numbers.append(Number(f"z of {leading}", z, formula, p))
    else:
        numbers.append(Number("Ceiling", str(result.ceiling), HELP["ceiling"], f"{len(query.members)} models"))
    return numbers


def curves(result: SpectrumResult, query: Query, source: Provenance) -> None:
    """Scree and running sum side by side, under each other on a narrow screen."""
    left, right = st.columns(2, gap="medium")
    caption = f"{query.axis} axis, about {_centre(query)}{', unit norm' if query.unit else ''}"
    with left:
        figures.figure(
            "Share of each direction",
            partial(_scree, result, controls.log_scale(), f"direction ({caption})"),
            result.frame,
            source,
            alt=f"Scree plot: share of the variance by direction. {source.caption}",
            key="scree",
        )
    with right:
        figures.figure(
            "Share carried together",
            partial(_cumulative, result, query.share, f"directions kept ({caption})"),
            result.frame,
            source,
            alt=f"Cumulative share of the variance by number of directions. {source.caption}",
            key="cumulative",
        )
    if query.axis == Axis.MODELS and _below_the_band(result.frame):
        st.caption(
            "Filled marks are the shared directions. Each is found by itself, in units of the models' own noise, so a "
            "weak one may lie below the band, which is for the whole spectrum."
        )


def _below_the_band(frame: pl.DataFrame) -> bool:
    """Whether a direction that counts as shared carries less than the noise of its place."""
    if not {"above_band", "high"} <= set(frame.columns):
        return False
    return bool(frame.filter(pl.col("above_band") & (pl.col("share") <= pl.col("high"))).height)


def overview_measure() -> str:
    """The measure that colours the overview, from its switch."""
    measure = st.segmented_control(
        "Colour", list(MEASURES), default="rank", required=True, key="colour", bind="query-params"
    )
    return measure or "rank"


def overview(frame: pl.DataFrame, source: Provenance, *, measure: str, chosen: str, share: float) -> None:
    """The network as depth by module; clicking a cell chooses its layer."""
    shown = MEASURES[measure]
    shown = replace(shown, title=f"rank at {100 * share:g} %") if measure == "rank" else shown
    figures.figure(
        f"All layers, models axis: {shown.title}",
        partial(_overview, frame, shown, chosen),
        frame,
        source,
        alt=f"Heatmap of {measure} by block and module",
        key=OVERVIEW_KEY,
        on_select=_choose_cell,
    )
    st.caption("Click a cell to choose its layer; the table below holds every number.")


def source(
    caption: str, selection: Selection, collection: Collection, query: Query, result: SpectrumResult
) -> Provenance:
    """Where the figures of this page come from."""
    origin = figures.origin(
        f"spectrum {collection.name} {_place(query, collection)}",
        caption,
        page="spectrum",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=result.left_out,
    )
    return replace(origin, columns=HELP)


def noise_or_less(query: Query) -> tuple[Query, tuple[str, ...]]:
    """The query, or without noise and with the reason while it is drawn, or where that would take too long.

    The noise of one spectrum is a job where it takes long; its panel is shown here.
    """
    seconds = data.noise_seconds(query)
    if query.null == "none" or query.axis != Axis.MODELS:
        return query, ()
    if len(query.layers) == 1 or query.pool == "sum":
        if seconds <= data.INLINE_SECONDS or job_panel.task_panel(data.noise_task(query)):
            return query, ()
        return replace(query, null="none"), ("The curves stand without noise until it is drawn.",)
    if seconds <= data.MOST_NOISE_SECONDS:
        return query, ()
    size = f"{len(query.layers)} layers of {len(query.members)} models"
    return replace(query, null="none"), (f"Noise for {size} takes about {seconds:.0f} s; choose one layer to see it.",)


def in_double(result: SpectrumResult) -> None:
    """A button that computes what single precision cannot tell in double."""
    if result.below_precision:
        st.button("Compute in double precision", on_click=controls.choose_double, key="double")


def _scree(result: SpectrumResult, log: bool, axis_name: str, theme: Theme) -> go.Figure:
    if result.lines:
        return several(result.lines, modules=_modules(result), log=log, axis_name=axis_name, theme=theme)
    edge = result.band.edge if result.band is not None else float("nan")
    return scree(
        result.frame, floor=result.floor, ceiling=result.ceiling, edge=edge, log=log, axis_name=axis_name, theme=theme
    )


def _cumulative(result: SpectrumResult, share: float, axis_name: str, theme: Theme) -> go.Figure:
    if result.lines:
        modules = _modules(result)
        return several(result.lines, modules=modules, running=True, share=share, axis_name=axis_name, theme=theme)
    noise_rank = None if result.band is None else result.band.rank(share).middle
    return cumulative(
        result.frame,
        share=share,
        rank=result.rank(share),
        noise_rank=noise_rank,
        ceiling=result.ceiling,
        axis_name=axis_name,
        theme=theme,
    )


def _overview(frame: pl.DataFrame, measure: overview_charts.Measure, chosen: str, theme: Theme) -> go.Figure:
    return overview_charts.overview(frame, measure=measure, chosen=chosen, theme=theme)


def _choose_cell() -> None:
    """The clicked cell's layer becomes the chosen one; a selection that went away with its figure changes nothing."""
    picked = st.session_state.get(f"figure.{OVERVIEW_KEY}") or {}
    points = picked.get("selection", {}).get("points", [])
    names = [point.get("customdata") for point in points]
    name = names[0][0] if names and isinstance(names[0], list) and names[0] else names[0] if names else None
    if isinstance(name, str):
        state.set_selection(layer=name)


def _modules(result: SpectrumResult) -> dict[str, str]:
    return {item.layer.short: item.layer.module for item in result.items}


def _centre(query: Query) -> str:
    words = {"mean": "the mean", "zero": "zero", "base": "the base"}
    return words.get(query.about, query.about)


def _place(query: Query, collection: Collection) -> str:
    """What is shown, for titles and file names."""
    if len(query.layers) == 1:
        return collection.by_name[query.layers[0]].short
    n = len(query.layers)
    return {"sum": f"{n} layers as one", "mean": f"mean over {n} layers"}.get(query.pool, f"{n} layers")
