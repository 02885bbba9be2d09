"""Milliseconds from a reader's hand to the last change in any figure: a dragged slider, and a control changed.

With `UWS_BEFORE` naming an older checkout, both versions are open at once and take turns; where that one has no slider,
the same number is typed.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.bench.measure import table, verdict
from tests.e2e.conftest import write_models
from tests.sessions import ROOT, cold_server

pytestmark = [pytest.mark.bench, pytest.mark.e2e, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("UWS_ROUNDS", "20"))
DRAG_MS, FORTY_MS, FIVE_HUNDRED_MS = 50, 150, 300

# Figures of both versions bear plotly's class. A call of uwsWait resolves once no figure changed for 0.7 seconds and
# the script rests, with the milliseconds from the key or the move of the slider to the last change, by name.
_WATCH = """() => {
  const times = (window.uwsTimes = { began: 0, figures: 0, answer: 0, moves: [] })
  const within = (node, what) => (node.nodeType === 1 ? node : node.parentElement)?.closest?.(what)
  const holds = (record, what) =>
    within(record.target, what) || [...record.addedNodes].some((node) => node.querySelector?.(what))
  new MutationObserver((records) => {
    const now = performance.now()
    if (records.some((record) => holds(record, ".js-plotly-plot"))) {
      times.figures = now
      if (times.moves.length) times.moves.at(-1).figures = now
    }
    if (records.some((record) => holds(record, "h3"))) times.answer = now
  }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true })
  const begin = () => Object.assign(times, { began: performance.now(), figures: 0, answer: 0 })
  document.addEventListener("keydown", (event) => event.key === "Enter" && begin(), true)
  document.addEventListener("input", (event) => {
    if (event.composedPath()[0].type === "range") times.moves.push({ began: performance.now(), figures: 0 })
  }, true)
  window.uwsRests = () =>
    document.querySelector("[data-testid=stApp]").dataset.testScriptState === "notRunning" &&
    !document.querySelector("[data-stale=true]") &&
    performance.now() - Math.max(times.began, times.figures, times.answer) > 700
}"""


@pytest.fixture
def versions(browser: Browser, tmp_path: Path) -> Iterator[dict[str, tuple[Page, str]]]:
    """A visitor and the address of each version, whose root holds 500 models of four layers as `many`."""
    apps = {"now": ROOT / "app.py"}
    if os.environ.get("UWS_BEFORE"):
        apps = {"before": Path(os.environ["UWS_BEFORE"]) / "app.py"} | apps
    with ExitStack() as stack:
        opened = {}
        for name, app in apps.items():
            write_models(tmp_path / name / "many", models=500, layers=4)
            url = stack.enter_context(cold_server(tmp_path / name, app=app))
            context = browser.new_context(viewport={"width": 1280, "height": 1600})
            page = context.new_page()
            page.set_default_timeout(60_000)
            stack.callback(context.close)
            opened[name] = (page, url)
        yield opened


def test_a_changed_control(versions: dict[str, tuple[Page, str]], tmp_path: Path) -> None:
    rows = []
    for count, limit in ((40, FORTY_MS), (500, FIVE_HUNDRED_MS)):
        for page, _ in (("spectrum", None), ("reconstruction", None)):
            for name, (visitor, url) in versions.items():
                where = "demo:finetuned" if count == 40 else str(tmp_path / name / "many")
                _visit(visitor, f"{url}/{page}?c={where}")
            for label in ("Layer", "Centre"):
                if any(not _has(visitor, label) for visitor, _ in versions.values()):
                    continue
                found = _in_turn({name: _changes(visitor, label) for name, (visitor, _) in versions.items()})
                rows += _rows(f"{page}: {label}, {count} models", found, limit)
    _tell(rows)


def test_a_dragged_slider(versions: dict[str, tuple[Page, str]]) -> None:
    rows = []
    for page, label in (("spectrum", "Share, %"), ("angles", "k")):
        for visitor, url in versions.values():
            _visit(visitor, f"{url}/{page}?c=demo:finetuned&layer=blocks.1.attn.q.weight")
        found = {}
        for name, (visitor, _) in versions.items():
            slides = visitor.locator(".uws-slider").count() > 0
            found[name] = _dragged(visitor) if slides else _typed(visitor, label)
        rows += _rows(f"{page}: {label}", found, DRAG_MS)
    _tell(rows)


def _visit(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.evaluate(_WATCH)
    _rest(page)


def _rest(page: Page) -> None:
    page.wait_for_function("() => window.uwsRests()", polling=100)


def _has(page: Page, label: str) -> bool:
    return page.get_by_role("combobox", name=label, exact=True).count() > 0


def _changes(page: Page, label: str) -> Callable[[int], float]:
    """One change by the keyboard: the second option, then the third, in turn; each was computed before it counts."""
    box = page.get_by_role("combobox", name=label, exact=True).first
    box.click()
    options = page.get_by_role("option").all_inner_texts()
    page.keyboard.press("Escape")
    pair = options[1:3] if len(options) > 2 else options[:2]

    def change(turn: int) -> float:
        box.click()
        box.fill(pair[turn % 2])
        page.get_by_role("option", name=pair[turn % 2]).first.wait_for()
        page.keyboard.press("Enter")
        _rest(page)
        times = page.evaluate("() => window.uwsTimes")
        page.keyboard.press("Escape")
        return max(times["figures"], times["answer"]) - times["began"]

    for turn in range(4):
        change(turn)
    return change


def _in_turn(routes: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in routes}
    for turn in range(ROUNDS):
        for name, route in routes.items():
            found[name].append(route(turn))
    return found


def _dragged(page: Page) -> list[float]:
    """The milliseconds after each move of a held slider."""
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    slider.hover()
    page.wait_for_selector(".uws-slider[data-ready=true]")
    _rest(page)
    box = slider.bounding_box()
    assert box is not None
    at = float(slider.input_value()) / float(slider.get_attribute("max") or 1)
    left, width, height = box["x"] + 8, box["width"] - 16, box["y"] + box["height"] / 2
    page.mouse.move(left + at * width, height)
    page.mouse.down()
    for step in range(ROUNDS + 1):
        page.mouse.move(left + (0.2 + 0.6 * step / ROUNDS) * width, height)
        page.wait_for_timeout(150)
    moves = page.evaluate("() => window.uwsTimes.moves")
    page.mouse.up()
    _rest(page)
    # The first move copies answer and numbers; every later one writes into them.
    return [move["figures"] - move["began"] for move in moves[1:] if move["figures"]]


def _typed(page: Page, label: str) -> list[float]:
    box = page.get_by_role("spinbutton", name=label, exact=False).first
    found = []
    for turn in range(ROUNDS + 2):
        box.fill(str(int(float(box.input_value())) + (-1 if turn % 2 else 1)))
        box.press("Enter")
        _rest(page)
        times = page.evaluate("() => window.uwsTimes")
        found.append(max(times["figures"], times["answer"]) - times["began"])
    return found[2:]


def _rows(what: str, found: dict[str, list[float]], limit: float) -> list[list[object]]:
    assert all(values and min(values) > 0 for values in found.values()), (what, found)
    medians = {name: statistics.median(values) for name, values in found.items()}
    return [[what, medians.get("before", float("nan")), medians["now"], verdict(medians["now"], limit)]]


def _tell(rows: list[list[object]]) -> None:
    table(f"To the last change of any figure, ms, medians of {ROUNDS}", ["what", "before", "now", "target"], rows)
