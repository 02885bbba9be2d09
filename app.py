"""The entry: the pages, the guard's other half, the sidebar. Start it with `streamlit run app.py`."""

import streamlit as st

from uws_core.ui import password, plotly_script, sidebar, state

# Word (of the script and the address), icon, and the one question the page answers.
PAGES = (
    ("collection", "dataset", "Which models, which layers, and what was left out?"),
    ("spectrum", "show_chart", "How many directions carry a layer, against chance?"),
    ("angles", "grid_on", "Do two models, groups or layers use the same directions?"),
    ("reconstruction", "auto_fix_high", "Does the shared subspace rebuild a model it never saw, and at what size?"),
    ("pair", "compare", "Where do two models differ, layer by layer?"),
    ("lineage", "account_tree", "Which of these models are relatives, copies or outliers?"),
    ("evidence", "gavel", "Claim by claim: what holds here, what is chance, what is ancestry?"),
    ("compress", "compress", "What does a smaller collection cost its worst model, and would its own SVD do better?"),
    ("merge", "merge", "Which of these can be merged, and is it more than the mean?"),
    ("adapt", "tune", "Does the shared subspace help a new task more than a random one?"),
    ("about", "info", "Versions, device, memory, store, jobs, and what leaves this machine."),
)

# First, because without an icon of ours the page's own would be fetched from a server of Google.
st.set_page_config(page_icon=str(state.ICON), layout="wide")
page = st.navigation(
    [
        st.Page(state.home, title="Home", default=True, visibility="hidden"),
        *(
            st.Page(
                f"pages/{word}.py",
                title=word.capitalize(),
                icon=f":material/{icon}:",
                url_path=word,
                help=question,
            )
            for word, icon, question in PAGES
        ),
    ]
)
st.set_page_config(page_title=f"{page.title} - Universal weight subspaces")
password.require()
state.enter()
if page.title == "Home":
    page.run()
else:
    # Not before: what is sent just before a visitor is sent on is lost.
    plotly_script.ask()
    sidebar.show()
    page.run()
