"""The fingerprint check of the collection page: from commits and from Grams that the store has; no weight is read."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from uws_core import run
from uws_core.analysis.flags import flags, look
from uws_core.errors import UwsError
from uws_core.nouns.flags import Flag, LayerLook
from uws_core.nouns.models import Collection
from uws_core.ui import grams

# As many layers as a table shows with their spectra; the others are no other kind of layer.
MOST_LAYERS = 400


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, in how many layers that have been read, and how many could be."""

    flags: tuple[Flag, ...]
    read: int
    layers: int


def checked(here: str, collection: Collection) -> Checked:
    """What the commits and the Grams of the collection `here` show that are there now; starts nothing."""
    names = tuple(layer.name for layer in collection.layers if not layer.factor)
    missing = set(grams.missing(collection, names))
    read = tuple(name for name in names if name not in missing)[:MOST_LAYERS]
    looks = [seen for name in read if (seen := _look(here, collection.fingerprint, name, collection)) is not None]
    return Checked(flags(collection, looks), len(looks), len(names))


@st.cache_data(max_entries=4096, max_size="64mb", show_spinner=False)
def _look(here: str, fingerprint: str, layer: str, _collection: Collection) -> LayerLook | None:
    gram = run.stored_grams(_collection, [layer]).get(layer)
    try:
        return None if gram is None else look(gram)
    except UwsError:
        return None
