"""The parts of the evidence page: the table of claims, the chosen claim in full, and every layer at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core.answers.evidence import among, number, score, verdict_text, why
from uws_core.charts import evidence as charts
from uws_core.charts.chance_range import chance_range_url
from uws_core.charts.evidence_layers import layers
from uws_core.charts.overview import Measure, overview
from uws_core.charts.style import Theme
from uws_core.errors import NotEnoughModels
from uws_core.export import Provenance
from uws_core.frames import evidence as frames
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Evidence, Finding, Verdict
from uws_core.nouns.models import Collection
from uws_core.nouns.query import EvidenceQuery
from uws_core.ui import figures, page, state
from uws_core.ui.evidence import controls, data
from uws_core.ui.evidence.data import Network
from uws_core.ui.page import Number
from uws_core.ui.selection import Selection

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

DEFINITIONS: Mapping[str, str] = {
    "Verdict": "holds: beyond chance (p at most 0.05) by at least a tenth of what is possible. weak: beyond chance, by "
    "less. chance: no more than chance gives. cannot tell: the data cannot decide.",
    "Over layers": "A claim passes in a layer at a false discovery rate of 5 % over all layers; it holds over the "
    "layers when it passes in at least half of them and half of these are not weak. Beyond all draws, p is that of "
    "Student's tail at z with 5 degrees of freedom, as draws alone never give less than 1 / (1 + draws). (Benjamini "
    "and Hochberg 1995)",
    "Groups": "From the attribute under Group by in the sidebar, or the first in words that tells models apart; beside "
    "it, and alone without one, the groups of the lineage: about the base where there is one, else of raw weights. "
    "What is left without relatives is asked of both, as a column may have nothing to do with the weights.",
    "z and p": f"{frames.HELP['z']} p = {frames.HELP['p']}",
    **{about.title: f"{about.definition} ({about.source})" for about in CLAIMS.values()},
}
TABLE, OVERVIEW = "evidence.claims", "evidence.network"
_Z = Measure("z", "z for the claim", ".0f", diverging=True)


def numbers(verdicts: Sequence[Verdict]) -> list[Number]:
    """How many claims have which verdict."""
    counts, words = Counter(verdicts), DEFINITIONS["Verdict"]
    return [Number(f"{charts.MARKS[one]} {one.value}", str(counts[one]), words) for one in Verdict]


def claims_table(frame: pl.DataFrame, findings: Sequence[Finding] = ()) -> None:
    """One row a claim; choosing one shows it below. `frame` is of one layer's `findings`, or of many layers."""
    shown = frame.with_columns(
        pl.Series(
            "verdict",
            [
                f"{charts.MARKS[Verdict(one)]} {verdict_text(Verdict(one), claim)}"
                for one, claim in frame.select("verdict", "claim").iter_rows()
            ],
        ),
        *(
            pl.Series(name, [number(*cell) for cell in frame.select(name, "claim").iter_rows()])
            for name in ("value", "chance")
        ),
        pl.Series("z", [score(z) for z in frame["z"]]),
    )
    if "p" in frame.columns:
        tests = [("" if p is None else f"{p:.2g}") for p in frame["p"]]
        shown = shown.with_columns(pl.Series("p", tests), pl.col("effect") * 100)
    if findings:
        shown = shown.with_columns(pl.Series("strip", [chance_range_url(one, among(one)) for one in findings]))
    passed = "discoveries" in frame.columns
    if passed:
        said = [f"{d} of {t}" if t else "" for d, t in frame.select("discoveries", "tested").iter_rows()]
        shown = shown.with_columns(pl.Series("passed", said))
    st.dataframe(
        shown,
        hide_index=True,
        height="content",
        # The verdict first: on a narrow screen the claims fill the rest.
        column_order=("verdict", "title", *(("passed",) if passed else ("strip",)), "value", "chance", "z",
                      *(() if passed else ("p", "effect")), "reason"),
        column_config=_columns(),
        alt="Every claim with its number, what chance gives, and the verdict",
        key=TABLE,
        on_select=partial(_row, tuple(frame["claim"])),
        selection_mode="single-row",
    )  # fmt: skip


def claim(finding: Finding, evidence: Evidence, query: EvidenceQuery, source: Provenance) -> None:
    """One claim in full: why the verdict, the number among draws of chance, and what belongs to it alone."""
    st.markdown(f"**{charts.MARKS[finding.verdict]} {page.plain(why(finding))}**")
    definition(finding.claim)
    if finding.samples.size:
        figures.figure(
            "Among draws of chance",
            partial(_draws, finding),
            frames.draws(finding),
            source,
            alt=f"Histogram of what chance gives, with the models as a line. {why(finding)}",
            key="draws",
        )
    if finding.claim == "determined" and evidence.determined is not None:
        frame = frames.determined(evidence.determined)
        alt = "Davis-Kahan bound against the number of directions"
        figures.figure("Up to which k", partial(_determined, frame), frame, source, alt=alt, key="determined")
    if finding.claim == "saturates":
        growth(query, evidence, source)


def definition(key: str) -> None:
    """What the claim's number is, what it is compared with, and where that comes from."""
    about = CLAIMS[key]
    st.caption(
        f"{page.plain(about.statistic)}: {page.plain(about.definition)} Chance: {page.plain(about.chance)}. "
        f"Source: {page.plain(about.source)}."
    )


def growth(query: EvidenceQuery, evidence: Evidence, source: Provenance) -> None:
    """How the numbers change with the number of models."""
    if evidence.n > data.MOST_GROWING:
        st.caption(f"Growth with the number of models takes minutes for {evidence.n} models; the report has it.")
        return
    try:
        seen = data.growth(query, evidence.kept)
    except NotEnoughModels as error:
        st.caption(page.plain(str(error)))
        return
    frame = frames.curve(seen)
    name = st.segmented_control(
        "Against the number of models",
        list(charts.NAMES),
        default="effective_rank",
        required=True,
        key="evidence.growth",
        format_func=lambda key: charts.NAMES[key],
    )
    statistic = str(name or "effective_rank")
    figures.figure(
        f"{charts.NAMES[statistic].capitalize()} against the number of models",
        partial(_curve, frame, statistic),
        frame,
        source,
        alt=f"{charts.NAMES[statistic]} for random subsets of growing size. {seen.outlook}",
        key="growth",
    )
    st.caption(page.plain(f"{seen.outlook[:1].upper()}{seen.outlook[1:]}."))


def network(result: Network, key: str, source: Provenance, *, chosen: str, draws: int) -> None:
    """The chosen claim in every layer: depth by module, and the number over chance; clicking a cell chooses a layer."""
    frame = frames.by_layer(result.layers)
    part = frame.filter(pl.col("claim") == key)
    if part["z"].is_not_null().any():
        figures.figure(
            "All layers: z for the claim",
            partial(_overview, part.with_columns(pl.col("z").clip(-999, 999)), chosen),
            part,
            source,
            alt="Heatmap of z by block and module",
            key=OVERVIEW,
            on_select=_choose_cell,
        )
    if part["value"].is_not_null().any():
        title = "Layer by layer, over chance"
        draw = partial(_layers, frame, key)
        alt = f"{CLAIMS[key].statistic} in every layer, over what chance gives"
        figures.figure(title, draw, part, source, alt=alt, key="evidence.layers")
    else:
        st.caption("No layer has a number for this claim.")
    if result.draws < draws:
        st.caption(f"{len(result.layers)} layers have {result.draws} draws each instead of {draws}, to end in time.")


def glance(result: Network, source: Provenance) -> None:
    """Every claim in every layer."""
    frame = frames.by_layer(result.layers)
    alt = "Verdict of every claim in every layer; the table below says the same in words"
    figures.figure("Every claim in every layer", partial(_verdicts, frame), frame, source, alt=alt, key="verdicts")


def source(name: str, caption: str, selection: Selection, collection: Collection, query: EvidenceQuery) -> Provenance:
    """Where the figures of this page come from."""
    origin = figures.origin(
        name,
        caption,
        page="evidence",
        selection=selection,
        collection=collection,
        layers=query.layers,
        left_out=data.left_out(query),
    )
    return replace(figures.viewed(origin, controls.views()), columns=frames.HELP)


def place(query: EvidenceQuery, collection: Collection) -> str:
    """What is judged, in words."""
    if len(query.layers) == 1:
        return f"`{collection.by_name[query.layers[0]].short}`"
    return f"{len(query.layers)} layers" + ("" if query.each else " taken as one")


def _columns() -> dict[str, ColumnConfig]:
    config, told = st.column_config, frames.HELP
    # Everything up to the excess over chance fits into a window of 1280 pixels.
    return {
        "title": config.TextColumn("Claim", width=375, help=told["title"]),
        "verdict": config.TextColumn("Verdict", help=told["verdict"]),
        "strip": config.ImageColumn(
            "Among chance",
            width=100,
            help="What chance gives in 95 % of the draws, grey, and what these models show, blue.",
        ),
        "passed": config.TextColumn("Passed", alignment="right", help=told["discoveries"]),
        "value": config.TextColumn("Value", alignment="right", help=told["value"]),
        "chance": config.TextColumn("Chance", alignment="right", help=told["chance"]),
        "z": config.TextColumn("z", alignment="right", help=told["z"]),
        "p": config.TextColumn("p", alignment="right", help=told["p"]),
        "effect": config.ProgressColumn(
            "Beyond", width=75, min_value=0.0, max_value=100.0, format="%.0f %%", help=told["effect"]
        ),
        "reason": config.TextColumn("Why", width="large", help=told["reason"]),
    }


def _row(keys: Sequence[str]) -> None:
    """The chosen row's claim is looked at."""
    rows = (st.session_state.get(TABLE) or {}).get("selection", {}).get("rows", [])
    if rows and 0 <= rows[0] < len(keys):
        controls.look_at(keys[rows[0]])


def _choose_cell() -> None:
    """The clicked cell's layer becomes the chosen one; a selection that went away with its figure changes nothing."""
    picked = st.session_state.get(f"figure.{OVERVIEW}") or {}
    names = [point.get("customdata") for point in picked.get("selection", {}).get("points", [])]
    name = names[0][0] if names and isinstance(names[0], list) and names[0] else names[0] if names else None
    if isinstance(name, str):
        state.set_selection(layer=name)


def _draws(finding: Finding, theme: Theme) -> go.Figure:
    return charts.draws(finding, theme=theme)


def _determined(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    return charts.determined(frame, theme=theme)


def _curve(frame: pl.DataFrame, statistic: str, theme: Theme) -> go.Figure:
    return charts.curve(frame, statistic=statistic, theme=theme)


def _verdicts(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    drawn = charts.verdicts(frame, theme=theme)
    titles = [CLAIMS[key].title for key in CLAIMS if key in set(frame["claim"])]
    # Whole titles would leave no room for the cells on a narrow screen.
    words = ["<br>".join(wrap(title, 30)) for title in titles]
    drawn.update_yaxes(tickvals=titles, ticktext=words, tickfont_size=10)
    drawn.update_layout(height=150 + 38 * len(titles))
    return drawn


def _overview(frame: pl.DataFrame, chosen: str, theme: Theme) -> go.Figure:
    return overview(frame, measure=_Z, chosen=chosen, theme=theme)


def _layers(frame: pl.DataFrame, key: str, theme: Theme) -> go.Figure:
    return layers(frame, key, theme=theme)
