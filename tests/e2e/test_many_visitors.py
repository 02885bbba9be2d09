"""Several people at once on one server: each sees what they asked for, and only that."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import PATIENCE_MS, Server, answer, choose, figure, settled, visitor

pytestmark = pytest.mark.e2e

COLLECTIONS = ("finetuned", "scratch", "untrained", "planted")
LAYERS = ("0.attn.q", "1.attn.v", "2.mlp.up")
guest = contextmanager(visitor)


def everybody_sees_their_own(pages: list[Page], server: Server) -> None:
    """All open a link at the same time, change a control, and come back to the same after a reload."""
    # So many browsers on a machine of two cores wait for each other.
    patience = PATIENCE_MS + 10_000 * len(pages)
    for page in pages:
        page.set_default_timeout(patience)
    for number, page in enumerate(pages):
        page.goto(server.link("spectrum", c=f"demo:{COLLECTIONS[number % len(COLLECTIONS)]}"), wait_until="commit")
    for number, page in enumerate(pages):
        expect(page).to_have_url(re.compile(f"c=demo%3A{COLLECTIONS[number % len(COLLECTIONS)]}"), timeout=patience)
        expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible(timeout=patience)
    for number, page in enumerate(pages):
        if COLLECTIONS[number % len(COLLECTIONS)] != "planted":
            choose(page, "Layer", LAYERS[number % 3])
    answers = []
    for number, page in enumerate(pages):
        if COLLECTIONS[number % len(COLLECTIONS)] != "planted":
            expect(answer(page)).to_contain_text(LAYERS[number % 3], timeout=patience)
        settled(page)
        answers.append(answer(page).inner_text())
    for number, page in enumerate(pages):
        # Whoever asked for the same sees the same, whoever else is there.
        same = [text for other, text in enumerate(answers) if (other - number) % 12 == 0]
        assert set(same) == {answers[number]}
        page.reload()
        expect(answer(page)).to_have_text(answers[number], timeout=patience)
    assert server.strangers == []


def test_three_visitors_at_once(browser: Browser, server: Server) -> None:
    with ExitStack() as there:
        everybody_sees_their_own([there.enter_context(guest(browser, server)) for _ in range(3)], server)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_visitors_at_once(browser: Browser, server: Server) -> None:
    with ExitStack() as there:
        everybody_sees_their_own([there.enter_context(guest(browser, server)) for _ in range(10)], server)
