"""Figures follow the hand: a dragged slider, a model under the pointer, the keyboard, and what stays afterwards."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.e2e.conftest import Server, answer, figure, settled

pytestmark = pytest.mark.e2e

LAYER = "blocks.1.attn.q.weight"


def reached(page: Page) -> tuple[float, float, float, float]:
    """Where the slider begins, its middle height, its width and its position, once it can be followed."""
    slider = page.get_by_role("slider").first
    expect(figure(page, 1).locator(".trace").first).to_be_visible()
    settled(page)
    slider.scroll_into_view_if_needed()
    slider.hover()
    expect(page.locator(".uws-slider").first).to_have_attribute("data-ready", "true")
    settled(page)
    box = slider.bounding_box()
    assert box is not None
    at = float(slider.input_value()) / float(slider.get_attribute("max") or 1)
    return box["x"] + 8, box["y"] + box["height"] / 2, box["width"] - 16, at


def at_rest(page: Page, locator: Locator) -> FloatRect:
    """Where something is, once it moves no more: figures above it may still be drawn for the first time."""
    before, box, calm = None, locator.bounding_box(), 0
    for _ in range(60):
        page.wait_for_timeout(250)
        before, box = box, locator.bounding_box()
        calm = calm + 1 if box == before else 0
        if box is not None and calm == 6:
            return box
    raise AssertionError(f"still moves: {before}, {box}")


def test_a_dragged_share_moves_everything_and_its_release_commits_once(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned"))
    left, height, width, at = reached(page)
    link, before = page.url, figure(page, 1).evaluate("node => node.dataset.drawn")
    copy = page.locator(".uws-live-copy h3")
    for _ in range(3):
        page.mouse.move(left + at * width, height)
        page.mouse.down()
        page.mouse.move(left + 0.4 * width, height, steps=8)
        try:
            copy.wait_for(timeout=5000)
            break
        except PlaywrightTimeout:
            # The page moved under the pointer, which holds something else.
            page.mouse.up()
            left, height, width, at = reached(page)
    # The pointer still holds it: nothing has been asked of the server.
    expect(copy).to_contain_text(re.compile(r"carr(y|ies) 4\d %"))
    share = re.findall(r"(4\d) %", copy.inner_text())[-1]
    expect(page.locator(".uws-live-copy").get_by_text(f"Rank at {share} %")).to_be_visible()
    level = "node => node._fullLayout.shapes.find(shape => shape.name === 'share').y0"
    page.wait_for_function(f"({level})(document.querySelectorAll('.uws-figure')[1]) === {int(share) / 100}")
    assert page.url == link
    assert figure(page, 1).evaluate("node => node.dataset.drawn") == before
    page.mouse.up()
    expect(page).to_have_url(re.compile(f"share={int(share) / 100:g}"))
    expect(page.locator(".uws-live-copy")).to_have_count(0)
    expect(answer(page)).to_contain_text(f"{share} %")
    settled(page)
    said, link = answer(page).inner_text(), page.url
    page.reload()
    expect(answer(page)).to_have_text(said)
    assert page.url == link
    expect(page.get_by_role("slider").first).to_have_attribute("aria-valuetext", share)


def test_the_slider_is_reached_and_moved_by_the_keyboard(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned"))
    reached(page)
    slider = page.get_by_role("slider", name="Share, %")
    page.get_by_role("spinbutton", name="Share, %").focus()
    for _ in range(6):
        if slider.evaluate("node => node.getRootNode().activeElement === node"):
            break
        page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("share=0.87"))
    expect(page.get_by_role("spinbutton", name="Share, %")).to_have_value("87")


def test_a_chosen_share_is_there_when_one_comes_back(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned", share="0.8"))
    expect(answer(page)).to_contain_text("80 %")
    settled(page)
    page.get_by_role("link", name="Angles").click()
    expect(answer(page)).to_contain_text("leading input directions")
    settled(page)
    page.get_by_role("link", name="Spectrum").click()
    expect(answer(page)).to_contain_text("80 %")
    expect(page).to_have_url(re.compile("share=0.8"))


def test_the_angles_follow_a_dragged_k(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:finetuned", layer=LAYER, k="8"))
    reached(page)
    matrix = "node => [...node._fullData.find(trace => trace.name === 'pairs').z[1]][0]"
    before = figure(page).evaluate(matrix)
    left, height, width, at = reached(page)
    page.mouse.move(left + at * width, height)
    page.mouse.down()
    # As a hand is: not within one frame of the browser.
    page.wait_for_timeout(100)
    page.mouse.move(left + 0.6 * width, height, steps=5)
    expect(page.locator(".uws-live-copy h3")).to_contain_text(re.compile(r"the (19|20) leading"))
    page.wait_for_function(f"({matrix})(document.querySelector('.uws-figure')) !== {before}")
    page.mouse.up()
    expect(page).to_have_url(re.compile("k=(19|20)"))


def test_a_model_is_marked_in_every_figure_and_a_click_keeps_it(server: Server, page: Page) -> None:
    page.goto(server.link("reconstruction", c="demo:finetuned", layer=LAYER, own="false"))
    expect(figure(page).locator(".trace").first).to_be_visible()
    expect(figure(page, 2).locator(".hm")).to_be_visible()
    settled(page)
    figure(page, 2).scroll_into_view_if_needed()
    page.set_viewport_size({"width": 1280, "height": 1800})
    box = at_rest(page, figure(page, 2).locator(".nsewdrag").first)
    page.mouse.move(box["x"] + 40, box["y"] + 30)
    page.mouse.move(box["x"] + 44, box["y"] + 30)
    # Not by `figure`, which scrolls there, away from under the pointer.
    first, third = (page.locator(".uws-figure").nth(place) for place in (0, 2))
    expect(first).to_have_attribute("data-marked", re.compile("."))
    name = first.get_attribute("data-marked")
    page.wait_for_function(
        "document.querySelector('.uws-figure').layout.shapes.filter(shape => shape.type === 'path').length === 1"
    )
    page.mouse.click(box["x"] + 44, box["y"] + 30)
    page.mouse.move(5, 5)
    expect(third).to_have_attribute("data-marked", str(name))
    page.get_by_role("link", name="Lineage").click()
    expect(page.locator(".uws-figure[data-marked]:not([data-marked=''])").first).to_be_visible()


def test_the_slider_fits_a_phone(server: Server, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server.link("spectrum", c="demo:finetuned"))
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert 128 <= box["width"] <= 390 - box["x"]
    expect(page.locator(".uws-slider output").first).to_have_text("Share 90 %")
