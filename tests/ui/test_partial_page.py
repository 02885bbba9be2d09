"""Choosing a layer that part of the models have: in the sidebar, on the collection page, by address, and back."""

from __future__ import annotations

import pytest

from tests.ui.conftest import Open

HEAD = "head.weight"
OF_HEAD = f"demo:finetuned//{HEAD}"
BOX = "pick.having.demo:finetuned"


def test_the_sidebar_narrows_to_the_models_that_have_it_and_back(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:finetuned")
    box = app.sidebar.selectbox(key=BOX)
    assert box.options == ["any: all 40 models", "head (24 of 40)"]
    box.set_value(HEAD).run()
    assert not app.exception
    assert app.query_params["c"] == OF_HEAD
    assert "24 of 24 models that have head.weight" in " ".join(str(each.value) for each in app.sidebar.caption)
    (layers,) = [each.options for each in app.main.selectbox if each.label == "Layer"]
    assert "head" in layers
    app.sidebar.selectbox(key=BOX).set_value("").run()
    assert app.query_params["c"] == "demo:finetuned"


def test_an_address_opens_it_on_every_kind_of_page(open_page: Open) -> None:
    for page in ("collection", "lineage"):
        app = open_page(page, c=OF_HEAD)
        assert not app.exception
        assert app.sidebar.selectbox(key=BOX).value == HEAD


@pytest.mark.parametrize("after", ["//nothing", "//../../etc", "//", "/x/head.weight/y", "//" + "a" * 9000])
def test_an_unknown_layer_in_the_address_means_all_models(open_page: Open, after: str) -> None:
    app = open_page("collection", c="demo:finetuned" + after)
    assert not app.exception
    assert str(app.subheader[0].value).startswith("40 models")


def test_the_collection_page_leads_back_to_all_models(open_page: Open) -> None:
    app = open_page("collection", c=OF_HEAD)
    assert str(app.subheader[0].value).startswith("24 models of one architecture, 21 layers comparable")
    assert "24 of 40 models are compared: those that have head.weight." in " ".join(str(c.value) for c in app.caption)
    app = open_page("collection", c="demo:planted")
    assert not [box for box in app.sidebar.selectbox if box.label == "Models with layer"]
