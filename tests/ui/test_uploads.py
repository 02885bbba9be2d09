"""Uploaded adapters keep the scale that their configuration tells, and what is missing is said."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open
from tests.ui.test_pages import answer, told
from tests.written import model, pair
from uws_core.errors import UwsError
from uws_core.nouns.models import Collection
from uws_core.reporting.loader import models_of, report_of
from uws_core.ui.catalogue import catalogue
from uws_core.ui.uploads import planned

File = tuple[str, bytes]


def adapter(seed: int, notes: dict[str, str] | None = None) -> bytes:
    up, down = pair(seed)
    name = "base_model.model.blocks.0.q"
    return save({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, notes)


def config(alpha: float) -> bytes:
    return json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": alpha}).encode()


def upload(app: AppTest, files: list[File]) -> AppTest:
    app.file_uploader(key="upload.files").set_value([(*one, "application/octet-stream") for one in files]).run()
    return app.button(key="upload.open").click().run()


def opened(app: AppTest) -> Collection:
    found = catalogue().get(str(app.query_params["c"]))
    assert found is not None
    return found


def scales(found: Collection) -> dict[str, float]:
    return {one.label: scale.scale for one in models_of(found) for scale in report_of(one).scales}


TWO = [("a.safetensors", adapter(0)), ("b.safetensors", adapter(1))]


@pytest.mark.usefixtures("own_shelf")
@pytest.mark.parametrize("alpha", [4, 64])
def test_one_configuration_is_taken_for_all_adapters_that_lack_one(open_page: Open, alpha: float) -> None:
    app = upload(open_page("collection"), [*TWO, ("adapter_config.json", config(alpha)), ("config.json", b"{}")])
    assert "2 models of one architecture" in answer(app)
    found = opened(app)
    assert scales(found) == {"a": alpha / 2, "b": alpha / 2}
    notes = {one.what: one.reason for one in found.left_out}
    assert notes["adapter_config.json"] == "taken for all 2 adapters that brought none of their own: a, b"
    assert notes["config.json"].startswith("not needed")
    assert "assumed" not in told(app)


@pytest.mark.usefixtures("own_shelf")
def test_without_a_configuration_the_page_says_that_the_scale_is_assumed(open_page: Open) -> None:
    app = upload(open_page("collection"), TWO)
    assert scales(opened(app)) == {"a": 1.0, "b": 1.0}
    said = told(app).replace("\\", "")
    assert "The scale of the updates is assumed to be 1: no alpha in the file and no adapter_config.json" in said


@pytest.mark.usefixtures("own_shelf")
def test_configurations_named_after_their_weights_are_theirs(open_page: Open) -> None:
    files = [*TWO, ("a.adapter_config.json", config(4)), ("b_adapter_config.json", config(64))]
    assert scales(opened(upload(open_page("collection"), files))) == {"a": 2.0, "b": 32.0}
    folders = [
        ("x/adapter_model.safetensors", adapter(0)),
        ("x/adapter_config.json", config(4)),
        ("y/adapter_model.safetensors", adapter(1)),
        ("y/adapter_config.json", config(64)),
    ]
    plan = dict(planned(folders).files)
    assert plan["adapter_model/adapter_config.json"] == config(4)
    assert plan["adapter_model-2/adapter_config.json"] == config(64)


@pytest.mark.usefixtures("own_shelf")
def test_several_configurations_without_an_owner_are_asked_about(open_page: Open) -> None:
    two = [("adapter_config.json", config(4)), ("adapter_config.json", config(64))]
    said = told(upload(open_page("collection"), [*TWO, *two])).replace("\\", "")
    assert "2 different files adapter_config.json, and nothing says whose they are" in said
    assert "a.adapter_config.json" in said
    assert len(planned([*TWO, two[0], two[0]]).files) == 4, "twice the same is one"


def test_a_configuration_goes_to_adapters_without_one_of_their_own_only() -> None:
    own = adapter(2, {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 4})})
    files = [*TWO, ("c.safetensors", own), ("d.safetensors", save(model())), ("adapter_config.json", config(64))]
    plan = planned(files)
    assert {name for name, _ in plan.files if name.endswith(".json")} == {
        "a/adapter_config.json",
        "b/adapter_config.json",
    }
    alone = planned([("d.safetensors", save(model())), ("adapter_config.json", config(64))])
    assert [name for name, _ in alone.files] == ["d/d.safetensors"]
    assert "no weights among the uploaded files look for it" in alone.notes[0].reason


def test_a_configuration_alone_is_no_model() -> None:
    with pytest.raises(UwsError, match="no weights among the uploaded files"):
        planned([("adapter_config.json", config(4))])
