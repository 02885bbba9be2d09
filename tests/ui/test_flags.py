"""Copies and re-initialised models are named on the collection page as soon as it is open, without reading weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from tests.test_flags import SHAPE, fresh, siblings
from tests.ui.conftest import Open
from tests.ui.test_own_folder import open_folder
from tests.ui.test_pages import told
from uws_core import run
from uws_core.collection import collect


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """Eight siblings of which one was started anew and one is a copy."""
    place = tmp_path / "family"
    place.mkdir()
    rows = siblings(seed=77)
    rows[5] = fresh(78)
    for i, row in enumerate(rows):
        save_file({"w": row.reshape(SHAPE).astype("float32")}, place / f"m{i}.safetensors")
    shutil.copy(place / "m2.safetensors", place / "m7.safetensors")
    return place


def test_copies_are_named_at_once_and_nothing_is_read(
    open_page: Open, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("collection")
    monkeypatch.setattr(run, "scan", lambda *_, **__: pytest.fail("a scan was started"))
    said = told(open_folder(app, family)).replace("\\", "")
    assert "**m2 and m7** have the same content: one digest of all their files" in said
    assert "shows in its entries once a layer has been read: press Scan below" in said
    assert "re-initialised:" not in said


def test_a_model_that_was_started_anew_is_named_once_a_layer_was_read(open_page: Open, family: Path) -> None:
    app = open_page("collection")
    list(run.scan(collect(family)))
    said = told(open_folder(app, family)).replace("\\", "")
    assert "**m5** looks re-initialised: in w: its entries are normal random numbers" in said
    assert "Looked at in the 1 of 1 layers that have been read." in said


def test_where_nothing_is_odd_one_quiet_line_says_what_was_looked_at(
    open_page: Open, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests have models of the same content, and may have read them.
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "results"))
    app = open_folder(open_page("collection"), models)
    before = told(app)
    assert "No two models have the same content; whether any was re-initialised" in before
    list(run.scan(collect(models)))
    after = told(app.run())
    assert "No two models have the same content; none looks re-initialised in the 2 of 2 layers" in after
    assert ":material/flag:" not in after
