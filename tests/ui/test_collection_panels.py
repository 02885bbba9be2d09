"""What the collection page says of its models and layers, and how the files were read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open
from tests.written import model, pair, written
from uws_core.ui.catalogue import catalogue


def table(app: AppTest, *columns: str) -> pd.DataFrame:
    """The first table of the page that has these columns."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return next(one.value for one in app.dataframe if set(columns) <= set(one.value.columns))


def test_the_layers_say_what_reading_them_costs(open_page: Open, models: Path) -> None:
    link = catalogue().add(str(models))
    # Twelve by six weights of four bytes, of eight models and then of those chosen.
    assert list(table(open_page("collection", c=link), "scree", "bytes")["bytes"]) == [8 * 12 * 6 * 4 / 1024] * 2
    assert (
        list(table(open_page("collection", c=link, m=["colour=red"]), "scree", "bytes")["bytes"])
        == [4 * 288 / 1024] * 2
    )


def test_an_adapters_layer_costs_its_factors_only(open_page: Open) -> None:
    frame = table(open_page("collection", c="demo:lora"), "scree", "bytes")
    whole = frame[~frame["layer"].str.contains(":")]
    assert (1024 * whole["bytes"] < 40 * 4 * whole["weights"]).all()
    assert (whole["bytes"] > 0).all()


def unfold(app: AppTest) -> AppTest:
    app.session_state["loader.open"] = True
    return app.run()


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """Two adapters, one with a key that nobody knows, and a checkpoint that is left out."""
    place = tmp_path / "adapters"
    for i in range(2):
        up, down = pair(i)
        name = "base_model.model.blocks.0.q"
        tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up, "somebody.else": torch.zeros(2)}
        written(place / f"a{i}", tensors, {"peft_type": "LORA", "r": 2, "lora_alpha": 8})
    (place / "whole").mkdir()
    save_file(model(), place / "whole" / "model.safetensors")
    return place


def test_the_loader_report_lists_every_key_and_says_where_the_scale_was_found(open_page: Open, adapters: Path) -> None:
    app = open_page("collection", c=catalogue().add(str(adapters)))
    assert not [one for one in app.dataframe if "fate" in one.value.columns], "folded, so not read"
    app = unfold(app)
    keys = table(app, "key", "fate")
    assert dict(zip(keys["key"], keys["fate"], strict=True)) == {
        "base_model.model.blocks.0.q.lora_A.weight": "used",
        "base_model.model.blocks.0.q.lora_B.weight": "used",
        "somebody.else": "unknown",
    }
    (where,) = table(app, "scale", "where")["where"]
    assert where == "adapter_config.json: lora_alpha 8 / rank 2"
    assert {one.proto.label for one in app.get("download_button")} >= {"CSV", "Parquet"}
    said = "peft adapter, 3 keys: 2 used, 0 ignored, 1 unknown, 0 unmatched"
    assert [one.value for one in app.caption if said in one.value.replace("\\", "")]


def test_a_model_that_was_left_out_has_its_report_too(open_page: Open, adapters: Path) -> None:
    link = catalogue().add(str(adapters))
    app = unfold(open_page("collection", c=link))
    box = app.selectbox(key=f"loader.model.{link}")
    assert "whole (left out)" in box.options
    box.select("whole").run()
    assert set(table(app, "key", "fate")["key"]) == set(model())
