"""The evidence page in a real browser: a row chooses its claim, and the report opens from a disk."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, answer, choose_row, figure, settled, write_models

pytestmark = pytest.mark.e2e


def test_a_row_chooses_its_claim_and_the_report_opens_from_a_disk(server: Server, page: Page, tmp_path: Path) -> None:
    write_models(server.root / "judged", models=8, layers=2)
    page.goto(server.link("collection"))
    page.get_by_role("tab", name="Folder").click()
    page.get_by_role("textbox", name="Open a folder of your own").fill(str(server.root / "judged"))
    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_test_id("stSidebar")).to_contain_text("8 of 8 models")
    page.get_by_test_id("stSidebarNav").get_by_text("Evidence").click()
    expect(answer(page)).to_contain_text("beyond chance")
    settled(page)
    choose_row(page, page.get_by_test_id("stDataFrame").first, 3)
    expect(page).to_have_url(re.compile("claim=It.concentrates.also"))
    expect(page.get_by_text("It concentrates also when every model counts the same: ").first).to_be_visible()
    expect(figure(page).locator(".main-svg").first).to_be_visible()

    page.get_by_role("button", name="Report").click()
    fetch = page.get_by_role("button", name="Download the report")
    expect(fetch).to_be_visible(timeout=90_000)
    with page.expect_download() as download:
        fetch.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    page.goto((tmp_path / "report.html").as_uri(), timeout=90_000)
    expect(page.locator("#figure-verdicts .main-svg").first).to_be_visible(timeout=60_000)
    assert server.strangers == []
