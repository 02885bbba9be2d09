"""What is folded is sent when a reader opens it, and not before."""

from __future__ import annotations

import pytest

from tests.ui.conftest import Open
from uws_core.ui import page

REAL = page.is_open


@pytest.mark.parametrize(("word", "label"), [("spectrum", "Directions"), ("lineage", "Pairs"), ("evidence", "Claims")])
def test_a_table_comes_when_its_box_is_opened(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, word: str, label: str
) -> None:
    monkeypatch.setattr(page, "is_open", REAL)
    app = open_page(word, c="demo:planted")
    before = len(app.dataframe)
    assert not app.get("download_button") or word == "evidence"
    app.session_state[f"fold.{label}"] = True
    app.run()
    assert not app.exception
    assert len(app.dataframe) == before + 1
    app.session_state[f"fold.{label}"] = False
    app.run()
    assert len(app.dataframe) == before


def test_an_export_comes_when_its_corner_is_opened(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "is_open", REAL)
    app = open_page(c="demo:planted")
    assert not app.get("download_button")
    app.session_state["export.scree"] = True
    app.run()
    assert {one.proto.label for one in app.get("download_button")} >= {"CSV", "Parquet", "HTML", "PDF", "Bundle"}
