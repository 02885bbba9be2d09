"""What may be chosen about how a place is read, in a popover beside the button that opens it."""

from __future__ import annotations

import streamlit as st

from uws_core.nouns.loader import DIALECTS, Choices

WARNING = (
    "Opening a pickled file can run whatever its author wrote into it. They are read only through torch's "
    "weights-only loader, which refuses all but tensors; still, only files you trust."
)


def options(key: str, *, pickled: bool = True) -> Choices:
    """The popover and what it says; `key` begins the keys of its widgets. On the Hub pickled files are never read."""
    with st.popover("Options", icon=":material/tune:", key=f"{key}.options"):
        st.toggle(
            "Compare the rows that all have",
            key=f"{key}.common_rows",
            help="Layers that differ in their number of rows alone, such as vocabularies, are compared in the first "
            "rows that all models have, and named so: `embed.weight[:32000]`. Otherwise they are left out.",
        )
        st.toggle(
            "Read pickled .bin and .pt files",
            key=f"{key}.pickled",
            disabled=not pickled,
            help=WARNING if pickled else "Pickled files on the Hub are not read: download and convert them.",
        )
        if pickled and st.session_state.get(f"{key}.pickled"):
            st.caption(f":material/warning: {WARNING}")
        st.selectbox(
            "Dialect of adapters",
            ["", *DIALECTS],
            format_func=lambda name: name or "any",
            key=f"{key}.dialect",
            help="Whose names the keys are in. With one chosen, other adapters and whole models are left out.",
        )
    return taken(key)


def taken(key: str) -> Choices:
    """What the popover of these keys says now; nothing chosen where it was not drawn yet."""
    return Choices(
        common_rows=bool(st.session_state.get(f"{key}.common_rows")),
        pickled=bool(st.session_state.get(f"{key}.pickled")),
        dialect=str(st.session_state.get(f"{key}.dialect") or ""),
    )
