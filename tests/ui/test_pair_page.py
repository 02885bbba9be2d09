"""The pair page: two models layer by layer, from the Grams and from their weights, and what the address says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import uws_core as uws
from tests.ui.conftest import Open, drawn
from tests.ui.test_own_folder import open_folder
from uws_core.passes.changed import changed_share


@pytest.fixture
def patched(models: Path) -> Path:
    """The eight models, of which `m1` is `m0` with 9 of 72 entries of its first layer changed along one direction."""
    tensors = load_file(models / "m0.safetensors")
    patch = np.outer([1.0] * 3 + [0.0] * 9, [0.5] * 3 + [0.0] * 3).astype(np.float32)
    save_file(tensors | {"blocks.0.up.weight": tensors["blocks.0.up.weight"] + patch}, models / "m1.safetensors")
    return models


def test_changed_entries_are_counted_and_nan_is_equal_to_nan(patched: Path) -> None:
    tensors = load_file(patched / "m0.safetensors")
    tensors["blocks.1.up.weight"][0, 0] = np.nan
    save_file(tensors, patched / "m0.safetensors")
    save_file(tensors | {"blocks.0.up.weight": -tensors["blocks.0.up.weight"]}, patched / "m2.safetensors")
    collection = uws.collect(patched)
    assert changed_share(collection, "blocks.0.up.weight", 0, 1) == 9 / 72
    assert changed_share(collection, "blocks.1.up.weight", 0, 1) == 1 / 72
    assert changed_share(collection, "blocks.1.up.weight", 0, 2) == 0
    assert changed_share(collection, "blocks.0.up.weight", 0, 2) == 1


def test_updates_in_factors_are_compared_multiplied_out() -> None:
    collection = uws.collect("demo:lora")
    layer = collection.layers[0]
    assert changed_share(collection, layer, 0, 0) == 0
    assert changed_share(collection, layer, 0, 1) > 0.99


def test_the_page_shows_where_two_models_differ(open_page: Open, patched: Path) -> None:
    app = open_folder(open_page("collection"), patched)
    app.query_params["pair"] = ["m0", "m1"]
    app.switch_page("pages/pair.py").run()
    assert not app.exception
    assert re.search("differ in 1 of 2 layers, most in `.*0.up`", app.subheader[0].value)
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers["Layers that differ"] == "1"
    assert numbers["Changed entries"] == "6.2 %"
    (table,) = [each.value for each in app.dataframe if "changed" in each.value.columns]
    assert list(table["changed"]) == [0.125, 0.0]
    assert table["effective_rank"][0] == pytest.approx(1.0, abs=1e-3)
    assert len(drawn(app)[0]["data"][0]["x"]) == 2
    next(switch for switch in app.toggle if switch.label == "Only what differs").set_value(True).run()
    assert len(drawn(app)[0]["data"][0]["x"]) == 1
    assert app.query_params["pair"] == ["m0", "m1"]


@pytest.mark.parametrize("page", ["angles", "lineage"])
def test_the_pair_of_a_heatmap_leads_to_the_page(open_page: Open, page: str) -> None:
    labels = uws.collect("demo:planted").labels
    app = open_page(page, c="demo:planted", pair=[labels[3], labels[7]])
    app.button(key=f"pair.{page}").click().run()
    assert not app.exception
    assert app.title[0].value == "Pair"
    assert app.query_params["pair"] == [labels[3], labels[7]]
    assert labels[3] in app.subheader[0].value


def test_names_that_are_unknown_give_the_first_two(open_page: Open) -> None:
    app = open_page("pair", c="demo:planted", pair=["<b>", "../etc"])
    assert not app.exception
    labels = uws.collect("demo:planted").labels
    assert app.query_params["pair"] == list(labels[:2])
