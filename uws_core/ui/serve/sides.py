"""The spectrum page's answers on the side axes: one layer seen by its inputs or by its outputs."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from uws_core import run
from uws_core.analysis import nulls
from uws_core.analysis.side_nulls import haar_band
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import CollectionError
from uws_core.jobs import Report
from uws_core.nouns.chance import NullBand
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.ui.catalogue import catalogue
from uws_core.ui.serve import errands
from uws_core.ui.serve.errands import Errand

# A draw of a side axis costs a decomposition of every model, so there are few.
DRAWS = 20


def errand(query: Query, collection: Collection) -> Errand:
    """What the side axes read and multiply before a query can be answered: the side Grams, and what noise needs."""
    n, shapes = len(query.members), [collection.by_name[name].shape for name in query.layers]
    steps = sum(n * m * p * (p if query.axis == Axis.IN else m) for m, p in shapes)
    small = sum(n * min(shape) ** 3 * (10 + 2 * DRAWS) for shape in shapes) if query.null == "strength" else 0
    seconds = errands.read_seconds(collection, query.layers, times=2) + (steps + small) / errands.STEPS_PER_SECOND
    plain = replace(query, share=0.9, k=16, group="", pool="each")

    def work(report: Report) -> None:
        part = errands.in_parts(report, len(query.layers))
        for index, name in enumerate(query.layers):
            one = replace(plain, layers=(name,))
            _gram(one, collection, part(index))
            if query.null == "strength":
                _band(one, collection, _gram(one, collection))

    return Errand(
        key=errands.key_of("sides", plain),
        title=f"Reading {len(query.layers)} layers of {n} models by their {query.axis}puts",
        seconds=seconds,
        bytes=2 * 4 * n * sum(m * p for m, p in shapes),
        work=work,
    )


@st.cache_data(max_entries=1024, max_size="256mb", show_spinner=False)
def item(query: Query) -> LayerSpectrum:
    """The spectrum and the band of the query's one layer on its side axis.

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
    band = _band(query, collection, gram) if query.null != "none" and seen.total > 0 else None
    return LayerSpectrum(layer=gram.layer, spectrum=seen, band=band, layers=1)


def _gram(query: Query, collection: Collection, report: Report | None = None) -> Gram:
    return run.side(
        collection,
        query.layers[0],
        axis=query.axis,
        members=query.members,
        about=query.about,
        unit=query.unit,
        report=report,
    )


def _band(query: Query, collection: Collection, gram: Gram) -> NullBand:
    if query.null == "gaussian":
        return nulls.null_band(gram, kind="gaussian", draws=DRAWS, seed=query.seed, about=query.about, unit=query.unit)
    # One direction is kept: the null needs all singular values and no vector.
    own = run.directions(collection, query.layers[0], kept=1, about=query.about, members=query.members)
    return haar_band(gram, own, draws=DRAWS, seed=query.seed, unit=query.unit)
