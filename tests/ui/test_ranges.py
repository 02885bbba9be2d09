"""The part of the axes that is drawn: asked for in the export corner, kept in the address, the same in every export."""

from __future__ import annotations

from functools import partial

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open, drawn
from uws_core.charts.style import PRINT, Theme
from uws_core.ui import ranges

LAYER = "blocks.1.attn.q.weight"


def axis(app: AppTest, name: str) -> dict[str, object]:
    return drawn(app)[0]["layout"][name]


def field(app: AppTest, label: str, figure: str = "scree"):
    return next(box for box in app.main.number_input if box.label == label and box.key.startswith(f"range.{figure}."))


def test_an_address_sets_the_range_and_what_is_no_range_sets_nothing(open_page: Open) -> None:
    whole = axis(open_page(c="demo:planted", layer=LAYER, scale="linear"), "xaxis")
    asked = open_page(c="demo:planted", layer=LAYER, scale="linear", range=["scree:x:1:9", "scree:y::0.25"])
    assert axis(asked, "xaxis")["range"] == [1, 9]
    assert axis(asked, "yaxis")["range"][1] == 0.25
    assert field(asked, "Across to").value == 9
    wrong = ["scree:x", "scree:z:1:2", "scree:x:a:b", "other:x:1:9", "scree:x:nan:inf", ":::"]
    app = open_page(c="demo:planted", layer=LAYER, scale="linear", range=wrong)
    assert not app.exception
    assert axis(app, "xaxis").get("range") == whole.get("range")


def test_what_is_typed_is_drawn_and_stands_in_the_address_until_it_is_cleared(open_page: Open) -> None:
    app = open_page(c="demo:planted", layer=LAYER, scale="linear")
    before = axis(app, "xaxis").get("range")
    field(app, "Across from").set_value(2.0).run()
    field(app, "Across to").set_value(12.0).run()
    assert axis(app, "xaxis")["range"] == [2, 12]
    assert app.query_params["range"] == "scree:x:2:12"
    app.button(key="range.scree.all").click().run()
    assert axis(app, "xaxis").get("range") == before
    assert "range" not in app.query_params
    assert field(app, "Across to").value is None


def drawn_for(theme: Theme, *, log: bool) -> go.Figure:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[0.1, 0.01]))
    return figure.update_yaxes(type="log") if log else figure.update_yaxes(range=[0, 1])


@pytest.mark.parametrize(("log", "expected"), [(False, [0, 0.1]), (True, [None, -1])])
def test_every_look_ends_where_it_is_asked_to_also_on_a_logarithmic_axis(log: bool, expected: list[float]) -> None:
    draw = ranges.applied(partial(drawn_for, log=log), {"y": (None, 0.1)})
    assert list(draw(PRINT).layout.yaxis.range) == expected


def test_cells_and_names_have_no_range(open_page: Open) -> None:
    app = open_page("angles", c="demo:planted", layer=LAYER, axis="in", k="4")
    assert not [box for box in app.main.number_input if box.key.startswith("range.angles.")]
    assert [box for box in app.main.number_input if box.key.startswith("range.pair.")]
    asked = open_page("angles", c="demo:planted", layer=LAYER, axis="in", k="4", range=["angles:x:5:6", "angles:y:5:6"])
    assert axis(asked, "xaxis")["range"] == axis(app, "xaxis")["range"]
    based = open_page(
        "angles",
        c="demo:finetuned",
        layer=LAYER,
        view="base",
        about="at-least-five-0",
        measure="overlap",
        m=["task=at-least-five", "task=prime"],
    )
    assert not based.exception
    assert not [box for box in based.main.number_input if box.key.startswith("range.angles.base.")]


def test_a_range_goes_with_the_collection_whose_numbers_it_is_in(open_page: Open) -> None:
    app = open_page(c="demo:planted", layer=LAYER, scale="linear", range="scree:x:1:9")
    assert app.query_params["range"] in ("scree:x:1:9", ["scree:x:1:9"])
    app.sidebar.selectbox(key="pick.collection").set_value("demo:scratch").run()
    assert not app.exception
    assert "range" not in app.query_params
    assert app.query_params["scale"] in ("linear", ["linear"]), "what is in no unit stays"
