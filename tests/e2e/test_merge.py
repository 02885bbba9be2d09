"""The merge page in a real browser: the verdict, a folder that is written, and the merge beside its members."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, answer, figure, settled

pytestmark = pytest.mark.e2e


def test_a_merge_is_judged_written_and_opened_beside_its_members(server: Server, page: Page) -> None:
    page.goto(server.link("merge", c="demo:lora"))
    # Grams, signs and one merge of a new server come before the first answer.
    expect(answer(page)).to_contain_text("TIES lies", timeout=90_000)
    for nth in range(4):
        figure(page, nth).scroll_into_view_if_needed()
        expect(figure(page, nth).locator(".main-svg").first).to_be_visible()
    settled(page)
    # A list of so many methods shows a part of them: the name is typed.
    method = page.get_by_role("combobox", name=re.compile("Method"))
    method.click()
    method.fill("Karcher")
    page.get_by_role("option", name="Karcher mean").click()
    expect(answer(page)).to_contain_text("Karcher mean lies")
    expect(page).to_have_url(re.compile("by=Karcher"))
    settled(page)
    before = answer(page).inner_text()
    page.reload()
    expect(answer(page)).to_have_text(before)
    settled(page)
    folder = page.get_by_role("textbox", name="Folder to write")
    folder.fill("one for all")
    folder.press("Enter")
    settled(page)
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.get_by_text("one for all is written")).to_be_visible()
    told = json.loads((server.root / "one for all" / "merge.json").read_text())
    assert told["recipe"]["method"] == "karcher"
    assert len(told["members"]) == 10
    settled(page)
    page.get_by_role("button", name="Open it beside its members").click()
    expect(page.get_by_role("heading", name="Angles")).to_be_visible()
    expect(page.get_by_test_id("stSidebar")).to_contain_text("11 of 11 models")
    # Beside its members: a row of the figure is the merge.
    expect(figure(page, 0)).to_contain_text("merge one for all")
    settled(page)
    page.get_by_test_id("stSidebarNav").get_by_text("Spectrum").click()
    expect(page.get_by_test_id("stSidebar")).to_contain_text("11 of 11 models")
    expect(answer(page)).to_contain_text("of what distinguishes these models")
    assert server.strangers == []
