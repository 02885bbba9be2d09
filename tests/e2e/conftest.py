"""A real server on a free port, one for all browser tests, and a real browser that may talk to nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, ViewportSize, expect
from safetensors.numpy import save_file

from tests.hub_standin import HubStandIn
from tests.planted import spiked

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
# A loaded machine imports torch in seconds, not in one; another worker's browser draws at the same time.
PATIENCE_MS = 60_000
DESK: ViewportSize = {"width": 1280, "height": 900}
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Server:
    """A running app: its address, the folder it may read, and what browsers asked of anybody else."""

    url: str
    root: Path
    strangers: list[str] = field(default_factory=list)

    def link(self, page: str = "", **params: str | list[str]) -> str:
        """The address of a page."""
        return f"{self.url}/{page}" + (f"?{urlencode(params, doseq=True)}" if params else "")


@pytest.fixture(scope="session")
def hub() -> Iterator[HubStandIn]:
    """The Hub that the server knows; each file adds models under an owner of its own."""
    with HubStandIn() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, hub: HubStandIn) -> Iterator[Server]:
    """The server of all browser tests: what one of them computed another finds."""
    with started(tmp_path_factory.mktemp("server"), hub) as running:
        yield running


@pytest.fixture
def new_server(tmp_path: Path, hub: HubStandIn) -> Iterator[Server]:
    """A server nobody has visited yet, with an empty store."""
    (tmp_path / "server").mkdir()
    with started(tmp_path / "server", hub) as running:
        yield running


@contextmanager
def started(place: Path, hub: HubStandIn) -> Iterator[Server]:
    """A server whose results and whose root lie in `place`; it has printed no error when it is stopped."""
    (place / "root").mkdir()
    env = os.environ | {"UWS_CACHE": str(place / "results"), "UWS_ROOTS": str(place / "root"), "HF_ENDPOINT": hub.url}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port=0"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told: list[str] = []
    ready = threading.Event()
    # Somebody has to listen all the time: a server whose words fill the pipe stands still.
    listener = threading.Thread(target=_listen, args=(process, told, ready), daemon=True)
    listener.start()
    try:
        assert ready.wait(60), "".join(told)
        yield Server(next(line.split("URL:")[1].strip() for line in told if "URL:" in line), place / "root")
        # A browser that prints a figure may be cut off in mid-word when its server goes: what counts came before.
        before_the_end = list(told)
    finally:
        process.terminate()
        process.wait(timeout=20)
        listener.join(timeout=20)
    assert not [line for line in before_the_end if "Traceback" in line or "Error" in line], "".join(told)


@pytest.fixture(scope="session")
def tab(browser: Browser, server: Server) -> Iterator[Page]:
    """The tab of all tests that need one visitor on the common server.

    The browser's work is what these tests take: 4.3 s of a core for a visit in a window of its own, 1.7 s where the
    process behind the tab has met the scripts before.
    """
    yield from visitor(browser, server)


@pytest.fixture
def page(tab: Page, server: Server) -> Page:
    """A new visitor in light mode on a desk: nothing of those before is left in the browser but its cache."""
    # A page of the same server that keeps nothing itself; the one before has ended when this has come.
    tab.goto(server.link("_stcore/health"))
    tab.evaluate("localStorage.clear(); sessionStorage.clear()")
    tab.context.clear_cookies()
    tab.set_viewport_size(DESK)
    tab.emulate_media(color_scheme="light")
    tab.mouse.move(0, 0)
    return tab


def visitor(browser: Browser, server: Server) -> Iterator[Page]:
    """A new visitor; whatever its page asks of another machine is noted on the server."""
    context = browser.new_context(viewport=DESK, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", lambda request: _note(server, request.url))
    yield page
    context.close()


def _listen(process: subprocess.Popen[str], told: list[str], ready: threading.Event) -> None:
    assert process.stdout is not None
    with process.stdout as words:
        for line in words:
            told.append(line)
            if "URL:" in line:
                ready.set()


def _note(server: Server, url: str) -> None:
    # A report is opened from the disk.
    ours = (server.url, server.url.replace("http", "ws", 1), "data:", "blob:", "file:")
    if not url.startswith(ours):
        server.strangers.append(url)


def figure(page: Page, nth: int = 0) -> Locator:
    """The figure with this place on the page, in the window: a figure is drawn when it comes near."""
    drawn = page.locator(".uws-figure").nth(nth)
    for attempt in range(5):
        try:
            drawn.scroll_into_view_if_needed()
            break
        except Error:
            # A run of the script has just put another element in its place.
            if attempt == 4:
                raise
            page.wait_for_timeout(500)
    return drawn


def answer(page: Page) -> Locator:
    """The answer line."""
    return page.locator("h3").first


def choose(page: Page, label: str, option: str) -> None:
    """Pick an option of a select box or a multiple choice."""
    box = page.get_by_role("combobox", name=label, exact=True).first
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=False).first.click()
    page.keyboard.press("Escape")


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def still(page: Page, locator: Locator) -> Locator:
    """The same, once it stays where it is.

    What stands above grows as its parts arrive, and a click meant for one row would land on the one before.
    """
    before = None
    for _ in range(60):
        place = locator.bounding_box()
        if place is not None and place == before:
            return locator
        before = place
        page.wait_for_timeout(250)
    raise AssertionError("it moved for 15 seconds")


def choose_row(page: Page, table: Locator, row: int) -> None:
    """Tick the box of a table's row, the first of which is 1.

    A table is a canvas: a click that comes before it is drawn, or where a figure has just pushed it, meets nothing.
    What a screen reader gets says whether it was met.
    """
    chosen = table.locator(f"tr[aria-rowindex='{row + 1}'][aria-selected=true]")
    for _ in range(5):
        # In the middle of the row of 35 pixels, wherever the window has to be moved to.
        still(page, table).click(position={"x": 15, "y": 35 * row + 18})
        settled(page)
        try:
            expect(chosen).to_be_attached(timeout=5_000)
        except AssertionError:
            continue
        return
    raise AssertionError(f"row {row} of the table is not chosen")


def write_models(folder: Path, *, models: int, layers: int, side: int = 8) -> None:
    """Models with a shared direction, a file each."""
    folder.mkdir(parents=True)
    rows = spiked(models, layers * side * side, strengths=(30.0,), seed=5).astype(np.float32)
    for i, row in enumerate(rows):
        parts = row.reshape(layers, side, side)
        save_file({f"blocks.{n}.up.weight": part.copy() for n, part in enumerate(parts)}, folder / f"m{i}.safetensors")
