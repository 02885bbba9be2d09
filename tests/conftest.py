"""What holds for every test: only a temporary folder is touched, and what a machine lacks is named."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Compiling our 400 modules takes 1.2 s of a core: once, for all the processes that tests start and for the next run.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Nothing that tests import is ever freed, and looking through it takes 1.8 s until all are collected.
gc.disable()

# Set before anything of ours or of the Hub client is imported: both read the environment once.
_PRIVATE = Path(tempfile.mkdtemp(prefix="uws-tests-"))
os.environ |= {
    "HOME": str(_PRIVATE / "home"),
    "XDG_CACHE_HOME": str(_PRIVATE / "home" / ".cache"),
    "UWS_CACHE": str(_PRIVATE / "results"),
    "HF_HOME": str(_PRIVATE / "hub"),
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# Test matrices are small: threads that spin while they wait for each other cost more than they bring, most of all
# where tests share the machine with a browser. `make bench` sets its own.
for _name, _value in (("OMP_WAIT_POLICY", "passive"), ("OPENBLAS_NUM_THREADS", "1")):
    os.environ.setdefault(_name, _value)
for _name in ("UWS_BUDGET", "UWS_CACHE_LIMIT", "UWS_SCHEDULER", "UWS_ROOTS"):
    os.environ.pop(_name, None)
(_PRIVATE / "home").mkdir()

# Examples are the same on every run of the default profile; HYPOTHESIS_PROFILE=wide looks for new ones.
settings.register_profile("steady", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("wide", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def browser_path() -> str | None:
    """The system's Chromium or Chrome; none is ever downloaded."""
    named = os.environ.get("BROWSER_PATH")
    if named and Path(named).is_file():
        return named
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser_executable() -> str:
    """The browser of the `e2e` tests."""
    path = browser_path()
    assert path, "pytest_runtest_setup skips or fails before this"
    return path


@pytest.fixture
def results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of this test's own, for code that asks for the default one."""
    folder = tmp_path / "results"
    monkeypatch.setenv("UWS_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def own_results() -> Iterator[None]:
    """Results files that a test opened are closed after it, and the program is pytest again.

    The harness of page tests leaves the app as `__main__`, which a process that is spawned later would run.
    """
    program = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = program
    attached = sys.modules.get("uws_core.store.attached")
    if attached is not None:
        attached.detach_all()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give browsers their time: another worker's draws beside them; and give workers unlike work."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = mixed(items)
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests file by file, a file of browser tests before every fourth other one until there are no more.

    A browser test waits half of its time. Where all workers had them at once, cores stood still.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    browsers = [tests for path, tests in files.items() if path.parent.name == "e2e"]
    order = [tests for path, tests in files.items() if path.parent.name != "e2e"]
    for number, tests in enumerate(browsers):
        order.insert(5 * number, tests)
    return [item for tests in order for item in tests]


def pytest_collection_finish() -> None:
    """Look for garbage again, but no longer among the modules and tests that stay till the end."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say what is missing."""
    if item.get_closest_marker("e2e"):
        _need_browser()
    if item.get_closest_marker("gpu"):
        _need_gpu()


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(_PRIVATE, ignore_errors=True)


def _need_browser() -> None:
    missing = [] if browser_path() else ["a Chromium or Chrome on the PATH or in BROWSER_PATH"]
    missing += [] if importlib.util.find_spec("playwright") else ["the package playwright"]
    if not missing:
        return
    reason = f"browser tests need {' and '.join(missing)}"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def _need_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def browser(browser_executable: str) -> Iterator[Browser]:
    """The system's own browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser_executable, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
