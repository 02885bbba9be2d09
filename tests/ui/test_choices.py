"""What may be chosen about how a place is read, on the page: it changes what opens, and stays with what was opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from streamlit.testing.v1 import AppTest

from tests.hub_fixtures import standin
from tests.hub_standin import HubStandIn
from tests.ui.conftest import Open
from tests.ui.test_own_folder import open_folder
from tests.ui.test_pages import answer, told
from tests.ui.test_places import finish, search
from tests.written import model, pair, written
from uws_core.ui import saved_collections
from uws_core.ui.catalogue import catalogue

__all__ = ["standin"]


@pytest.fixture
def vocabularies(tmp_path: Path) -> Path:
    """Three models whose heads have different numbers of rows."""
    place = tmp_path / "vocabularies"
    place.mkdir()
    for i in range(3):
        save_file(model(i, head=10 + i), place / f"m{i}.safetensors")
    return place


@pytest.fixture
def pickles(tmp_path: Path) -> Path:
    """Three models in torch's own files."""
    place = tmp_path / "pickles"
    place.mkdir()
    for i in range(3):
        torch.save(model(i), place / f"m{i}.pt")
    return place


def layers(app: AppTest) -> list[str]:
    return list(next(one.value for one in app.dataframe if "scree" in one.value.columns)["layer"])


def choose(app: AppTest, key: str, **chosen: bool | str) -> AppTest:
    for name, value in chosen.items():
        boxes = app.selectbox if isinstance(value, str) else app.toggle
        boxes(key=f"{key}.{name}").set_value(value).run()  # type: ignore[operator]
    return app


@pytest.mark.usefixtures("own_shelf")
def test_common_rows_are_compared_when_chosen_and_still_after_a_restart(
    open_page: Open, vocabularies: Path, restart: Callable[[], None]
) -> None:
    app = open_folder(open_page("collection"), vocabularies)
    plain = str(app.query_params["c"])
    assert not [name for name in layers(app) if name.startswith("head")]
    app = open_folder(choose(app, "folder", common_rows=True), vocabularies)
    link = str(app.query_params["c"])
    assert link != plain
    assert "head.weight[:10]" in layers(app)
    restart()
    assert "head.weight[:10]" in layers(open_page("collection", c=link))
    assert not [name for name in layers(open_page("collection", c=plain)) if name.startswith("head")]
    assert catalogue().title(link).endswith("(rows in common)")
    assert "vocabularies (rows in common)" in catalogue().about(link)


@pytest.mark.usefixtures("own_shelf")
def test_one_dialect_is_taken_when_chosen(open_page: Open, tmp_path: Path) -> None:
    place = tmp_path / "adapters"
    for i in range(4):
        up, down = pair(i)
        ends = ("lora_A.weight", "lora_B.weight") if i % 2 else ("lora_down.weight", "lora_up.weight")
        name = "base_model.model.blocks.0.q" if i % 2 else "lora_unet_blocks_0_q"
        written(place / f"a{i}", {f"{name}.{ends[0]}": down, f"{name}.{ends[1]}": up})
    app = open_folder(choose(open_page("collection"), "folder", dialect="peft"), place)
    assert catalogue().get(str(app.query_params["c"])).labels == ("a1", "a3")  # type: ignore[union-attr]


@pytest.mark.usefixtures("own_shelf")
def test_pickled_files_are_opened_only_by_choice_and_the_page_warns(
    open_page: Open, pickles: Path, restart: Callable[[], None]
) -> None:
    app = open_folder(open_page("collection"), pickles)
    assert "no model that can be read" in told(app).replace("\\", "")
    app = choose(app, "folder", pickled=True)
    assert "weights-only loader" in told(app)
    app = open_folder(app, pickles)
    assert "3 models of one architecture" in answer(app)
    assert "Pickled files are read here" in told(app)
    link = str(app.query_params["c"])
    # A collection saved from it keeps the choice; the same file from elsewhere does not bring it along.
    saved = saved_collections.keep(catalogue().get(link))  # type: ignore[arg-type]
    restart()
    assert "3 models of one architecture" in answer(open_page("collection", c=saved))
    path = saved_collections.path_of(saved) or Path()
    sent = saved_collections.keep_text("sent", path.read_text())
    assert "no model that can be read" in (catalogue().open(sent).problem)
    path.write_text(path.read_text() + "# changed\n")
    assert not saved_collections.trusted(path)


@pytest.mark.usefixtures("own_shelf")
def test_an_uploaded_pickle_is_refused_unless_chosen(open_page: Open) -> None:
    import io

    def pickled(seed: int) -> bytes:
        place = io.BytesIO()
        torch.save(model(seed), place)
        return place.getvalue()

    app = open_page("collection")
    files = [(f"m{i}.bin", pickled(i), "application/octet-stream") for i in range(2)]
    app.file_uploader(key="upload.files").set_value(files).run()
    app.button(key="upload.open").click().run()
    assert "m0.bin is a pickled file" in told(app).replace("\\", "")
    assert saved_collections.listed() == ()
    choose(app, "upload", pickled=True)
    app.file_uploader(key="upload.files").set_value(files).run()
    app.button(key="upload.open").click().run()
    assert "2 models of one architecture" in answer(app)
    assert catalogue().get(str(app.query_params["c"])).labels == ("m0", "m1")  # type: ignore[union-attr]


@pytest.mark.usefixtures("own_shelf")
def test_models_of_the_hub_are_compared_in_common_rows_by_choice(
    open_page: Open, standin: HubStandIn, restart: Callable[[], None]
) -> None:
    for i in range(3):
        standin.add(f"lab/m{i}", {"model.safetensors": save(model(i, head=10 + i))})
    app = search(open_page("collection"), "lab/*")
    assert app.toggle(key="hub.pickled").disabled
    choose(app, "hub", common_rows=True)
    app.button(key="hub.open").click().run()
    app = finish(app)
    assert "head.weight[:10]" in layers(app)
    link = str(app.query_params["c"])
    restart()
    assert "head.weight[:10]" in layers(open_page("collection", c=link))


@pytest.mark.usefixtures("own_shelf")
def test_a_remembered_folder_with_a_choice_nobody_can_make_is_forgotten(
    open_page: Open, models: Path, restart: Callable[[], None]
) -> None:
    from uws_core.store.results import default_store

    app = open_folder(open_page("collection"), models)
    link = str(app.query_params["c"])
    default_store().put(f"opened/{link}", f'{{"path": "{models}", "pickled": "yes"}}'.encode())
    restart()
    assert link not in catalogue().ids()
