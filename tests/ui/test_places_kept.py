"""What a saved collection keeps of where it came from, and what its file says on another machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.hub_fixtures import files, standin
from tests.hub_standin import HubStandIn
from tests.ui.conftest import Open
from tests.ui.test_pages import answer, told
from tests.ui.test_places import finish, search
from uws_core.collection import collect
from uws_core.store.saved_collections import common_folder, read_saved, saved_text
from uws_core.ui import saved_collections

__all__ = ["standin"]

pytestmark = pytest.mark.usefixtures("own_shelf")


def kept(app: AppTest) -> Path:
    return saved_collections.path_of(str(app.query_params["c"])) or Path()


def test_what_a_query_could_not_list_stays_with_the_collection(open_page: Open, standin: HubStandIn) -> None:
    for i in range(4):
        standin.add(f"lab/m{i}", files(i), downloads=i)
    app = search(open_page("collection"), "lab/* lab/gone limit:3")
    app.button(key="hub.open").click().run()
    app = finish(app)
    assert "3 models of one architecture" in answer(app)
    reasons = {note.what: note.reason for note in read_saved(kept(app)).left_out}
    assert "lab/gone" in reasons
    assert "more models pass the query than its limit of 3" in reasons["lab/gone lab/* limit:3"]


def test_a_part_of_what_a_query_found_keeps_the_query(open_page: Open, standin: HubStandIn) -> None:
    for i in range(4):
        standin.add(f"lab/m{i}", files(i))
    app = search(open_page("collection"), "lab/*")
    app.button(key="hub.open").click().run()
    app = finish(app)
    name = next(one for one in app.text_input if str(one.key).startswith("save.name"))
    name.set_value("mine").run()
    app.button(key="save.keep").click().run()
    assert str(app.query_params["c"]).startswith("saved:mine-")
    assert read_saved(kept(app)).query == "lab/*"


def test_the_page_says_where_the_file_of_local_models_has_to_lie(open_page: Open, models: Path) -> None:
    app = open_page("collection")
    app.text_input(key="collection.path").set_value(str(models)).run()
    app.button(key="collection.open").click().run()
    words = told(app)
    assert "put the file into the folder that holds them" in words
    assert models.name in words


def test_a_file_that_was_not_put_beside_its_models_says_so(open_page: Open, models: Path) -> None:
    made = collect(models)
    text = saved_text(made, beside=common_folder(made.refs)).encode()
    app = open_page("collection")
    app.file_uploader(key="upload.files").set_value([("x.uws.toml", text, "application/toml")]).run()
    app.button(key="upload.open").click().run()
    assert "names its models by their place beside it" in told(app).replace("\\", "")
    assert saved_collections.listed() == ()
