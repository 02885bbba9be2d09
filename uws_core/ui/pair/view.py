"""The parts of the pair page: its numbers, the layers as bars, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.charts.pairs import layers
from uws_core.charts.style import Theme, percent
from uws_core.export import Provenance
from uws_core.frames.pairs import HELP
from uws_core.nouns.lineage import PairLayer
from uws_core.nouns.models import Collection
from uws_core.nouns.query import PairQuery
from uws_core.ui import figures, state
from uws_core.ui.page import Number
from uws_core.ui.selection import Selection

DEFINITIONS: Mapping[str, str] = {
    "Cosine": "Inner product of the raw weights / product of their norms: 1 for equal directions.",
    "Difference": "|W_l - W_r| / mean of the two norms. Unrelated weights of one norm give about 1.4, equal ones 0.",
    "Effective rank": "exp(-sum p log p) over the shares p of the squared singular values of W_l - W_r. A low-rank "
    "update gives at most its rank; an open mark is a lower bound. (Roy and Vetterli 2007)",
    "Changed entries": "Entries that are not equal in the types that the files store. A step of training changes "
    "nearly all of them; a sparse patch few.",
    "Only what differs": "Layers whose difference is rounding of the Gram are left away. Those are equal entry by "
    "entry where the changed entries are 0 %.",
}
KEY = "pair.layers"


def numbers(items: Sequence[PairLayer]) -> list[Number]:
    """The numbers beside the answer, each with its formula."""
    cosines = [item.cosine for item in items if not np.isnan(item.cosine)]
    ranks = [item for item in items if not np.isnan(item.effective_rank)]
    counted = [item for item in items if not np.isnan(item.changed)]
    entries = sum(item.layer.entries for item in counted)
    found = [
        Number("Layers that differ", str(sum(item.differs for item in items)), HELP["differs"], f"of {len(items)}")
    ]
    if cosines:
        found.append(Number("Cosine", f"{np.median(cosines):.3g}", HELP["cosine"], f"least: {min(cosines):.3g}"))
    if ranks:
        middle = float(np.median([item.effective_rank for item in ranks]))
        full = float(np.median([item.most for item in ranks]))
        found.append(Number("Effective rank", f"{middle:.3g}", HELP["effective_rank"], f"at most {full:.0f}"))
    if entries:
        share = sum(item.changed * item.layer.entries for item in counted) / entries
        found.append(Number("Changed entries", percent(share), HELP["changed"], f"of {entries:,}"))
    return found


def source(
    caption: str, names: tuple[str, str], selection: Selection, collection: Collection, query: PairQuery
) -> Provenance:
    """Where the figure of this page comes from."""
    origin = figures.origin(
        f"pair {names[0]} {names[1]}",
        caption,
        page="pair",
        selection=selection,
        collection=collection,
        layers=query.layers,
    )
    return replace(figures.viewed(origin, {"pair": list(names)}), columns=HELP)


def figure(frame: pl.DataFrame, source: Provenance) -> None:
    """Every layer as a bar; a click chooses the layer for the other pages."""
    figures.figure(
        "Difference of every layer",
        partial(_layers, frame),
        frame,
        source,
        alt=f"Relative difference and effective rank by layer. {source.caption}",
        key=KEY,
        on_select=_choose,
    )
    st.caption("Click a bar to choose its layer for the other pages.")


def _choose() -> None:
    picked = st.session_state.get(f"figure.{KEY}") or {}
    points = picked.get("selection", {}).get("points", [])
    name = points[0].get("customdata") if points else None
    if isinstance(name, str):
        state.set_selection(layer=name)


def _layers(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    return layers(frame, theme=theme)
