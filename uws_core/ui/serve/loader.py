"""How the models of the chosen collection were read, from their headers and configurations."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from uws_core.errors import UwsError
from uws_core.nouns.loader import USUAL, LoaderReport, Located
from uws_core.nouns.models import Collection
from uws_core.reporting import loader
from uws_core.ui import folders, shelf
from uws_core.ui.catalogue import catalogue


def models(here: str, collection: Collection) -> tuple[Located, ...]:
    """The models of the collection `here`, then those left out of it that lie at its place."""
    place = catalogue().place(here)
    choices = USUAL if place is None else place.choices
    try:
        return loader.models_of(collection, None if place is None else place.path, pickled=choices.pickled)
    except UwsError:
        return loader.models_of(collection)


def report(model: Located) -> LoaderReport:
    """What became of every key of a model's files.

    Raises:
        UwsError: it cannot be read; the message says why.
    """
    # Those that are compared were checked when the collection was opened, and the built-in ones lie elsewhere.
    roots = None if model.compared else tuple(str(root) for root in (*folders.roots(), shelf.folder().resolve()))
    return _report(model, roots)


# An adapter's alphas are a small read each, over a network a slow one.
@st.cache_data(ttl=60, max_entries=64, show_spinner="Reading the headers")
def _report(model: Located, roots: tuple[str, ...] | None) -> LoaderReport:
    return loader.report_of(model, roots=None if roots is None else [Path(root) for root in roots])
