"""Work that takes longer than a click: it shows progress, goes on while one looks elsewhere, and stops when told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, answer, write_models

pytestmark = pytest.mark.e2e


def test_a_job_shows_goes_on_elsewhere_stops_and_can_be_taken_up(server: Server, page: Page) -> None:
    # Many small reads: some ten seconds of work in a few megabytes.
    folder = server.root / "many"
    write_models(folder, models=200, layers=80)
    page.goto(server.link("collection"))
    page.get_by_role("tab", name="Folder").click()
    page.get_by_role("textbox", name="Open a folder of your own").fill(str(folder))
    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    expect(answer(page)).to_contain_text("200 models of one architecture, 80 layers comparable")
    expect(page.get_by_text("layers have not been read")).to_contain_text("takes about")
    page.get_by_role("button", name="Scan").click()
    expect(page.get_by_test_id("stSidebar").get_by_text("Reading 80 layers of 200 models")).to_be_visible()
    page.get_by_role("link", name="About").click()
    expect(page.get_by_test_id("stSidebar").get_by_text("Reading 80 layers")).to_contain_text(re.compile(r"\d+%"))
    page.get_by_role("link", name="Collection").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped; what was finished is kept.")).to_be_visible()
    expect(page.get_by_text("layers have not been read")).to_contain_text(re.compile(r"^\d\d? of 80 layers"))
    page.get_by_role("button", name="Scan").click()
    expect(page.get_by_text("All 80 chosen layers have been read")).to_be_visible(timeout=90_000)
