"""Copies and re-initialised models, in words, as soon as a collection is opened."""

from __future__ import annotations

import streamlit as st

from uws_core.nouns.flags import Flag
from uws_core.nouns.models import Collection
from uws_core.sources.base import on_hub
from uws_core.ui import page
from uws_core.ui.serve import flags as serve
from uws_core.ui.serve.flags import Checked

# More than this are told as a number; the lineage page lists all.
_MOST = 5
_MOST_NAMES = 4


def check(here: str, collection: Collection) -> None:
    """Every model to look at with the reason, and in a quiet line what was looked at."""
    found = serve.checked(here, collection)
    for one in found.flags[:_MOST]:
        st.markdown(f":material/flag: **{_names(one)}** {one.what}: {page.plain(one.why)}.")
    if len(found.flags) > _MOST:
        st.caption(f"and {len(found.flags) - _MOST} more; the lineage page lists odd models and copies layer by layer.")
    st.caption(line(found, collection))


def line(found: Checked, collection: Collection) -> str:
    """What was looked at, what that shows, and what to press to see more."""
    by_commit = "Commits on the Hub do not tell copies under other names" if all(map(on_hub, collection.refs)) else ""
    copies = by_commit or ("" if found.flags else "No two models have the same content")
    if not found.read:
        more = "whether any was re-initialised shows in its entries once a layer has been read: press Scan below"
        return f"{copies}; {more}." if copies else f"{more[0].upper()}{more[1:]}."
    layers = f"{found.read} of {found.layers} layers that have been read"
    if found.flags:
        return f"Looked at in the {layers}."
    return f"{copies}; none looks re-initialised in the {layers}."


def _names(one: Flag) -> str:
    names = [page.plain(name) for name in one.models[:_MOST_NAMES]]
    if len(one.models) > _MOST_NAMES:
        return f"{', '.join(names)} and {len(one.models) - _MOST_NAMES} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
