"""Choosing an architecture where several lie at one place: on the collection page, in the sidebar, by address."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open
from uws_core.collection import architectures
from uws_core.ui import saved_collections
from uws_core.ui.catalogue import catalogue

MIXED = "demo:mixed"


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """The ids of the architectures in `demo:mixed` by the first word of their titles."""
    return {item.title.split()[0]: item.id for item in architectures(MIXED)}


def line(app: AppTest) -> str:
    """The answer line."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return str(app.subheader[0].value)


def test_the_page_and_the_sidebar_list_them(open_page: Open) -> None:
    app = open_page("collection", c=MIXED)
    assert line(app).startswith(
        "12 models of one architecture, 20 layers comparable, 22 models of other architectures beside"
    )
    listed = [
        "vit 32 x 32: 12 models, 20 layers",
        "mlp 32 x 64: 8 models, 3 layers",
        "adapters 32 x 32: 8 models, 18 layers",
        "run 48 x 64: 6 models, 3 layers",
    ]
    assert app.sidebar.selectbox(key="pick.architecture.demo:mixed").options == listed
    assert app.pills(key="collection.architecture.demo:mixed").options == listed


def test_a_click_chooses_one_and_the_address_holds_it(open_page: Open, ids: dict[str, str]) -> None:
    app = open_page("collection", c=MIXED)
    app.pills(key="collection.architecture.demo:mixed").set_value(ids["mlp"]).run()
    assert line(app).startswith("8 models of one architecture, 3 layers comparable")
    assert app.query_params["c"] == f"{MIXED}/{ids['mlp']}"
    app.sidebar.selectbox(key="pick.architecture.demo:mixed").set_value(ids["run"]).run()
    assert line(app).startswith("6 models of one architecture, 3 layers comparable")
    assert app.query_params["c"] == f"{MIXED}/{ids['run']}"
    app.sidebar.selectbox(key="pick.collection").set_value("demo:scratch").run()
    assert line(app).startswith("40 models")
    assert app.query_params["c"] == "demo:scratch"


def test_other_pages_show_the_architecture_of_the_address(open_page: Open, ids: dict[str, str]) -> None:
    app = open_page("lineage", c=f"{MIXED}/{ids['adapters']}", l="blocks.0.attn.q.weight")
    line(app)
    assert "8 of 8 models" in " ".join(str(each.value) for each in app.sidebar.caption)


@pytest.mark.parametrize("after", ["/nothing", "/../../etc", "/", "/32x32-zzzzzz", "/" + "a" * 9000])
def test_an_unknown_architecture_in_the_address_is_the_first_one(open_page: Open, after: str) -> None:
    app = open_page("collection", c=MIXED + after)
    assert line(app).startswith("12 models of one architecture")


def test_a_place_of_one_architecture_offers_no_choice(open_page: Open) -> None:
    app = open_page("collection", c="demo:scratch")
    line(app)
    assert catalogue().architectures("demo:scratch") == ()
    assert not app.pills
    assert not [box for box in app.sidebar.selectbox if box.label == "Architecture"]


@pytest.mark.usefixtures("own_shelf")
def test_uploads_of_two_architectures_become_two_collections(open_page: Open) -> None:
    rng = np.random.default_rng(0)
    shapes = {"a-0": (4, 3), "a-1": (4, 3), "a-2": (4, 3), "b-0": (5, 5), "b-1": (5, 5)}
    files = [(f"{name}.safetensors", save({"w": rng.normal(size=shape)}), "") for name, shape in shapes.items()]
    app = open_page("collection")
    app.file_uploader(key="upload.files").set_value(files).run()
    app.text_input(key="upload.name").set_value("mine").run()
    app.button(key="upload.open").click().run()
    assert line(app).startswith("3 models of one architecture, 1 layer comparable, 2 models of other architectures")
    assert sorted(one.title for one in saved_collections.listed()) == ["mine", "mine, b 5 x 5"]
    assert "are saved as collections of their own" in " ".join(str(each.value) for each in app.caption)
    other = next(one.id for one in saved_collections.listed() if one.title != "mine")
    app.sidebar.selectbox(key="pick.collection").set_value(other).run()
    assert line(app).startswith("2 models of one architecture")
