"""The spectrum page's answers on the side axes: one layer seen by its inputs or by its outputs."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core import run
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import Cancelled, CollectionError, UwsError
from uws_core.jobs import Report
from uws_core.nouns.chance import NullBand
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.ui import tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.tasks import Task

DRAWS = run.SIDE_DRAWS


def task(query: Query, collection: Collection) -> Task:
    """What the side axes read and multiply before a query can be answered: the side Grams, and what noise needs."""
    n, shapes = len(query.members), [collection.by_name[name].shape for name in query.layers]
    steps = sum(n * m * p * (p if query.axis == Axis.IN else m) for m, p in shapes)
    small = sum(n * min(shape) ** 3 * (10 + 2 * DRAWS) for shape in shapes) if query.null != "none" else 0
    seconds = tasks.read_seconds(collection, query.layers, times=2) + (steps + small) / tasks.STEPS_PER_SECOND
    plain = replace(query, share=0.9, k=16, group="", pool="each")

    def work(report: Report) -> None:
        part = tasks.in_parts(report, len(query.layers))
        for index, name in enumerate(query.layers):
            _prepare(replace(plain, layers=(name,)), collection, part(index))

    return Task(
        key=tasks.key_of("sides", plain),
        title=f"Reading {len(query.layers)} layers of {n} models by their {query.axis}puts",
        seconds=seconds,
        bytes=2 * 4 * n * sum(m * p for m, p in shapes),
        work=work,
    )


# Twenty questions a page: hashed as one text each, not field by field.
@st.cache_data(max_entries=1024, max_size="256mb", show_spinner=False, hash_funcs={Query: repr})
def item(query: Query) -> LayerSpectrum:
    """The spectrum of the query's one layer on its side axis, with its band or, in `left_out`, why it has none.

    Raises:
        NotEnoughModels: fewer than two usable models are chosen.
        LayerError: an unknown centre.
        CollectionError: the collection changed or went away meanwhile.
    """
    collection = catalogue().get(query.collection)
    if collection is None or collection.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    gram = _gram(query, collection)
    seen = spectrum(gram, about=query.about, unit=query.unit)
    band = None
    if query.null != "none" and seen.total > 0:
        try:
            band = _band(query, collection, gram)
        except UwsError as error:
            without = LeftOut(f"noise in {gram.layer.short}", str(error))
            seen = replace(seen, left_out=(*seen.left_out, without))
    return LayerSpectrum(layer=gram.layer, spectrum=seen, band=band, layers=1, left_out=gram.left_out)


def _prepare(query: Query, collection: Collection, report: Report) -> None:
    """One layer's reading, into the store. What fails here fails again, and is said, where the layer is shown."""
    try:
        gram = _gram(query, collection, report)
        if query.null != "none":
            _band(query, collection, gram)
    except Cancelled:
        raise
    except UwsError:
        return


def _gram(query: Query, collection: Collection, report: Report | None = None) -> Gram:
    return run.cached_side_gram(
        collection,
        query.layers[0],
        axis=query.axis,
        members=query.members,
        about=query.about,
        unit=query.unit,
        report=report,
    )


def _band(query: Query, collection: Collection, gram: Gram) -> NullBand:
    return run.side_band(
        collection, gram, members=query.members, about=query.about, unit=query.unit, draws=DRAWS, seed=query.seed
    )
