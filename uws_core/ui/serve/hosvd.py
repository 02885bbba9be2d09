"""The three axes of one layer together: spectra, bounds of the truncation's error, the error itself, the size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl
import streamlit as st

from uws_core import run
from uws_core.analysis.accounting import two_sided
from uws_core.analysis.hosvd import AXES, ranks_at, tucker_bounds
from uws_core.analysis.spectrum import spectrum
from uws_core.errors import CollectionError
from uws_core.frames import hosvd as frames
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.hosvd import Kept
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.ui.catalogue import catalogue
from uws_core.ui.serve import errands, grams
from uws_core.ui.serve.errands import Errand


@dataclass(frozen=True, slots=True)
class Seen:
    """What the panel shows: the curves, the table of the modes, and the sentence."""

    curves: pl.DataFrame
    modes: pl.DataFrame
    sentence: str


def errand(query: Query, collection: Collection) -> Errand:
    """Both side Grams of the query's one layer, about the mean, and the core of the decomposition."""
    (name,), n = query.layers, len(query.members)
    m, p = collection.by_name[name].shape
    steps = n * m * p * (m + p + min(m, p))
    return Errand(
        key=errands.key_of("hosvd", collection.fingerprint, name, query.members),
        title=f"Reading {collection.by_name[name].short} of {n} models by both sides",
        seconds=errands.read_seconds(collection, (name,), times=6) + steps / errands.STEPS_PER_SECOND,
        bytes=6 * 4 * n * m * p,
        work=lambda report: _sides(_plain(query), collection),
    )


@st.cache_data(max_entries=256, max_size="64mb", show_spinner=False)
def seen(query: Query) -> Seen:
    """The three axes of one layer at the query's share, about the mean of its models.

    Raises:
        NotEnoughModels: fewer than two usable models.
        CollectionError: the collection changed or went away meanwhile.
    """
    from uws_core.passes.core import core

    collection = catalogue().get(query.collection)
    if collection is None or collection.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    (layer,) = query.layers
    (models,) = grams.of(_plain(query))
    out, into = _sides(query, collection)
    spectra = {axis: spectrum(gram) for axis, gram in ((Axis.OUT, out), (Axis.IN, into))}
    spectra = {Axis.MODELS: spectrum(models, members=query.members)} | spectra
    ranks = ranks_at(spectra, query.share)
    kept = Kept(*(ranks[axis].k for axis in AXES))
    exact = core(collection, layer, kept=kept, models=models, out=out, into=into, members=query.members).error(kept)
    size = two_sided(collection, [layer], kept_out=kept.out, kept_in=kept.into, members=len(query.members))
    return Seen(
        frames.curves(spectra),
        frames.modes(spectra, collection.by_name[layer].shape, query.share),
        frames.sentence(tucker_bounds(spectra, kept), exact, size),
    )


def _sides(query: Query, collection: Collection) -> tuple[Gram, Gram]:
    out, into = (
        run.side(collection, query.layers[0], axis=axis, members=query.members) for axis in (Axis.OUT, Axis.IN)
    )
    return out, into


def _plain(query: Query) -> Query:
    """The query without what the panel does not use: it is always about the mean."""
    return replace(query, axis=Axis.MODELS.value, about="mean", unit=False, null="none", pool="sum")
