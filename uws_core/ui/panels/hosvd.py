"""The panel of the three axes on the spectrum page, folded until somebody asks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import plotly.graph_objects as go
import streamlit as st

from uws_core.charts import hosvd as charts
from uws_core.charts.style import Theme
from uws_core.errors import UwsError
from uws_core.export import Provenance
from uws_core.frames.hosvd import HELP
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui.panels import errand, page
from uws_core.ui.panels import figure as figures
from uws_core.ui.serve import errands
from uws_core.ui.serve import hosvd as serve


def panel(query: Query, collection: Collection, source: Provenance) -> None:
    """All three axes of one layer: nothing while several layers are shown."""
    if len(query.layers) != 1:
        return
    asked = st.toggle(
        "All three axes (HOSVD)",
        key="hosvd",
        bind="query-params",
        help="The spectra of the layer on all three axes, about the mean: directions of models, of outputs and of "
        "inputs at the share, the error of keeping them, and the size of a basis on both sides.",
    )
    if not asked:
        return
    task = serve.errand(query, collection)
    if not errand.panel(task, errands.attend(task)):
        return
    try:
        seen = serve.seen(query)
    except UwsError as error:
        page.problem(str(error))
        return
    st.markdown(seen.sentence)
    figures.figure(
        "Share carried on each axis",
        partial(_curves, seen, query.share),
        seen.curves,
        _source(source, query, collection, seen),
        alt=f"Cumulative share of the variance on the models, out and in axes. {seen.sentence}",
        key="hosvd",
    )
    page.table(seen.modes, HELP, label="Axes")


def _source(source: Provenance, query: Query, collection: Collection, seen: serve.Seen) -> Provenance:
    """Where the figure comes from: the one layer on all axes about the mean, whatever the spectrum above is about."""
    own = {"axis": "models, out, in", "about": "mean", "share": f"{query.share:g}"}
    return replace(
        figures.viewed(source, {"hosvd": "true"}),
        name=f"hosvd {collection.name} {collection.by_name[query.layers[0]].short}",
        caption=seen.sentence,
        layers=query.layers,
        settings={key: value for key, value in source.settings.items() if key not in ("unit", "null")} | own,
        columns=HELP,
    )


def _curves(seen: serve.Seen, share: float, theme: Theme) -> go.Figure:
    return charts.curves(seen.curves, share=share, theme=theme)
