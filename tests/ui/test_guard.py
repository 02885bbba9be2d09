"""The first session of a server can reach a page past the entry; the guard leads it through the entry and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES)
def test_a_page_reached_past_the_entry_comes_back_with_sidebar_and_address(
    page: str, shared_results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_CACHE", str(shared_results))
    config.get_config_options()
    config.set_option("runner.enforceSerializableSessionState", False)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    app.query_params = {"c": ["demo:planted"], "m": ["rows:0-9", "rows:20-29"]}
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    assert app.title[0].value.lower() == page
    assert app.sidebar.selectbox[0].value == "demo:planted"
    assert "20 of 40 models" in app.sidebar.caption[0].value
    assert app.query_params["m"] == ["rows:0-9", "rows:20-29"]
