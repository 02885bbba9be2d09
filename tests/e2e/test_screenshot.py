"""The pictures in the README are taken by this test, and only when asked: UWS_SCREENSHOT=1."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import ROOT, Server, answer, settled

pytestmark = pytest.mark.e2e


PICTURES = {
    "spectrum": {},
    "angles": {"group": "task", "k": "8", "layer": "blocks.0.attn.q.weight"},
    "reconstruction": {"layer": "blocks.0.attn.q.weight"},
    "collection": {},
    "lineage": {"group": "task"},
    "evidence": {"group": "task"},
    "about": {},
}
DRAWN = ("spectrum", "angles", "reconstruction", "lineage")
# Below these heights stand paths of the machine that took the picture.
HEIGHTS = {"spectrum": 860, "collection": 720, "about": 560}


@pytest.mark.skipif(not os.environ.get("UWS_SCREENSHOT"), reason="rewrites docs/*.png; set UWS_SCREENSHOT=1")
@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_readme(server: Server, page: Page, name: str) -> None:
    page.set_viewport_size({"width": 1280, "height": HEIGHTS.get(name, 1060)})
    page.goto(server.link(name, c="demo:finetuned", **PICTURES[name]))
    expect(answer(page)).to_be_visible()
    if name in DRAWN:
        expect(page.locator(".uws-figure .main-svg").first).to_be_visible()
    settled(page)
    # The colours follow the theme one frame later, and the pictures in a table come one by one.
    page.wait_for_timeout(3000)
    (ROOT / "docs").mkdir(exist_ok=True)
    page.screenshot(path=ROOT / "docs" / f"{name}.png")
