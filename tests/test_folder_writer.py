"""A killed or stopped writer goes on where it was, and what it leaves is the folder of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uws_core as uws
from uws_core.errors import ExportError
from uws_core.jobs import Cancelled
from uws_core.use import folder_writer
from uws_core.use.folder_writer import unfinished

pytestmark = pytest.mark.usefixtures("results_folder")
LAYERS = [f"blocks.{block}.attn.{part}.weight" for block in (0, 1) for part in "qkv"]


@pytest.fixture(scope="module")
def draft():
    return uws.compress(uws.collect("demo:lora"), kept=4, layers=LAYERS)


@pytest.fixture(scope="module")
def whole(draft, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draft.write(tmp_path_factory.mktemp("whole") / "c")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stop_after(layers: int):
    def report(fraction: float, message: str) -> None:
        if fraction >= layers / (len(LAYERS) + 1):
            raise Cancelled(message)

    return report


def test_a_stopped_writer_goes_on_and_fits_only_what_is_missing(draft, whole, tmp_path, monkeypatch):
    with pytest.raises(Cancelled):
        draft.write(tmp_path / "c", report=stop_after(4))
    assert not (tmp_path / "c").exists()
    fitted = []
    genuine = folder_writer.layer_parts

    def counted(collection, plan, members, **options: object):
        fitted.append(plan.layer.name)
        return genuine(collection, plan, members, **options)

    monkeypatch.setattr(folder_writer, "layer_parts", counted)
    draft.write(tmp_path / "c")
    assert fitted == [plan.layer.name for plan in draft.layers][4:]
    assert contents(tmp_path / "c") == contents(whole)
    assert not unfinished(tmp_path / "c").exists()


@pytest.mark.parametrize("damage", ["more bytes", "fewer bytes", "another draft"])
def test_what_an_earlier_writer_left_is_only_used_where_it_fits(draft, whole, tmp_path, damage):
    with pytest.raises(Cancelled):
        draft.write(tmp_path / "c", report=stop_after(3))
    members = unfinished(tmp_path / "c") / "members.safetensors"
    if damage == "more bytes":
        members.write_bytes(members.read_bytes() + b"half a core")
    elif damage == "fewer bytes":
        members.write_bytes(members.read_bytes()[:-100])
    else:
        (unfinished(tmp_path / "c") / "plan.json").write_text("{}")
    draft.write(tmp_path / "c")
    assert contents(tmp_path / "c") == contents(whole)


def test_two_writers_of_one_folder_do_not_mix(draft, tmp_path):
    def second(fraction: float, message: str) -> None:
        with pytest.raises(ExportError, match="being written by another process"):
            draft.write(tmp_path / "c")
        raise Cancelled(message)

    with pytest.raises(Cancelled):
        draft.write(tmp_path / "c", report=second)


def kill_writers(count: int, folder: Path, whole: Path) -> tuple[int, int]:
    """Kills that many writers of one folder after another at different moments, and lets each next one go on.

    Returns how often a writer was killed before it was done, and how often after.
    """
    script = (
        "import sys, uws_core as uws\n"
        f"draft = uws.compress(uws.collect('demo:lora'), kept=4, layers={LAYERS})\n"
        "print('ready', flush=True)\n"
        "draft.write(sys.argv[1])\n"
    )
    early = late = 0
    for number in range(count):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            time.sleep(0.013 * (number % 25))
            process.send_signal(signal.SIGKILL)
        if folder.exists():
            late += 1
            assert contents(folder) == contents(whole)
            folder.rename(folder.with_name(f"done{number}"))
        else:
            early += 1
    return early, late


def test_a_killed_writer_is_taken_over_and_leaves_no_half_folder(draft, whole, tmp_path):
    kill_writers(2, tmp_path / "c", whole)
    if not (tmp_path / "c").exists():
        draft.write(tmp_path / "c")
    assert contents(tmp_path / "c") == contents(whole)


@pytest.mark.slow
def test_fifty_kills_while_writing(draft, whole, tmp_path):
    early, late = kill_writers(50, tmp_path / "c", whole)
    print(f"50 kills: {early} before the folder appeared, {late} after; each folder equal to that of one go")
    assert early > 5
    if not (tmp_path / "c").exists():
        draft.write(tmp_path / "c")
    assert contents(tmp_path / "c") == contents(whole)
