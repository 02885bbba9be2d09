"""The folder that a writer fills beside its target: locked, emptied when another plan began it, small files whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uws_core.errors import ExportError


@contextmanager
def alone(lock: Path, folder: Path) -> Iterator[None]:
    """Holds the lock of an unfinished folder; the system releases that of a killed writer.

    Raises:
        ExportError: another process writes `folder`.
    """
    with lock.open("w") as held:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ExportError(f"{folder} is being written by another process; wait for it") from error
        yield


def empty(part: Path, *, keep: str) -> None:
    """Deletes what another plan left in an unfinished folder, but for the file `keep`, the lock that is held."""
    for path in part.iterdir():
        if path.name != keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace_text(path: Path, text: str) -> None:
    """Writes a small file that is never seen half."""
    begun = path.with_name(f"{path.name}.begun")
    begun.write_text(text, encoding="utf-8")
    begun.replace(path)
