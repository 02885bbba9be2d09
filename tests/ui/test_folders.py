"""A page reads below its roots and nowhere else, whatever is typed or linked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from uws_core.errors import OutsideRoot, SourceError
from uws_core.ui import folders


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with one folder of models, beside a folder that must stay unread."""
    (tmp_path / "root" / "models" / "a").mkdir(parents=True)
    (tmp_path / "root" / "models" / "a" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "outside" / "secret").mkdir(parents=True)
    monkeypatch.setenv("UWS_ROOTS", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.mark.parametrize("text", ["models", "./models", "models/../models", " models ", '"models"'])
def test_a_folder_below_the_root_is_found(root: Path, text: str) -> None:
    assert folders.allowed(text) == root / "models"
    assert folders.allowed(str(root / "models")) == root / "models"


@pytest.mark.parametrize("text", ["..", "../outside/secret", "models/../../outside/secret", "/", "/etc", "~"])
def test_nothing_outside_is_read_and_its_existence_stays_unknown(root: Path, text: str) -> None:
    with pytest.raises(OutsideRoot, match=r"outside the folders this app may read .*UWS_ROOTS"):
        folders.allowed(text)
    missing = str(root.parent / "no such thing")
    with pytest.raises(OutsideRoot, match="outside the folders"):
        folders.allowed(missing)


def test_a_link_that_is_the_folder_leads_nowhere(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    with pytest.raises(OutsideRoot, match="outside the folders"):
        folders.allowed("link")


def test_a_table_that_is_a_link_out_is_named(root: Path) -> None:
    table = root / "models" / "models.csv"
    table.symlink_to(root.parent / "outside" / "secret")
    with pytest.raises(OutsideRoot, match=r"models\.csv is a link that leads outside"):
        folders.allowed("models")
    table.unlink()
    table.symlink_to(root / "models" / "a" / "model.safetensors")
    assert folders.allowed("models") == root / "models"


@pytest.mark.parametrize(
    ("text", "says"), [("nothing here", "there is nothing"), ("models/a/model.safetensors", "a file")]
)
def test_what_is_no_folder_is_said(root: Path, text: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        folders.allowed(text)


@pytest.mark.parametrize("text", ["", "   ", "a\0b", "x" * 5000, "a/" * 2500, "~nobody-of-this-name/x", "é" * 300])
def test_a_text_that_cannot_be_a_path_is_said(root: Path, text: str) -> None:
    with pytest.raises(SourceError):
        folders.allowed(text)


def test_several_roots_and_the_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = root.parent / "outside"
    monkeypatch.setenv("UWS_ROOTS", f"{root}{os.pathsep}{other}")
    assert folders.allowed("secret") == other / "secret"
    monkeypatch.delenv("UWS_ROOTS")
    monkeypatch.chdir(root / "models")
    assert folders.roots() == (root / "models",)


def test_a_changed_folder_has_another_stamp(root: Path) -> None:
    before = folders.stamp(root / "models")
    assert folders.stamp(root / "models") == before
    file = root / "models" / "a" / "model.safetensors"
    os.utime(file, ns=(1, 1))
    touched = folders.stamp(root / "models")
    file.write_bytes(b"xy")
    os.utime(file, ns=(1, 1))
    assert len({before, touched, folders.stamp(root / "models")}) == 3
