"""How long a reader waits: the first figure of a server nobody has visited, and every control after that."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from tests.bench.measure import verdict
from tests.e2e.conftest import Server, answer, figure, settled

pytestmark = [pytest.mark.bench, pytest.mark.e2e]

FIRST_SECONDS, CONTROL_SECONDS, HEATMAP_SECONDS = 8.0, 0.5, 1.0
# A shared machine may miss a target, which the table says; so many times the target is no drift but a fault.
SANE = 3

_ANSWERED = "says => document.querySelector('h3').innerText.includes(says)"
_FRESH = (
    "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
    " && !document.querySelector('[data-stale=true]')"
)


def test_the_first_figure_and_every_control(server: Server, page: Page) -> None:
    began = time.perf_counter()
    page.goto(server.link())
    expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible()
    first = time.perf_counter() - began
    settled(page)
    print()
    _say("first figure, empty store, torch not loaded", first, FIRST_SECONDS)
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
        _say(name, seconds, CONTROL_SECONDS)
    assert first <= FIRST_SECONDS
    assert sorted(waits.values())[len(waits) // 2] <= CONTROL_SECONDS
    assert max(waits.values()) <= SANE * CONTROL_SECONDS


def test_the_heatmap_answers_another_k(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:finetuned", layer="blocks.1.attn.q.weight"))
    expect(answer(page)).to_contain_text("the 16 leading input directions")
    settled(page)
    waits = {k: _wait_for_k(page, k) for k in (4, 8, 12, 2, 24)}
    print()
    for k, seconds in waits.items():
        _say(f"angles: k = {k}", seconds, HEATMAP_SECONDS)
    assert sorted(waits.values())[len(waits) // 2] <= HEATMAP_SECONDS
    assert max(waits.values()) <= SANE * HEATMAP_SECONDS


def _say(what: str, seconds: float, most: float) -> None:
    print(f"{what:<50} {verdict(seconds, most)} s")


def _wait_for_k(page: Page, k: int) -> float:
    """Seconds from a new k to the answer and the heatmap that follow from it."""
    box = page.get_by_role("spinbutton", name="k", exact=False).first
    box.fill(str(k))
    began = time.perf_counter()
    box.press("Enter")
    page.wait_for_function(_ANSWERED, arg=f"the {k} leading input directions")
    page.wait_for_function(_FRESH)
    waited = time.perf_counter() - began
    settled(page)
    return waited


def _wait(page: Page, label: str, option: str, says: str) -> float:
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
