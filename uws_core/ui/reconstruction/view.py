"""The parts of the reconstruction page: errors against k, model by model, and against size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.analysis.accounting import storage
from uws_core.answers.reconstruction import sizes_text
from uws_core.charts import reconstruction
from uws_core.charts.style import Theme, percent
from uws_core.errors import LayerError
from uws_core.export import Provenance
from uws_core.frames import reconstruction as frames
from uws_core.frames.reconstruction import HELP
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.models import Collection
from uws_core.nouns.query import RebuildQuery
from uws_core.nouns.storage import Storage
from uws_core.ui import figures, job_panel, page, tasks
from uws_core.ui.page import Number
from uws_core.ui.reconstruction import controls, data
from uws_core.ui.reconstruction.data import Rebuilt

DEFINITIONS: Mapping[str, str] = {
    "Error": "|W - rebuilt|^2 / |W - c|^2 with the reference c: 100 % is the reference itself, above it is worse. "
    "Several layers: the squares are added before the ratio is taken.",
    "Unseen models": "The subspace comes from the models of the other groups only: with K = V diag(lambda) V^T their "
    "Gram about their mean and x the inner products of the held-out model with them, direction j captures "
    "(V_j^T x)^2 / lambda_j.",
    "In sample": "The same with a subspace that saw the model. It reaches 0 at n - 1 directions, whatever they are.",
    "Mean only": "The mean of the others in the model's place: no direction at all.",
    "Random directions": "A random subspace of k directions captures k / D of what the mean leaves, on average.",
    "Same profile, nothing shared": "The same errors when every model's part in every block of rows (or of columns, "
    "whichever finds more) gets a random sign: norms and scales stay, agreement between blocks does not. The answer "
    "says that a subspace generalises only where it finds more than 97.5 % of the draws. (Hong, Sheng and Dobriban "
    "2020)",
    "Own SVD": "The model's own truncated SVD about the reference (the mean is that of the models outside its group), "
    "at as many stored numbers as its coefficients and its share of the basis take. (Eckart and Young 1936)",
    "Stored numbers": "models: k d + n k; in: k p + n k m; out: k m + n k p; the mean d once. Layers m x p, d = m p.",
    "Ceiling": "n - 1 directions are all there are on the models axis; on the side axes all m or p of them.",
}
PERCENT = ("subspace", "in_sample", "own_svd", "random", "mean_only", "nothing", "low", "middle", "high")
WORST = 5


def place(query: RebuildQuery, collection: Collection) -> str:
    """What is rebuilt, in words."""
    if len(query.layers) == 1:
        return f"`{collection.by_name[query.layers[0]].short}`"
    return f"{len(query.layers)} layers"


def stored(query: RebuildQuery, collection: Collection, k: int) -> Storage:
    """What k directions take to store."""
    mean, sizes = query.about == "mean", data.stored_in_files(query.collection, query.fingerprint, query.members)
    n = len(query.members)
    return storage(collection, query.layers, kept=k, axis=query.axis, mean=mean, members=n, stored=sizes)


def numbers(rebuilt: Rebuilt, kept: Storage, k: int) -> list[Number]:
    """The numbers beside the answer, each with its formula and what it must be read against."""
    row = frames.at_rank(rebuilt.together, k)
    middle = {name: row[name].median() for name in frames.LINES}

    def shown(name: str) -> str:
        value = middle[name]
        return "unknown" if not isinstance(value, float) else percent(value)

    rival = f"random: {shown('random')}"
    if rebuilt.chance is not None:
        captured = np.median(rebuilt.chance.captured[:, int(np.flatnonzero(rebuilt.chance.kept <= k)[-1])])
        mean_only = middle["mean_only"]
        rival = f"same profile: {percent(mean_only * (1 - captured))}" if isinstance(mean_only, float) else rival
    return [
        Number("Error, unseen", shown("subspace"), HELP["subspace"], rival),
        Number("Error, mean", shown("mean_only"), HELP["mean_only"], "no direction"),
        Number("Error, in sample", shown("in_sample"), HELP["in_sample"], "saw the model"),
        Number("Error, own SVD", shown("own_svd"), HELP["own_svd"], "as many numbers"),
        Number(
            "Times smaller",
            f"{kept.ratio:.3g}",
            HELP["ratio"],
            sizes_text(kept),
        ),
    ]


def figure_source(source: Provenance, what: str, caption: str = "") -> Provenance:
    """Where one of the page's figures comes from: the page's source under a name and a caption of the figure's own."""
    return replace(source, name=f"{what} {source.name}", caption=caption or source.caption)


def errors_figure(rebuilt: Rebuilt, query: RebuildQuery, source: Provenance, *, k: int) -> None:
    """The error against k with its companions."""
    curve, models = frames.curve(rebuilt.together, rebuilt.chance), frames.errors(rebuilt.together)
    figures.figure(
        "Error against directions kept",
        partial(_errors, curve, models, k, rebuilt.ceiling, controls.log_scale(), _axis_name(query)),
        models,
        figure_source(source, "errors"),
        alt=f"Squared error of rebuilt models by number of directions. {source.caption}",
        key="errors",
    )


def models_figure(rebuilt: Rebuilt, collection: Collection, source: Provenance, *, k: int) -> None:
    """Every model by k, or by layer where there are several; the worst first."""
    if len(rebuilt.layers) == 1:
        frame, by, title = frames.errors(rebuilt.together), "k", "Model by model"
    else:
        named = {collection.by_name[name].short: items for name, items in rebuilt.layers.items()}
        frame, by, title = frames.by_layer(named, k), "layer", f"Model by model and layer by layer, at k = {k}"
    worst = frames.at_rank(rebuilt.together, k).head(WORST)
    what = f"Squared error of every model by {'directions kept' if by == 'k' else f'layer at k = {k}'}"
    figures.figure(
        title,
        partial(_models, frame, by, k),
        frame,
        figure_source(source, "models", f"{what}. {source.caption}"),
        alt=f"Heatmap of the error of every model by {by}",
        key="models",
    )
    told = [f"{name} ({percent(error)})" for name, error in worst.select("model", "subspace").iter_rows() if error]
    if told:
        st.caption(f"Worst at k = {k}: {', '.join(told)}.")


def sizes_frame(query: RebuildQuery, collection: Collection) -> tuple[pl.DataFrame, list[str], bool]:
    """Error and size on every axis whose errors are known, these axes, and whether whole checkpoints are counted."""
    whole, other = controls.whole(), 0
    if whole:
        try:
            other = data.other_numbers(query)
        except LayerError as error:
            st.caption(f"{error}.")
            whole = False
    # The query's axis, and the others as far as they are known; a button for those that are not.
    ready: list[str] = [query.axis]
    for axis in Axis:
        if axis.value == query.axis:
            continue
        task = data.task(data.on_axis(query, axis.value), collection)
        if task is None or job_panel.task_panel(task, tasks.status(task, begin=False)):
            ready.append(axis.value)
    axes: list[str] = [axis.value for axis in Axis if axis.value in ready]
    return frames.sizes(data.sizes(query, axes, other=other)), axes, whole


def sizes_figure(sizes: tuple[pl.DataFrame, list[str], bool], source: Provenance, *, k: int) -> None:
    """The error against size, on every axis whose errors are known; what is not is offered."""
    frame, axes, whole = sizes
    what = f"Squared error of unseen models against how many times smaller {'checkpoints' if whole else 'the layers'}"
    figures.figure(
        "Error against size",
        partial(_sizes, frame, whole, k),
        frame,
        figure_source(source, "sizes", f"{what} become, on {', '.join(axes)}. {source.caption}"),
        alt="Error of unseen models against how many times smaller they become, by axis",
        key="sizes",
    )
    st.caption("Further right is smaller, further down is nearer to the model; numbers at the marks are k.")


def tables(rebuilt: Rebuilt, k: int) -> None:
    """The models at k, the worst first, and the curves."""
    page.table(
        frames.at_rank(rebuilt.together, k),
        HELP,
        label=f"Models at k = {k}, the worst first",
        percent=PERCENT,
        key="worst",
    )
    page.table(frames.curve(rebuilt.together, rebuilt.chance), HELP, label="Curves", percent=PERCENT)


def unseen_model_curve(one: HeldOut, query: RebuildQuery, source: Provenance, *, k: int) -> None:
    """One model from outside on the same lines."""
    curve, models = frames.curve([one]), frames.errors([one])
    figures.figure(
        f"{one.model}: error against directions kept",
        partial(_errors, curve, models, k, one.ceiling, controls.log_scale(), _axis_name(query)),
        models,
        source,
        alt=f"Squared error of a model that is not in the collection. {source.caption}",
        key="newcomer",
    )


def _axis_name(query: RebuildQuery) -> str:
    words = {Axis.MODELS: "models axis", Axis.IN: "input directions", Axis.OUT: "output directions"}
    centre = "the others' mean" if query.about == "mean" else query.about
    return f"directions kept ({words[Axis(query.axis)]}, about {centre})"


def _errors(
    curve: pl.DataFrame, models: pl.DataFrame, k: int, ceiling: int, log: bool, axis_name: str, theme: Theme
) -> go.Figure:
    return reconstruction.errors(curve, models, k=k, ceiling=ceiling, log=log, axis_name=axis_name, theme=theme)


def _models(frame: pl.DataFrame, by: str, k: int, theme: Theme) -> go.Figure:
    return reconstruction.models(frame, by=by, k=k, theme=theme)


def _sizes(frame: pl.DataFrame, whole: bool, k: int, theme: Theme) -> go.Figure:
    return reconstruction.sizes(frame, whole=whole, k=k, theme=theme)
