"""What does a smaller collection cost its worst model, and would each model's own SVD do better?"""

from __future__ import annotations

import numpy as np
import streamlit as st

from uws_core.charts.compress import curve, layers, models, rivals
from uws_core.frames.compress import HELP
from uws_core.ui import figures, job_panel, page, state, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.compress import controls, data, view

DEFINITIONS = {
    "Error": "|W - rebuilt| / |W - centre| over all chosen layers; the centre of adapters is zero, that of whole "
    "weights the mean.",
    "Shared basis": "One basis a layer for all models; each model keeps a small core. Compress then Serve, arXiv "
    "2407.00066, weighted so that every model's relative error counts alike.",
    "Own SVD": "Each model's own truncated SVD at the same bytes, singular values with most energy a number first.",
    "Random basis": "The same sizes with random directions.",
    "Mean only": "The mean of all models in place of each.",
    "Held out": "A basis made without a group of models, and the group's models in it: what models of another group "
    "would lose.",
    "Rounding": "Every entry (of the factors, for adapters) at the most bits that fit the same bytes.",
}


def main() -> None:
    """The page, from the address to the definitions."""
    selection = state.require("compress")
    question = "What does a smaller collection cost its worst model, and would its own SVD do better?"
    collection = page.opened(selection, "Compress", question)
    view.members(catalogue().path(selection.collection))
    answer = st.container()
    query = controls.compress(selection, collection)
    if len(query.members) < 2 or not query.layers:
        page.problem(
            f"A shared basis needs two models and a layer; {len(query.members)} models and {len(query.layers)} layers "
            "are chosen.",
            way_out="Choose all models and layers",
            set_selection={"members": (), "layers": ()},
        )
        return
    task = data.task(query, collection)
    if not job_panel.task_panel(task, tasks.status(task)):
        return
    result = data.result(query)
    if result is None:
        page.problem("The store has no room for these figures; see the about page.")
        return
    with answer:
        page.answer(result.answer)
        st.caption(" ".join(text for text in (result.price, result.sizes, result.held_out) if text))
    source = figures.origin(
        f"compress {collection.name}",
        result.answer,
        page="compress",
        selection=selection,
        collection=collection,
        layers=query.layers,
    )
    figures.figure(
        "Error against bytes",
        lambda theme: curve(result.curve, chosen=result.bytes, original=result.original_bytes, theme=theme),
        result.curve,
        source,
        alt=f"The worst model's error against the bytes of the folder, a line for each way. {result.sizes}",
        key="curve",
    )
    left, right = st.columns(2, gap="medium")
    with left:
        figures.figure(
            "The same bytes, spent otherwise",
            lambda theme: rivals(result.rivals, theme=theme),
            result.rivals,
            source,
            alt=f"Bars of the worst model's error for each way to spend the bytes. {result.answer}",
            key="rivals",
        )
    with right:
        figures.figure(
            "Error of every model",
            lambda theme: models(result.models, theme=theme),
            result.models,
            source,
            alt="Lines of each model's error in the shared basis and with its own SVD",
            key="models",
        )
    names = result.layers["layer"].to_list()
    figures.figure(
        "Error of every layer and model",
        lambda theme: layers(np.array(result.layer_errors), names, result.labels, theme=theme),
        result.layers,
        source,
        alt="Heatmap of errors, layers by models",
        key="layer errors",
    )
    view.scores(query, collection, source)
    view.write(query, collection)
    page.left_out(collection.left_out)
    page.table(result.rivals, HELP, label="Ways", percent=("worst_error", "median_error"))
    page.table(result.models, HELP, label="Models", percent=("error", "own_svd_error", "held_out_error"))
    page.table(result.curve, HELP, label="Sizes", percent=("worst_error", "median_error"))
    page.table(result.layers, HELP, label="Layers", percent=("worst_error",))
    page.definitions(DEFINITIONS)


main()
