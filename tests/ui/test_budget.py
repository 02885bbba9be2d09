"""The about page says how much memory reading may take, and what has no room points there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import uws_core as uws
from tests.ui.conftest import Open
from tests.ui.test_pages import told
from uws_core.nouns.query import RebuildQuery
from uws_core.passes.options import ComputeOptions
from uws_core.ui import compute, grams
from uws_core.ui.reconstruction import folds

MIB = 2**20


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: Callable[[], None]) -> None:
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("UWS_BUDGET", "64MiB")
    restart()


@pytest.mark.usefixtures("own")
def test_the_field_sets_what_every_pass_takes(open_page: Open) -> None:
    app = open_page("about")
    assert app.number_input[0].value == 64
    app.number_input[0].set_value(512).run()
    assert not app.exception
    assert ComputeOptions().budget == compute.options("double").budget == 512 * MIB
    assert app.number_input[0].value == 512
    assert "This machine has" in told(app)


@pytest.mark.usefixtures("own")
def test_an_amount_that_is_none_is_said_and_leaves_the_usual_one(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_BUDGET", "plenty")
    app = open_page("about")
    assert not app.exception
    assert any("UWS" in one.value and "256 MiB" in one.value for one in app.warning)
    assert compute.options().budget == 256 * MIB


def test_what_has_no_room_is_refused_with_the_figure_and_the_way_out(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: Callable[[], None]
) -> None:
    restart()
    monkeypatch.setenv("UWS_BUDGET", "1")
    app = open_page("collection", c="demo:scratch")
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "own"))
    app.run()
    assert not app.exception
    assert "one row of 41 models takes" in told(app) or "one row of 40 models takes" in told(app)
    assert "About page" in told(app)
    assert "Scan" not in [button.label for button in app.main.button]
    os.environ["UWS_BUDGET"] = "256MiB"
    app.run()
    assert "one row of" not in told(app)


@pytest.mark.usefixtures("own")
def test_adapters_cost_what_their_factors_take() -> None:
    collection = uws.collect("demo:lora")
    names = [layer.name for layer in collection.layers if not layer.factor]
    price = grams.cost(collection, names)
    files = sum(
        collection.by_name[f"{name}:{side}"].entries * 4 * len(collection) for name in names for side in ("A", "B")
    )
    assert price.bytes == pytest.approx(files, rel=0.05)


@pytest.mark.usefixtures("own")
def test_errands_keep_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = uws.collect("demo:planted")
    query = RebuildQuery("demo:planted", collection.fingerprint, (0, 1, 2, 3), (collection.layers[0].name,))
    taken: list[int] = []
    monkeypatch.setattr(
        "uws_core.passes.per_model_svd.per_model_svds",
        lambda *given, options, **more: taken.append(options.budget) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        folds.per_model_svd(query, collection)
    assert taken == [64 * MIB]
