"""Outliers of the collection, found from commits and from Grams that are stored already; no weight is read."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from uws_core import run
from uws_core.analysis.flags import flags, look
from uws_core.errors import UwsError
from uws_core.nouns.lineage import Flag, LayerFlags
from uws_core.nouns.models import Collection
from uws_core.sources.base import on_hub
from uws_core.ui import grams, page

# As many layers as a table shows with their spectra; the others are no other kind of layer.
MOST_LAYERS = 400
# Beyond this many only their number is shown; the lineage page lists all.
_MOST = 5
_MOST_NAMES = 4


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


def check(here: str, collection: Collection) -> None:
    """Every model to look at with the reason, and in a quiet line what was looked at."""
    result = checked(here, collection)
    for flag in result.flags[:_MOST]:
        st.markdown(f":material/flag: **{_names(flag)}** {flag.what}: {page.plain(flag.why)}.")
    if len(result.flags) > _MOST:
        st.caption(f"and {len(result.flags) - _MOST} more; the lineage page lists outliers and copies layer by layer.")
    st.caption(line(result, collection))


def line(checked: Checked, collection: Collection) -> str:
    """What was looked at, what that shows, and what to press to see more."""
    by_commit = "Commits on the Hub do not tell copies under other names" if all(map(on_hub, collection.refs)) else ""
    copies = by_commit or ("" if checked.flags else "No two models have the same content")
    if not checked.read:
        more = "whether any was re-initialised shows in its entries once a layer has been read: press Scan below"
        return f"{copies}; {more}." if copies else f"{more[0].upper()}{more[1:]}."
    layers = f"{checked.read} of {checked.layers} layers that have been read"
    if checked.flags:
        return f"Looked at in the {layers}."
    return f"{copies}; none looks re-initialised in the {layers}."


@st.cache_data(max_entries=4096, max_size="64mb", show_spinner=False)
def _look(here: str, fingerprint: str, layer: str, _collection: Collection) -> LayerFlags | None:
    gram = run.stored_grams(_collection, [layer]).get(layer)
    try:
        return None if gram is None else look(gram)
    except UwsError:
        return None


def _names(flag: Flag) -> str:
    names = [page.plain(name) for name in flag.models[:_MOST_NAMES]]
    if len(flag.models) > _MOST_NAMES:
        return f"{', '.join(names)} and {len(flag.models) - _MOST_NAMES} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
