"""All three axes of one layer (HOSVD) on the spectrum page, folded until somebody asks for them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from uws_core import run
from uws_core.analysis.accounting import two_sided
from uws_core.analysis.hosvd import AXES, corners, ranks_at, tucker_bounds
from uws_core.analysis.spectrum import spectrum
from uws_core.answers.hosvd import answer
from uws_core.charts.hosvd import curves
from uws_core.charts.style import Theme
from uws_core.errors import CollectionError, UwsError
from uws_core.export import Provenance
from uws_core.frames import hosvd
from uws_core.frames.hosvd import HELP
from uws_core.jobs import Report
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import Kept, Spectrum
from uws_core.passes.options import ComputeOptions, no_report
from uws_core.store.codec import MATH_VERSION
from uws_core.store.results import default_store
from uws_core.ui import figures, grams, job_panel, page, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.tasks import Task

# A share is chosen in steps of a thousandth; one pass answers them all, so that another share reads nothing.
SHARES = 1000
# How much of the core is held at once.
BUDGET = 2**30
# What an entry of it takes there; the pass says the same.
ENTRY_BYTES = 4 * 8


@dataclass(frozen=True, slots=True)
class HosvdResult:
    """What the panel shows: the curves, the table of the modes, and the sentence."""

    curves: pl.DataFrame
    modes: pl.DataFrame
    sentence: str


def hosvd_task(query: Query, collection: Collection) -> Task:
    """Both side Grams of the query's one layer, about the mean, and the error of every truncation a share asks for."""
    (name,), n = query.layers, len(query.members)
    m, p = collection.by_name[name].shape
    steps = n * m * p * (m + p + min(m, p))
    # Two reads for each side and two for the core, and one for each further block of it.
    reads = 6 + ENTRY_BYTES * n * m * p // BUDGET
    return Task(
        key=tasks.key_of("hosvd", collection.fingerprint, name, query.members, SHARES),
        title=f"Reading {collection.by_name[name].short} of {n} models by both sides",
        seconds=tasks.read_seconds(collection, (name,), times=reads) + steps / tasks.STEPS_PER_SECOND,
        bytes=reads * 4 * n * m * p,
        work=lambda report: _errors(_plain(query), collection, report),
    )


@st.cache_data(max_entries=256, max_size="64mb", show_spinner=False)
def hosvd_result(query: Query) -> HosvdResult:
    """The three axes of one layer at the query's share, about the mean of its models.

    Raises:
        NotEnoughModels: fewer than two usable models.
        CollectionError: the collection changed or went away meanwhile.
    """
    # torch is loaded only where weights are read.
    from uws_core.passes.stored_sizes import stored_sizes

    collection = catalogue().get(query.collection)
    if collection is None or collection.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    (layer,) = query.layers
    exact, spectra = _errors(query, collection), _spectra(query, collection)
    ranks = ranks_at(spectra, query.share)
    kept = Kept(*(ranks[axis].k for axis in AXES))
    stored = stored_sizes(collection, [layer], query.members)
    n = len(query.members)
    size = two_sided(collection, [layer], kept_out=kept.out, kept_in=kept.into, members=n, stored=stored)
    return HosvdResult(
        hosvd.curves(spectra),
        hosvd.modes(spectra, collection.by_name[layer].shape, query.share),
        answer(tucker_bounds(spectra, kept), exact[kept], size),
    )


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
    task = hosvd_task(query, collection)
    if not job_panel.task_panel(task):
        return
    try:
        result = hosvd_result(query)
    except UwsError as error:
        page.problem(str(error))
        return
    st.markdown(result.sentence)
    figures.figure(
        "Share carried on each axis",
        partial(_curves, result, query.share),
        result.curves,
        _source(source, query, collection, result),
        alt=f"Cumulative share of the variance on the models, out and in axes. {result.sentence}",
        key="hosvd",
    )
    page.table(result.modes, HELP, label="Axes")


def _source(source: Provenance, query: Query, collection: Collection, result: HosvdResult) -> Provenance:
    """Where the figure comes from: the one layer on all axes about the mean, whatever the spectrum above is about."""
    axes = {"axis": "models, out, in", "about": "mean", "share": f"{query.share:g}"}
    return replace(
        figures.viewed(source, {"hosvd": "true"}),
        name=f"hosvd {collection.name} {collection.by_name[query.layers[0]].short}",
        caption=result.sentence,
        layers=query.layers,
        settings={key: value for key, value in source.settings.items() if key not in ("unit", "null")} | axes,
        columns=HELP,
    )


def _curves(result: HosvdResult, share: float, theme: Theme) -> go.Figure:
    return curves(result.curves, share=share, theme=theme)


def _errors(query: Query, collection: Collection, report: Report | None = None) -> dict[Kept, float]:
    """The error of every truncation that a share asks for, from the store or by one pass over the core."""
    asked = (collection.fingerprint, query.layers, query.members, SHARES)
    key = f"hosvd/{MATH_VERSION}/{tasks.key_of('errors', *asked)}"
    raw = default_store().get(key)
    if raw is not None:
        with suppress(ValueError, TypeError):
            # Tampered bytes are computed again.
            return {Kept(models, out, into): float(error) for models, out, into, error in json.loads(raw)}
    # torch is loaded only where weights are read.
    from uws_core.passes.hosvd_core import ModeGrams, hosvd_core_errors

    (models,) = grams.of(_plain(query))
    out, into = _sides(query, collection)
    truncations = corners(_spectra(query, collection), (step / SHARES for step in range(1, SHARES)))
    errors = hosvd_core_errors(
        collection,
        query.layers[0],
        corners=truncations,
        grams=ModeGrams(models, out, into),
        members=query.members,
        options=ComputeOptions(budget=BUDGET, report=report or no_report),
    )
    rows = [[one.models, one.out, one.into, error] for one, error in zip(truncations, errors, strict=True)]
    default_store().put(key, json.dumps(rows).encode())
    return dict(zip(truncations, errors, strict=True))


def _spectra(query: Query, collection: Collection) -> dict[Axis, Spectrum]:
    (models,) = grams.of(_plain(query))
    sides = {axis: spectrum(gram) for axis, gram in zip((Axis.OUT, Axis.IN), _sides(query, collection), strict=True)}
    return {Axis.MODELS: spectrum(models, members=query.members)} | sides


def _sides(query: Query, collection: Collection) -> tuple[Gram, Gram]:
    out, into = (
        run.cached_side_gram(collection, query.layers[0], axis=axis, members=query.members)
        for axis in (Axis.OUT, Axis.IN)
    )
    return out, into


def _plain(query: Query) -> Query:
    """The query without what the panel does not use: it is always about the mean."""
    return replace(query, axis=Axis.MODELS.value, about="mean", unit=False, null="none", pool="sum")
