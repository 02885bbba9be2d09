"""The wheel holds everything: package, app, pages, settings, built-in collections; and works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
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
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the server must not start"))
    assert main(["app", "--address", "0.0.0.0"]) == 1
    assert app.PASSWORD in capsys.readouterr().err


@pytest.mark.parametrize(("words", "password"), [(["--behind-proxy"], ""), ([], "secret")])
def test_a_password_or_a_proxy_opens_the_app_to_other_machines(monkeypatch, words, password):
    commands = []
    monkeypatch.setenv(app.PASSWORD, password)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: commands.append(command) or subprocess.CompletedProcess(command, 0)
    )
    assert main(["app", "--address", "0.0.0.0", "--port", "8600", "--allowed-host", "models.lab", *words]) == 0
    (command,) = commands
    assert command[command.index("--server.port") + 1] == "8600"
    assert "models.lab" in command


def test_uws_alone_starts_the_app():
    assert parser().parse_args([]).act is app.run_app
