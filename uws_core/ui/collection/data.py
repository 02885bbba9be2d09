"""The collection page's answers: layers with what is known of their spectra."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl
import streamlit as st

from uws_core.errors import UwsError
from uws_core.frames import collection as frames
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.sources.opening import open_source
from uws_core.ui import grams
from uws_core.ui.spectrum import data

# Sparklines beyond this many layers would make the table slower to scroll than to read.
MOST_SPARKLINES = 400
# Headers on the Hub that this process has not met are waited for.
_OPENERS = 8


def layers(collection: Collection, query: Query) -> pl.DataFrame:
    """One row a layer of the query: its cost, and scree and rank of its models where the store has the layer's Gram."""
    missing = set(grams.missing(collection, query.layers))
    known: dict[str, LayerSpectrum] = {}
    for name in [name for name in query.layers if name not in missing][:MOST_SPARKLINES]:
        try:
            known[name] = data.item(replace(query, layers=(name,), pool="sum", null="none", share=0.9))
        except UwsError:
            continue
    sizes = layer_bytes(collection, query.members, query.layers)
    return frames.layers(collection, known, share=query.share, names=query.layers, sizes=sizes)


def layer_bytes(collection: Collection, members: tuple[int, ...], layers: tuple[str, ...]) -> Mapping[str, int]:
    """What reading each of these layers of these models moves, by name; nothing where headers cannot be read now."""
    try:
        return _layer_bytes(collection.fingerprint, members, layers, collection)
    except UwsError:
        return {}


# The contents are part of the key, so an answer stays right.
@st.cache_data(max_entries=64, show_spinner="Adding up what the headers say")
def _layer_bytes(
    fingerprint: str, members: tuple[int, ...], layers: tuple[str, ...], _collection: Collection
) -> dict[str, int]:
    with ThreadPoolExecutor(_OPENERS, thread_name_prefix="uws-open") as pool:
        sources = list(pool.map(open_source, [_collection.refs[row] for row in members]))
    return {name: sum(source.stored_bytes(name) for source in sources) for name in layers}
