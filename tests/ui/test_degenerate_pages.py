"""Every page of collections with layers that carry nothing: it answers, and never breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.degenerate import LAYERS, write
from tests.ui.conftest import PAGES, Open

# Each layer alone with a usual one behind it, so that the pages open on the first; then mixtures, and all of them.
MIXTURES = [
    *((name, "usual") for name in LAYERS if name != "usual"),
    ("equal",),
    ("not_finite", "one_left"),
    ("zero", "equal", "constant"),
    tuple(LAYERS),
]


def opened(open_page: Open, folder: Path) -> AppTest:
    app = open_page("collection")
    app.default_timeout = 120
    app.text_input(key="collection.path").set_value(str(folder)).run()
    return app.button(key="collection.open").click().run()


@pytest.mark.parametrize("names", MIXTURES, ids="-".join)
def test_every_page_answers(open_page: Open, tmp_path: Path, names: tuple[str, ...]) -> None:
    app = opened(open_page, write(tmp_path / "models", names))
    assert not app.exception, names
    for page in PAGES:
        app.switch_page(f"pages/{page}.py").run()
        assert not app.exception, (page, names, [each.message for each in app.exception])
        assert app.main.children, page
