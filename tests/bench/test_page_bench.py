"""How long a reader waits: the first figure of a server nobody has visited, and every control after that."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, choose, figure, page, server, settled  # noqa: F401

pytestmark = [pytest.mark.bench, pytest.mark.e2e]

FIRST_SECONDS, CONTROL_SECONDS = 8.0, 0.5

_ANSWERED = "says => document.querySelector('h3').innerText.includes(says)"
_FRESH = (
    "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
    " && !document.querySelector('[data-stale=true]')"
)


def test_the_first_figure_and_every_control(server: Server, page: Page) -> None:  # noqa: F811
    began = time.perf_counter()
    page.goto(server.link())
    expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible()
    first = time.perf_counter() - began
    settled(page)
    print(f"\n{'first figure, empty store, torch not loaded':<50} {first:6.2f} s (at most {FIRST_SECONDS} s)")
    waits = {}
    for label, option, says in (
        ("Layer", "2.attn.q", "2.attn.q"),
        ("Layer", "all 20 layers as one", "layers taken as one"),
        ("Layer", "0.attn.k", "0.attn.k"),
        ("Noise", "equal strengths", "noise of equal strengths"),
        ("Centre", "the base", "changed in their base"),
        ("Models", "task: prime", "4 models"),
        ("Collection", "40 with six planted directions", "0.attn.q"),
    ):
        waits[f"{label}: {option}"] = _wait(page, label, option, says)
    for name, seconds in waits.items():
        print(f"{name:<50} {seconds:6.2f} s (at most {CONTROL_SECONDS} s)")
    assert first <= FIRST_SECONDS
    assert sorted(waits.values())[len(waits) // 2] <= CONTROL_SECONDS


def _wait(page: Page, label: str, option: str, says: str) -> float:  # noqa: F811
    """Seconds from the click on an option to the answer that follows from it."""
    box = page.get_by_test_id("stApp").get_by_role("combobox", name=label, exact=True).first
    box.click()
    box.fill(option)
    wanted = page.get_by_role("option", name=option).first
    expect(wanted).to_be_visible()
    began = time.perf_counter()
    wanted.click()
    # Looked at on every frame: assertions look again after 100, 250, 500 ms and would measure that.
    page.wait_for_function(_ANSWERED, arg=says)
    page.wait_for_function(_FRESH)
    waited = time.perf_counter() - began
    settled(page)
    page.keyboard.press("Escape")
    return waited
