"""Work that takes longer than a click: it shows progress, goes on while one looks elsewhere, and stops when told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server, answer, visitor, write_models

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(300)
def test_a_job_shows_goes_on_elsewhere_stops_and_can_be_taken_up(server: Server, page: Page, browser: Browser) -> None:
    # Many small reads: on a quiet machine still longer than a visitor needs to walk to another page and back.
    folder = server.root / "many"
    write_models(folder, models=500, layers=240)
    page.goto(server.link("collection"))
    page.get_by_role("tab", name="Folder").click()
    page.get_by_role("textbox", name="Open a folder of your own").fill(str(folder))
    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    expect(answer(page)).to_contain_text("500 models of one architecture, 240 layers comparable")
    expect(page.get_by_text("layers have not been read")).to_contain_text("takes about")
    for other in visitor(browser, server):
        # Somebody who is there before it begins: the work need not last as long as a browser's first visit.
        other.goto(page.url)
        expect(answer(other)).to_contain_text("500 models of one architecture")
        page.get_by_role("button", name="Scan").click()
        expect(page.get_by_test_id("stSidebar").get_by_text("Reading 240 layers of 500 models")).to_be_visible()
        # They see the same job, and no second one.
        other.reload()
        expect(other.get_by_test_id("stMainBlockContainer").get_by_text("Reading 240 layers")).to_be_visible()
        expect(other.get_by_test_id("stSidebar").get_by_text("Reading 240 layers")).to_have_count(1)
        expect(other.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_be_visible()
        expect(other.get_by_role("button", name="Scan")).to_have_count(0)
    page.reload()
    expect(page.get_by_test_id("stSidebar").get_by_text("Reading 240 layers of 500 models")).to_be_visible()
    expect(page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("link", name="About").click()
    expect(page.get_by_test_id("stSidebar").get_by_text("Reading 240 layers")).to_contain_text(re.compile(r"\d+%"))
    page.get_by_role("link", name="Collection").click()
    # The toolbar's own "Stop", there while the script runs, is another one.
    page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped; what was finished is kept.")).to_be_visible()
    expect(page.get_by_text("layers have not been read")).to_contain_text(re.compile(r"^\d+ of 240 layers"))
    page.get_by_role("button", name="Scan").click()
    expect(page.get_by_text("All 240 chosen layers have been read")).to_be_visible(timeout=180_000)
