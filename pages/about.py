"""Versions, device, memory, store, jobs, limits, and what leaves this machine."""

from __future__ import annotations

import streamlit as st

from uws_core.ui import about, page, state


def main() -> None:
    """The page, from this machine to what leaves it."""
    state.require("about")

    page.head("About", "What makes these numbers, what is kept here, and what leaves this machine?", keeps=False)
    page.answer(
        "Nothing leaves this machine but requests for model files, when you name models of the Hub, and jobs, when you "
        "name a cluster."
    )

    left, right = st.columns(2, gap="large")
    with left:
        page.facts("Machine", about.machine())
        page.facts("Store", about.storage())
        page.facts("Hub", about.hub())
        page.facts("Limits", about.limits())
    with right:
        st.subheader("Versions", anchor=False)
        st.dataframe(about.versions(), hide_index=True, alt="Packages and their versions")

    st.subheader("Jobs", anchor=False)
    jobs = about.jobs()
    if jobs.is_empty():
        st.caption("No job has been started since the server started. Large collections are read as jobs.")
    else:
        percent = st.column_config.NumberColumn(format="percent")
        st.dataframe(
            jobs, hide_index=True, column_config={"done": percent}, alt="Jobs of this server, the latest first"
        )

    about.budget_field(**about.memory())
    about.cluster_field()

    st.subheader("What leaves this machine", anchor=False)
    st.markdown(
        "Figures, numbers, folder names and weights stay here: no usage statistics, no upload button in figures, no "
        "fonts or scripts from elsewhere. Weight files are opened as safetensors, which cannot run code. Exports are "
        "made here and go to your browser only. A cluster named above receives the models' names and returns inner "
        "products."
    )


main()
