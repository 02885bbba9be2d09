"""The app without a browser: one store and warm caches for all page tests."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from safetensors.numpy import save_file
from streamlit import config
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.caching.cache_utils import CachedFunc
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest, app_test

from tests.planted import spiked
from uws_core.ui import grams, saved_collections

# The harness asks every installed package for components each time an app is opened, 0.13 s of a visit of 0.2; none is
# installed while tests run.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
Open = Callable[..., AppTest]


def drawn(app: AppTest) -> list[dict[str, Any]]:
    """The figures of a page as plotly's JSON, in the order they stand."""
    return [each["figure"] for each in _told(app) if "figure" in each]


def sliders(app: AppTest) -> dict[str, dict[str, Any]]:
    """What the sliders of a page were told, by their names."""
    return {each["name"]: each for each in _told(app) if "texts" in each}


def _told(app: AppTest) -> list[dict[str, Any]]:
    # What asks for plotly's script says so in another form.
    return [json.loads(each.proto.bytes) for each in app.get("bidi_component") if each.proto.bytes]


def after_work(app: AppTest, ready: Callable[[], bool], *, seconds: float = 180.0) -> None:
    """Run a page anew until it is `ready`, each time once no job runs: looking on costs 0.3 s of a core a time."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, [each.value for each in (*app.subheader, *app.markdown, *app.caption)]
        jobs = [job.key for job in grams.jobs().jobs() if job.status.active]
        for key in jobs:
            grams.jobs().wait(key, seconds=max(end - time.monotonic(), 0.0))
        if not jobs:
            time.sleep(0.05)
        app.run()


@pytest.fixture(scope="session")
def shared_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that page tests share, also those of other workers, so that each built-in collection is read once."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared results"


@pytest.fixture
def open_page(shared_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open a page by its word with address parameters, nothing on it folded; roots are this test's own folder.

    Jobs that a page began and the test did not wait for end with it: two of a test took 20 s of a core from others.
    """
    monkeypatch.setattr("uws_core.ui.page.is_open", lambda box: True)
    monkeypatch.setenv("UWS_CACHE", str(shared_results))
    monkeypatch.setenv("UWS_ROOTS", str(tmp_path))
    # The harness starts every run as if it were the first of a server; see `test_guard` for that one.
    monkeypatch.setattr(app_test, "PagesManager", type("LaterPagesManager", (PagesManager,), {}))
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    # The test harness keeps objects of its own in the session that do not pickle; the real server keeps the rule.
    config.get_config_options()
    config.set_option("runner.enforceSerializableSessionState", False)

    def opened(page: str = "", **params: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
        app.query_params = {key: value if isinstance(value, list) else [value] for key, value in params.items()}
        # Straight there: the start page draws the spectrum first, a fifth of the time of all page tests.
        return (app.switch_page(f"pages/{page}.py") if page else app).run()

    yield opened
    for job in grams.jobs().jobs():
        grams.jobs().cancel(job.key)


@pytest.fixture
def restart() -> Iterator[Callable[[], None]]:
    """Forget all that the server holds in memory, now and when the test ends."""

    def forget() -> None:
        st.cache_data.clear()
        st.cache_resource.clear()

    yield forget
    forget()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with eight models of two layers and a table, as a person would have it."""
    folder = tmp_path / "my models"
    folder.mkdir()
    rows = spiked(8, 12 * 6, strengths=(30.0, 20.0), seed=3).astype("float32")
    for i, row in enumerate(rows):
        tensors = {"blocks.0.up.weight": row.reshape(12, 6), "blocks.1.up.weight": row[::-1].reshape(12, 6).copy()}
        save_file(tensors, folder / f"m{i}.safetensors")
    table = "".join(f"m{i},{'red' if i < 4 else 'blue'}\n" for i in range(8))
    (folder / "models.csv").write_text(f"model,colour\n{table}")
    return folder


@pytest.fixture
def own_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of saved collections of this test's own, and a server that remembers no collection and no search.

    Numbers of pages stay: they are kept under what the models hold, and make up most of a visit.
    """
    monkeypatch.setattr(saved_collections, "folder", lambda: tmp_path / "saved")
    _forget_collections()
    yield tmp_path / "saved"
    _forget_collections()


def _forget_collections() -> None:
    st.cache_resource.clear()
    for name, module in list(sys.modules.items()):
        if name in ("uws_core.ui.catalogue", "uws_core.ui.grams") or name.startswith("uws_core.ui.collection."):
            for each in vars(module).values():
                if isinstance(each, CachedFunc):
                    each.clear()
