"""Every page on a results file: what needs no weights is shown, what needs them says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.conftest import PAGES, Open, drawn
from uws_core import run
from uws_core.collection import collect
from uws_core.errors import UnreadableFile
from uws_core.reporting.results_file import write_results
from uws_core.store.results import Store
from uws_core.ui import saved_collections
from uws_core.ui.collection import opening

WITHOUT = {"about", "collection", "spectrum", "lineage", "evidence"}
WITH = {"angles", "compress", "merge", "reconstruction"}


@pytest.fixture
def kept(models: Path, tmp_path: Path, own_shelf: Path) -> str:
    """The id of an uploaded results file of eight models, which lie here no more."""
    collection = collect(models)
    path = tmp_path / "lab.uws.zip"
    with Store(tmp_path / "elsewhere") as store:
        list(run.scan(collection, store=store))
        write_results(path, collection, collection.layers, store=store)
    models.rename(tmp_path / "gone")
    return opening.open_file("lab.uws.zip", path.read_bytes())


def test_every_page_opens_on_results_without_weights(kept: str, open_page: Open):
    for page in PAGES:
        app = open_page(page, c=kept)
        assert not app.exception, page
        assert app.sidebar.selectbox[0].value == kept
        problems = [each.value for each in app.main.markdown if ":material/info:" in each.value]
        if page in WITHOUT:
            assert problems == [], page
        if page in WITH:
            assert "came without them" in "".join(problems), page
        if page in WITHOUT - {"about", "collection"}:
            assert drawn(app), page


def test_a_file_of_a_folder_is_opened_from_the_path_box(kept: str, open_page: Open, tmp_path: Path):
    saved_collections.remove(kept)
    app = open_page("collection")
    app.text_input(key="collection.path").set_value(str(tmp_path / "lab.uws.zip"))
    app.button(key="collection.open").click().run()
    assert not app.exception
    assert app.query_params["c"] in (kept, [kept])
    app.text_input(key="collection.path").set_value("/etc/lab.uws.zip")
    app.button(key="collection.open").click().run()
    assert any("lies outside the folders" in each.value for each in app.main.markdown)


def test_a_foreign_archive_is_refused_by_its_own_name(own_shelf: Path):
    with pytest.raises(UnreadableFile, match=r"^photos.zip is no results file"):
        opening.open_file("photos.zip", b"PK\x05\x06" + bytes(18))
    assert saved_collections.listed() == ()
