"""The spreadsheet of attributes: texts there and typed values back, kept with the models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ui.conftest import Open
from uws_core.collection import collect
from uws_core.ui.collection import attributes


def test_a_table_of_texts_and_back(models: Path) -> None:
    made = collect(models)
    frame = attributes.as_texts(made, added="seed")
    assert frame.columns == ["model", "seed", "colour"]
    assert attributes.from_texts(frame) == {"colour": made.table["colour"], "seed": (None,) * 8}
    typed = frame.with_columns(seed=frame["model"].str.slice(1))
    assert attributes.cells_changed(frame, typed) == 8
    typed = typed.with_columns(good=frame["colour"].eq("red").cast(str))
    assert attributes.from_texts(typed)["seed"] == tuple(range(8))
    assert attributes.from_texts(typed)["good"] == (True,) * 4 + (False,) * 4
    assert attributes.as_texts(made, dropped=["colour"]).columns == ["model"]
    assert attributes.as_texts(made, added="model").columns == ["model", "colour"]


@pytest.mark.usefixtures("own_shelf")
def test_attributes_are_kept_with_the_collection(open_page: Open, models: Path, restart: Callable[[], None]) -> None:
    app = open_page("collection")
    app.text_input(key="collection.path").set_value(str(models)).run()
    app.button(key="collection.open").click().run()
    new = next(one for one in app.text_input if str(one.key).startswith("attributes.new"))
    new.set_value("mood").run()
    next(one for one in app.multiselect if str(one.key).startswith("attributes.drop")).select("colour").run()
    app.button(key="attributes.keep").click().run()
    link = str(app.query_params["c"])
    restart()
    app = open_page("collection", c=link)
    shown = next(one.value for one in app.dataframe if "commit" in one.value.columns)
    assert "mood" in shown.columns
    assert "colour" not in shown.columns
    assert (models / "models.csv").read_text().startswith("model,colour")
    app.button(key="attributes.undo").click().run()
    shown = next(one.value for one in app.dataframe if "commit" in one.value.columns)
    assert "colour" in shown.columns
