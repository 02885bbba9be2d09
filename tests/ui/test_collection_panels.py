"""What the collection page says of its models and layers, and how the files were read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open
from uws_core.ui.catalogue import catalogue


def table(app: AppTest, *columns: str) -> pd.DataFrame:
    """The first table of the page that has these columns."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return next(one.value for one in app.dataframe if set(columns) <= set(one.value.columns))


def test_the_layers_say_what_reading_them_costs(open_page: Open, models: Path) -> None:
    link = catalogue().add(str(models))
    # Twelve by six weights of four bytes, of eight models and then of those chosen.
    assert list(table(open_page("collection", c=link), "scree", "bytes")["bytes"]) == [8 * 12 * 6 * 4] * 2
    assert list(table(open_page("collection", c=link, m=["colour=red"]), "scree", "bytes")["bytes"]) == [4 * 288] * 2


def test_an_adapters_layer_costs_its_factors_only(open_page: Open) -> None:
    frame = table(open_page("collection", c="demo:lora"), "scree", "bytes")
    whole = frame[~frame["layer"].str.contains(":")]
    assert (whole["bytes"] < 40 * 4 * whole["weights"]).all()
    assert (whole["bytes"] > 0).all()
