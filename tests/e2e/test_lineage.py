"""The lineage page in a real browser: from the likeness of models to a group that is chosen on every page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, answer, figure, settled

pytestmark = pytest.mark.e2e


def test_a_threshold_makes_groups_and_one_of_each_goes_along(server: Server, page: Page) -> None:
    page.goto(server.link("lineage", c="demo:lora", layer="sum"))
    page.get_by_role("radio", name="A factors").click()
    expect(answer(page)).to_contain_text("of relatives")
    for nth in range(5):
        expect(figure(page, nth).locator(".main-svg").first).to_be_visible()
    threshold = page.get_by_role("spinbutton", name=re.compile("Threshold"))
    threshold.fill("0.3")
    threshold.press("Enter")
    expect(answer(page)).to_contain_text("20 models alone")
    expect(page).to_have_url(re.compile("threshold=0.3"))
    settled(page)
    before = answer(page).inner_text()
    page.reload()
    expect(answer(page)).to_have_text(before)
    page.get_by_role("button", name="Use one of each group").click()
    expect(page.get_by_test_id("stSidebar")).to_contain_text("21 of 40 models")
    expect(answer(page)).to_contain_text("these 21 models")
    page.get_by_test_id("stSidebarNav").get_by_text("Spectrum").click()
    expect(answer(page)).to_contain_text("directions")
    assert server.strangers == []


def test_a_click_on_a_point_chooses_its_model(server: Server, page: Page) -> None:
    page.goto(server.link("lineage", c="demo:finetuned"))
    expect(page.get_by_text("Nearest to at-least-five-0")).to_be_visible()
    settled(page)
    points = figure(page, 2).locator(".scatterlayer .trace .point")
    expect(points).to_have_count(41)
    figure(page, 2).scroll_into_view_if_needed()
    # The points stand in the order of the table, the ring last.
    box = points.nth(4).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(figure(page, 2).locator(".hoverlayer")).to_contain_text("inverted-0")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_text("Nearest to inverted-0")).to_be_visible()
