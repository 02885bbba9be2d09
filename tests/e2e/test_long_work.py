"""Work that takes longer than a click: it shows progress, goes on while one looks elsewhere, and stops when told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server, answer, visitor
from tests.hub_fixtures import files
from tests.hub_standin import HubStandIn

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(300)
def test_a_job_shows_goes_on_elsewhere_stops_and_can_be_taken_up(
    server: Server, page: Page, browser: Browser, hub: HubStandIn
) -> None:
    for i in range(8):
        hub.add(f"patient/long{i}", files(i, layers=120))
    page.goto(server.link("collection"))
    page.get_by_role("tab", name="Hub").click()
    page.get_by_role("textbox", name="Query, or a list of models").fill("patient/*")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("button", name="Open 8 models").click()
    expect(answer(page)).to_contain_text("8 models of one architecture, 120 layers comparable")
    # From here on the Hub is slow, so that the work lasts until it is told to end, however fast this machine is.
    slowly = hub.fail("*model.safetensors", "slow", times=1_000_000, seconds=2.0)
    expect(page.get_by_text("layers have not been read")).to_contain_text("takes about")
    for other in visitor(browser, server):
        other.goto(page.url)
        expect(answer(other)).to_contain_text("8 models of one architecture")
        page.get_by_role("button", name="Scan").click()
        expect(page.get_by_test_id("stSidebar").get_by_text("Reading 120 layers of 8 models")).to_be_visible()
        # They see the same job, and no second one.
        other.reload()
        expect(other.get_by_test_id("stMainBlockContainer").get_by_text("Reading 120 layers")).to_be_visible()
        expect(other.get_by_test_id("stSidebar").get_by_text("Reading 120 layers")).to_have_count(1)
        expect(other.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_be_visible()
        expect(other.get_by_role("button", name="Scan")).to_have_count(0)
    page.reload()
    expect(page.get_by_test_id("stSidebar").get_by_text("Reading 120 layers of 8 models")).to_be_visible()
    expect(page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("link", name="About").click()
    expect(page.get_by_test_id("stSidebar").get_by_text("Reading 120 layers")).to_contain_text(re.compile(r"\d+%"))
    page.get_by_role("link", name="Collection").click()
    # The toolbar's own "Stop", there while the script runs, is another one. The button is drawn anew each second: on a
    # busy machine it never holds still long enough for a pointer that waits for this.
    page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop").dispatch_event("click")
    expect(page.get_by_text("Stopped; what was finished is kept.")).to_be_visible()
    expect(page.get_by_text("layers have not been read")).to_contain_text(re.compile(r"^\d+ of 120 layers"))
    slowly.times = 0
    page.get_by_role("button", name="Scan").click()
    expect(page.get_by_text("All 120 chosen layers have been read")).to_be_visible(timeout=180_000)
