"""Pages when results cannot be kept: what is wrong and the way out, never a bare exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ui.conftest import PAGES, Open
from tests.ui.test_pages import told

# Where the store opens is one place for all pages: a second kind of fault is looked at on three.
FAULTS = [(page, "a file in its place") for page in PAGES]
FAULTS += [(page, "an absurd limit") for page in ("about", "collection", "spectrum")]


@pytest.mark.parametrize(("page", "wrong"), FAULTS)
def test_a_store_that_cannot_be_used_is_said_on_every_page(
    page: str, wrong: str, open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: Callable[[], None]
) -> None:
    restart()
    place = tmp_path / "results"
    place.write_text("not a folder")
    if wrong == "a file in its place":
        monkeypatch.setenv("UWS_CACHE", str(place))
    else:
        monkeypatch.setenv("UWS_CACHE_LIMIT", "9" * 400)
    app = open_page(page, c="demo:planted")
    assert not app.exception
    assert "CACHE" in told(app)
    if page == "about":
        return
    assert "Try again" in [button.label for button in app.main.button]
    place.unlink()
    monkeypatch.delenv("UWS_CACHE_LIMIT", raising=False)
    app.button(key="store.again").click().run()
    assert not app.exception
    assert "Try again" not in [button.label for button in app.main.button]
