"""Seconds from the answer of a new server's port to the first figure in a browser, and of that browser's second visit.

With `UWS_BEFORE` naming an older checkout, that version runs in turn with this one.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.bench.measure import table, verdict
from tests.sessions import ROOT, cold_server

pytestmark = [pytest.mark.bench, pytest.mark.e2e]

FIRST_SECONDS, SECOND_SECONDS, SANE = 3.0, 1.0, 3
ROUNDS = int(os.environ.get("UWS_ROUNDS", "5"))


def test_first_and_second_visit(browser: Browser, tmp_path: Path) -> None:
    apps = {"now": ROOT / "app.py"}
    if os.environ.get("UWS_BEFORE"):
        apps = {"before": Path(os.environ["UWS_BEFORE"]) / "app.py"} | apps
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(ROUNDS):
        for name, app in apps.items():
            folder = tmp_path / f"{name}-{turn}"
            folder.mkdir()
            with cold_server(folder, app=app) as url:
                visitor = browser.new_context(viewport={"width": 1280, "height": 900})
                for visit in ("first", "second"):
                    seconds.setdefault((name, visit), []).append(_visit(visitor, url))
                visitor.close()
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    rows = [[name, visit, medians[name, visit], *sorted(seconds[name, visit])] for name, visit in medians]
    table("First figure in a browser, seconds", ["version", "visit", "median", *(["run"] * ROUNDS)], rows)
    print(f"first visit {verdict(medians['now', 'first'], FIRST_SECONDS)} s")
    print(f"second visit {verdict(medians['now', 'second'], SECOND_SECONDS)} s")
    assert medians["now", "first"] <= SANE * FIRST_SECONDS
    assert medians["now", "second"] <= SANE * SECOND_SECONDS


def _visit(visitor: BrowserContext, url: str) -> float:
    """Seconds until a curve of the first figure is drawn, in a tab of its own."""
    page = visitor.new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(".scatterlayer .trace", timeout=60_000)
    waited = time.perf_counter() - began
    page.close()
    return waited
