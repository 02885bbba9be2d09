"""The wheel holds everything: package, app, pages, settings, built-in collections; and works away from the checkout."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from uws_core.cli import app
from uws_core.cli.main import main, parser

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("uws-*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_holds_app_pages_settings_and_collections(installed: Path):
    pages = {page.name for page in (ROOT / "pages").glob("*.py")}
    dashboard = installed / "uws_core" / "dashboard"
    assert {page.name for page in (dashboard / "pages").glob("*.py")} == pages
    assert (dashboard / "app.py").read_bytes() == (ROOT / "app.py").read_bytes()
    assert (dashboard / ".streamlit" / "config.toml").is_file()
    assert (installed / "uws_core" / "py.typed").is_file()
    shipped = {path.name for path in (ROOT / "uws_core" / "zoo" / "data").iterdir()}
    assert {path.name for path in (installed / "uws_core" / "zoo" / "data").iterdir()} == shipped
    entry_points = next(installed.glob("*.dist-info")) / "entry_points.txt"
    assert "uws = uws_core.cli.main:main" in entry_points.read_text(encoding="utf-8")


def test_an_installed_package_scans_and_finds_its_app(installed: Path, tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(installed), "UWS_CACHE": str(tmp_path / "results")}

    def run(*words: str) -> str:
        ended = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return ended.stdout

    printed = run("-m", "uws_core", "scan", "demo:planted", "--layers", "*0.attn.q*", "--quiet")
    assert "0.attn.q" in printed
    script = Path(run("-c", "from uws_core.cli.app import script; print(script())").strip())
    assert script == installed / "uws_core" / "dashboard" / "app.py"
    assert script.is_file()


def test_a_checkout_starts_the_app_at_the_top_level():
    assert app.script() == ROOT / "app.py"


def test_the_app_refuses_other_machines_without_a_password(monkeypatch, capsys):
    monkeypatch.delenv(app.PASSWORD, raising=False)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("the server must not start"))
    assert main(["app", "--address", "0.0.0.0"]) == 1
    assert app.PASSWORD in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the server is a child process")
@pytest.mark.parametrize(("words", "password"), [(["--behind-proxy"], ""), ([], "secret")])
def test_a_password_or_a_proxy_opens_the_app_to_other_machines(monkeypatch, words, password):
    monkeypatch.setenv(app.PASSWORD, password)
    commands = []

    def become(_: str, command: list[str]) -> None:
        commands.append(command)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", become)
    with pytest.raises(SystemExit):
        main(["app", "--address", "0.0.0.0", "--port", "8600", "--allowed-host", "models.lab", *words])
    (command,) = commands
    assert command[command.index("--server.port") + 1] == "8600"
    assert "models.lab" in command


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_stop_that_reaches_the_command_stops_the_server(tmp_path: Path):
    """What `docker stop` and service managers send; a server left behind would keep answering."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"UWS_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "uws_core", "app", "--port", str(port)]
    started = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _until(lambda: _answers(port), "the server never answered")
        started.terminate()
        started.wait(10)
        _until(lambda: not _answers(port), "the server answers after its command was stopped", seconds=3)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _until(holds: Callable[[], bool], otherwise: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)


def test_uws_alone_starts_the_app():
    assert parser().parse_args([]).act is app.run_app


def test_the_package_and_the_lists_of_make_name_the_same_versions():
    """Torch alone differs: a range in the package, one version in requirements.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def required(name: str) -> set[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if re.match(r"(?!torch=)\w", line)}

    assert required("requirements.txt") == {line for line in project["dependencies"] if not line.startswith("torch>")}
    assert required("requirements-cluster.txt") == set(project["optional-dependencies"]["cluster"])
    assert set(project["optional-dependencies"]["export"]) <= required("requirements-tests.txt")
