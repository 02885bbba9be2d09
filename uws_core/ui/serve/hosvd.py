"""The three axes of one layer together: spectra, bounds of the truncation's error, the error itself, the size."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace

import polars as pl
import streamlit as st

from uws_core import run
from uws_core.analysis.accounting import two_sided
from uws_core.analysis.hosvd import AXES, ranks_at, tucker_bounds
from uws_core.analysis.hosvd import corners as hosvd_corners
from uws_core.analysis.spectrum import spectrum
from uws_core.answers import hosvd as hosvd_answer
from uws_core.errors import CollectionError
from uws_core.frames import hosvd as frames
from uws_core.jobs import Report
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.hosvd import Kept
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import Spectrum
from uws_core.passes.options import ComputeOptions
from uws_core.store.codec import MATH_VERSION
from uws_core.store.results import default_store
from uws_core.ui.catalogue import catalogue
from uws_core.ui.serve import errands, grams
from uws_core.ui.serve.errands import Errand

# A share is chosen in steps of a thousandth; one pass answers them all, so that another share reads nothing.
SHARES = 1000
# How much of the core is held at once.
BUDGET = 2**30
# What an entry of it takes there; the pass says the same.
ENTRY_BYTES = 4 * 8


@dataclass(frozen=True, slots=True)
class Seen:
    """What the panel shows: the curves, the table of the modes, and the sentence."""

    curves: pl.DataFrame
    modes: pl.DataFrame
    sentence: str


def errand(query: Query, collection: Collection) -> Errand:
    """Both side Grams of the query's one layer, about the mean, and the error of every truncation a share asks for."""
    (name,), n = query.layers, len(query.members)
    m, p = collection.by_name[name].shape
    steps = n * m * p * (m + p + min(m, p))
    # Two reads for each side and two for the core, and one for each further block of it.
    reads = 6 + ENTRY_BYTES * n * m * p // BUDGET
    return Errand(
        key=errands.key_of("hosvd", collection.fingerprint, name, query.members, SHARES),
        title=f"Reading {collection.by_name[name].short} of {n} models by both sides",
        seconds=errands.read_seconds(collection, (name,), times=reads) + steps / errands.STEPS_PER_SECOND,
        bytes=reads * 4 * n * m * p,
        work=lambda report: _errors(_plain(query), collection, report),
    )


@st.cache_data(max_entries=256, max_size="64mb", show_spinner=False)
def seen(query: Query) -> Seen:
    """The three axes of one layer at the query's share, about the mean of its models.

    Raises:
        NotEnoughModels: fewer than two usable models.
        CollectionError: the collection changed or went away meanwhile.
    """
    # torch is loaded only where weights are read.
    from uws_core.passes.stored_sizes import stored_numbers

    collection = catalogue().get(query.collection)
    if collection is None or collection.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    (layer,) = query.layers
    exact, spectra = _errors(query, collection), _spectra(query, collection)
    ranks = ranks_at(spectra, query.share)
    kept = Kept(*(ranks[axis].k for axis in AXES))
    factors = stored_numbers(collection, [layer], query.members)
    n = len(query.members)
    size = two_sided(collection, [layer], kept_out=kept.out, kept_in=kept.into, members=n, stored=factors)
    return Seen(
        frames.curves(spectra),
        frames.modes(spectra, collection.by_name[layer].shape, query.share),
        hosvd_answer.answer(tucker_bounds(spectra, kept), exact[kept], size),
    )


def _errors(query: Query, collection: Collection, report: Report | None = None) -> dict[Kept, float]:
    """The error of every truncation that a share asks for, from the store or by one pass over the core."""
    asked = (collection.fingerprint, query.layers, query.members, SHARES)
    key = f"hosvd/{MATH_VERSION}/{errands.key_of('errors', *asked)}"
    raw = default_store().get(key)
    if raw is not None:
        with suppress(ValueError, TypeError):
            # Tampered bytes are computed again.
            return {Kept(models, out, into): float(error) for models, out, into, error in json.loads(raw)}
    # torch is loaded only where weights are read.
    from uws_core.passes.hosvd_core import ModeGrams, hosvd_core_errors

    (models,) = grams.of(_plain(query))
    out, into = _sides(query, collection)
    corners = hosvd_corners(_spectra(query, collection), (step / SHARES for step in range(1, SHARES)))
    errors = hosvd_core_errors(
        collection,
        query.layers[0],
        corners=corners,
        grams=ModeGrams(models, out, into),
        members=query.members,
        options=ComputeOptions(budget=BUDGET, report=report),
    )
    rows = [[one.models, one.out, one.into, error] for one, error in zip(corners, errors, strict=True)]
    default_store().put(key, json.dumps(rows).encode())
    return dict(zip(corners, errors, strict=True))


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
