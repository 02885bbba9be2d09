"""The collection page's answers: layers with what is known of their spectra."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from uws_core.errors import UwsError
from uws_core.frames import collection as frames
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.ui.serve import grams
from uws_core.ui.serve import spectrum as spectra

# Sparklines beyond this many layers would make the table slower to scroll than to read.
MOST_SPARKLINES = 400


def layers(collection: Collection, query: Query) -> pl.DataFrame:
    """One row a layer of the query, with scree and rank of its models where the store has the layer's Gram."""
    missing = set(grams.missing(collection, query.layers))
    known: dict[str, LayerSpectrum] = {}
    for name in [name for name in query.layers if name not in missing][:MOST_SPARKLINES]:
        try:
            known[name] = spectra.item(replace(query, layers=(name,), pool="sum", null="none", share=0.9))
        except UwsError:
            continue
    return frames.layers(collection, known, share=query.share, names=query.layers)
