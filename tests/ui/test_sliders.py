"""Sliders: what their positions show in the browser is what the page itself shows there."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open, drawn, sliders

PLANTED = {"c": "demo:planted"}
# All that a slider tells for every position is worked out beforehand: three of ten tasks are enough of it.
THREE = ["task=prime", "task=parity", "task=inverted"]


def reached(app: AppTest, name: str) -> dict[str, Any]:
    """What a slider is told when somebody reaches for it."""
    told = sliders(app)[name]
    assert told["steps"] is None, "nobody has reached for it"
    app.session_state[f"live.{name}.reached"] = told["subject"]
    return sliders(app.run())[name]


def rows(app: AppTest) -> list[list[str]]:
    """The numbers of the page, as a slider writes them."""
    return [[metric.label, metric.value] for metric in app.metric]


def moved(move: dict[str, Any], at: int, figure: dict[str, Any]) -> list[tuple[object, object]]:
    """Every property that the position changes, with what the figure of the page has there."""
    pairs = []
    for kind, named in (("shapes", move["shapes"]), ("annotations", move["annotations"]), ("traces", move["traces"])):
        parts = figure["data"] if kind == "traces" else figure["layout"].get(kind, [])
        for name, properties in named.items():
            (part,) = [part for part in parts if part.get("name") == name]
            pairs += [(values[at], part[key]) for key, values in properties.items()]
    return pairs


@pytest.mark.parametrize("share", ["0.5", "0.99"])
def test_a_share_on_the_slider_shows_what_the_page_shows_there(open_page: Open, share: str) -> None:
    slider = reached(open_page(**PLANTED), "share")
    at, page = slider["texts"].index(f"{100 * float(share):g}"), open_page(**PLANTED, share=share)
    assert slider["texts"][slider["at"]] == "90"
    assert sliders(page)["share"]["at"] == at
    assert slider["steps"]["answers"][at] == page.subheader[0].value
    assert [[name, value] for name, value, _ in slider["steps"]["numbers"][at]] == rows(page)
    pairs = moved(slider["steps"]["figures"]["figure.cumulative"], at, drawn(page)[1])
    assert len(pairs) == 7
    assert all(here == there for here, there in pairs)


@pytest.mark.parametrize("count", ["these layers", "whole checkpoints"])
def test_a_k_on_the_slider_shows_what_the_page_shows_there(open_page: Open, count: str) -> None:
    asked = {"c": "demo:finetuned", "layer": "blocks.1.attn.q.weight", "own": "false", "count": count, "m": THREE}
    slider, page = reached(open_page("reconstruction", **asked), "k"), open_page("reconstruction", k="5", **asked)
    at = slider["texts"].index("5")
    assert slider["steps"]["answers"][at] == page.subheader[0].value
    assert [[name, value] for name, value, _ in slider["steps"]["numbers"][at]] == rows(page)
    for key, figure in zip(("errors", "sizes", "models"), drawn(page), strict=True):
        pairs = moved(slider["steps"]["figures"][f"figure.{key}"], at, figure)
        assert len(pairs) == (3 if key == "sizes" else 2)
        assert all(here == there for here, there in pairs)


@pytest.mark.parametrize("measure", ["mean", "overlap"])
def test_a_k_on_the_angles_slider_shows_what_the_page_shows_there(open_page: Open, measure: str) -> None:
    # In the order of the list every k has the same rows.
    asked = {
        "c": "demo:finetuned", "layer": "blocks.1.attn.q.weight", "measure": measure, "order": "list", "m": THREE
    }  # fmt: skip
    slider, page = reached(open_page("angles", k="8", **asked), "angles"), open_page("angles", k="5", **asked)
    at = slider["texts"].index("5")
    assert slider["steps"]["answers"][at] == page.subheader[0].value
    assert [[name, value] for name, value, _ in slider["steps"]["numbers"][at]] == rows(page)
    properties = slider["steps"]["figures"]["figure.angles"]["traces"]["pairs"]
    (matrix,) = [trace for figure in drawn(page) for trace in figure["data"] if trace.get("name") == "pairs"]
    np.testing.assert_allclose(array(properties["z"])[at], array(matrix["z"]), rtol=1e-6)
    assert properties["zmax"][at] == pytest.approx(matrix["zmax"])
    assert properties["colorbar.ticktext"][at] == matrix["colorbar"]["ticktext"]


def array(told: dict[str, str]) -> np.ndarray:
    """An array as plotly.js is told one."""
    flat = np.frombuffer(base64.b64decode(told["bdata"]), dtype=told["dtype"])
    return flat.reshape([int(size) for size in told["shape"].split(",")])


def test_another_layer_has_not_been_reached_for(open_page: Open) -> None:
    app = open_page(**PLANTED)
    assert reached(app, "share")["steps"]
    next(box for box in app.selectbox if box.label == "Layer").select_index(5).run()
    assert sliders(app)["share"]["steps"] is None
