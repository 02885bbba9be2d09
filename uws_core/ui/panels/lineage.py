"""The parts of the lineage page: its numbers, who is like whom, the groups, and the map of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

import numpy as np
import plotly.graph_objects as go
import polars as pl

from uws_core.answers import lineage as answers
from uws_core.charts import lineage as charts
from uws_core.charts import norms as norm_charts
from uws_core.charts.style import Theme
from uws_core.export import Provenance
from uws_core.frames import lineage as frames
from uws_core.nouns.lineage import KINDS
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui import figures
from uws_core.ui.page import Number
from uws_core.ui.panels import kin
from uws_core.ui.pick import lineage as pick
from uws_core.ui.selection import Selection
from uws_core.ui.serve.lineage import Seen

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
    "Neuron order": answers.ORDER,
    "Near copies": "Pairs nearer than 5 % of the usual distance to the nearest model, or equal in the first five "
    "digits; distance is |W_i - W_j| / mean norm.",
    **{f"To look at: {kind}": f"{meaning}." for kind, meaning in KINDS.items()},
}


def numbers(seen: Seen) -> list[Number]:
    """The numbers beside the answer, each with its formula."""
    family = seen.family
    return [
        Number("Groups", str(family.sizes.size), DEFINITIONS["Group"], f"of {family.s} models"),
        Number("Threshold", f"{family.threshold:.2f}", frames.HELP["threshold"], f"chance: {family.chance:.2f}"),
        Number("Equal lineages", f"{family.effective_groups:.1f}", DEFINITIONS["Equal lineages"]),
        Number("Effective models", f"{family.effective_models:.1f}", DEFINITIONS["Effective models"]),
        Number("Near copies", str(len(family.duplicates)), DEFINITIONS["Near copies"], "pairs"),
    ]


def likeness(seen: Seen, selection: Selection, source: Provenance) -> None:
    """The cosine of every pair under its tree; a strip shows the sidebar's group, or else the groups found."""
    shown = selection.group or kin.FOUND
    strip = kin.columns(seen)[shown] if shown in kin.columns(seen) and (selection.group or seen.divided) else None
    named = f", strip: {shown}" if strip is not None else ""
    figures.figure(
        f"Cosine of every pair{named}",
        partial(
            _likeness, seen, None if strip is None else ["unknown" if v is None else str(v) for v in strip], pick.fit()
        ),
        frames.cosines(seen.family),
        kin.named(source, "cosines"),
        alt=f"Heatmap of cosines with a tree, like beside like. {source.caption}",
        key="likeness",
    )


def stability(seen: Seen, source: Provenance) -> None:
    """How the groups change with the threshold."""
    frame = frames.stability(seen.family)
    draw = partial(_stability, frame, seen.family.threshold, seen.family.chance)
    alt = f"Number of groups against the threshold. {source.caption}"
    figures.figure("Groups at every threshold", draw, frame, kin.named(source, "stability"), alt=alt, key="stability")


def strengths(seen: Seen, query: Query, source: Provenance) -> None:
    """How far each model is from the centre."""
    frame = frames.models(seen.family, seen.stats)
    words = {"zero": "norm", "base": "distance from the base", "mean": "distance from the mean"}
    low, high = np.quantile(seen.family.norms, [0.1, 0.9])
    figures.figure(
        "Strength of each model" + (f", p90/p10 = {high / low:.2f}" if low > 0 else ""),
        partial(_strengths, frame, words[query.about]),
        frame,
        kin.named(source, "strengths"),
        alt="Norms of the models, ascending",
        key="strengths",
    )


def source(
    name: str, caption: str, selection: Selection, collection: Collection, query: Query, seen: Seen
) -> Provenance:
    """Where the figures of this page come from."""
    views = pick.views()
    found = figures.origin(
        name,
        caption,
        page="lineage",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=seen.left_out,
    )
    joint = "&" if "?" in found.address else "?"
    address = f"{found.address}{joint}{urlencode(views)}" if views else found.address
    return replace(found, settings={**found.settings, **views}, address=address, columns=frames.HELP)


def place(query: Query, collection: Collection) -> str:
    """What is compared, in words: one layer, or several as one."""
    keys = [collection.by_name[name] for name in query.layers]
    where = f"`{keys[0].short.removesuffix(':A')}`" if len(keys) == 1 else f"{len(keys)} layers taken as one"
    return f"the A factors of {where}" if keys[0].factor == "A" else where


def _likeness(seen: Seen, strip: list[str] | None, fit: bool, theme: Theme) -> go.Figure:
    return charts.cosine_heatmap(seen.family, groups=strip, fit=fit, theme=theme)


def _stability(frame: pl.DataFrame, threshold: float, chance: float, theme: Theme) -> go.Figure:
    return charts.stability(frame, threshold=threshold, chance=chance, theme=theme)


def _strengths(frame: pl.DataFrame, axis_name: str, theme: Theme) -> go.Figure:
    return norm_charts.norms(frame, axis_name=axis_name, theme=theme)
