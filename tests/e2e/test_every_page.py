"""Every page in a real browser: on a phone, in both themes, without a mouse."""

from __future__ import annotations

import io

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e import keyboard
from tests.e2e.conftest import PAGES, Server, answer, figure, settled

pytestmark = pytest.mark.e2e

# Pages whose figures a first visit does not show, with an address that does and the number of figures there.
FULL = {
    "adapt": ({"c": "demo:lora", "directions": "4"}, 1),
    "compress": ({"c": "demo:lora", "l": ["blocks.0.attn.q.weight", "blocks.1.attn.q.weight"]}, 4),
    "evidence": ({"c": "demo:planted", "layer": "blocks.0.attn.q.weight", "draws": "19"}, 1),
    "lineage": ({"c": "demo:finetuned", "likeness": "about base"}, 5),
    "merge": ({"c": "demo:finetuned", "by": "Mean"}, 1),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_shows_both_themes_and_needs_no_mouse(server: Server, page: Page, name: str) -> None:
    params, figures = FULL.get(name, ({}, 0))
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server.link(name, **params))
    expect(answer(page)).to_be_visible()
    for nth in range(figures):
        expect(figure(page, nth).locator(".main-svg").first).to_be_visible()
    settled(page)
    widest = page.evaluate("[...document.querySelectorAll('[data-testid=stMain], html')].map(e => e.scrollWidth)")
    assert max(widest) <= 390
    # Whatever is cut off at the right would be lost.
    beyond = page.evaluate(
        "[...document.querySelectorAll('[data-testid=stMain] h1, [data-testid=stMain] button, .main-svg')]"
        ".filter(e => e.getBoundingClientRect().right > 392).length"
    )
    assert beyond == 0
    page.set_viewport_size({"width": 1280, "height": 900})
    answer(page).scroll_into_view_if_needed()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert _is_drawn(page, scheme), scheme
    assert keyboard.unnamed(page) == []
    assert keyboard.unreached(page) == []


def _is_drawn(page: Page, scheme: str) -> bool:
    """Whether the screen has the ground of its theme and something on it; figures follow a theme frames later."""
    for _ in range(20):
        pixels = pixels_of(page)
        ground = np.median(pixels)
        if (ground > 240 if scheme == "light" else ground < 30) and (np.abs(pixels - ground) > 60).mean() > 0.004:
            return True
        page.wait_for_timeout(250)
    return False


def pixels_of(page: Page) -> np.ndarray:
    """Brightness of every pixel on the screen, 0 to 255."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), dtype=np.float64)


def test_nobody_else_was_asked_for_anything(server: Server) -> None:
    assert server.strangers == []
