"""The results folder: an index, and bytes under str keys, each in a file of its own with a checksum.

diskcache keeps the index. By default it pickles values that are not plain, and unpickles any row of the index that is
marked as a pickle (CVE-2025-69872; its JSONDisk does so too). This module neither writes nor reads such rows.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from diskcache import Cache, Disk, Timeout
from diskcache.core import DBNAME, MODE_BINARY, UNKNOWN
from filelock import FileLock
from filelock import Timeout as LockTimeout

from uws_core.errors import StoreError

INDEX = DBNAME
MODE = MODE_BINARY
FAILURES = (sqlite3.Error, Timeout, OSError)
# What diskcache raises when the settings inside its index are nonsense.
_NONSENSE = (TypeError, ValueError, KeyError, AttributeError)
_WAIT_SECONDS = 20.0
_MAGIC = b"UWS1"
_DIGEST = 16
_VALUE_FILE = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]{28}\.val")
# Exists while an index is rebuilt from the values; the next to open the folder continues.
_REBUILDING = ".rebuilding"
_OURS = re.compile(rf"\.lock|{re.escape(_REBUILDING)}|{re.escape(DBNAME)}.*|damaged-.*|[0-9a-f]{{2}}")


def open_index(folder: Path, limit: int) -> tuple[Any, str | None]:
    """The index, and a notice of what was repaired, if anything; a damaged index is set aside and rebuilt.

    Raises:
        StoreError: the folder cannot be made, read, written or locked, or it holds something else.
    """
    with _locked(folder):
        reason = _damage(folder / INDEX)
        if reason is None:
            stopped = (folder / _REBUILDING).exists()
            try:
                # Even without rows: a writer that is about to add its row has a value file already.
                if _has_rows(folder / INDEX) and not stopped:
                    return _index(folder, limit), None
                index = _rebuilt(folder, limit)
                notice = (
                    f"The index of the results folder {folder} was being made anew when that was stopped; it is whole "
                    f"again, with {len(index)} results; what is missing is computed again when asked for"
                )
                return index, notice if stopped and len(index) else None
            except _NONSENSE as error:
                reason = f"{type(error).__name__}: {error}"
        (folder / _REBUILDING).touch()
        # Only the newest damaged index is kept.
        for old in folder.glob("damaged-*"):
            old.unlink()
        aside = folder / f"damaged-{time.strftime('%Y%m%d-%H%M%S')}.db"
        (folder / INDEX).rename(aside)
        index = _rebuilt(folder, limit)
        notice = (
            f"The index of the results folder {folder} was damaged ({reason}); it was set aside as {aside.name}. "
            f"{len(index)} results were found again; what is missing is computed again when asked for"
        )
        return index, notice


def unusable(folder: Path, error: BaseException) -> StoreError:
    """The error with the folder, the reason, and the way out."""
    # diskcache reports every failure to begin a transaction as a time-out; the error it was raised from is the reason.
    cause = error.__context__ if isinstance(error, Timeout) and error.__context__ else error
    return StoreError(
        f"The results folder {folder} cannot be used ({str(cause) or type(cause).__name__}). Free space or give it "
        "write permission, or name another folder on a local disk with UWS_CACHE; what is stored there is kept"
    )


class Refused(Exception):
    """A row of the index that this package did not write."""


class BytesDisk(Disk):  # type: ignore[misc] # diskcache has no types
    """The four ways in and out of diskcache, for str keys and bytes in files only."""

    def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None:
        super().__init__(directory, min_file_size, pickle_protocol)
        self._here = threading.local()

    def put(self, key: object) -> tuple[str, bool]:
        """The key as the index holds it.

        Raises:
            TypeError: not a str.
        """
        if type(key) is not str:
            raise TypeError(f"A key is a str; found {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key that the index holds.

        Raises:
            Refused: not a str, or marked as pickled.
        """
        if type(key) is not str or not raw:
            raise Refused("a key that is no text")
        return key

    def store(self, value: object, read: bool, key: object = UNKNOWN) -> tuple[int, int, str, None]:
        """Write `value` to a new file; the row that names it: size, mode, file name, nothing inline.

        Raises:
            TypeError: not bytes.
            OSError: the disk is full or read-only; `undo` removes what was begun.
        """
        if read or type(value) is not bytes:
            raise TypeError(f"A stored value is bytes; found {type(value).__name__}")
        name, full_path = self.filename(key, value)
        self._here.written = name
        _write(Path(full_path), value)
        return len(value), MODE, name, None

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        """The bytes of the named file.

        Raises:
            Refused: another mode (a pickle), an inline value, or a name outside the folder.
            OSError: the file is gone.
        """
        if mode != MODE or read or value is not None or not _is_value_file(filename):
            raise Refused(f"a row of mode {mode!r}")
        return Path(self._directory, str(filename)).read_bytes()

    def remove(self, file_path: str) -> None:
        """Remove a value's file, and its folder when empty; nothing else, whatever the index says."""
        if _is_value_file(file_path):
            super().remove(file_path)

    def undo(self) -> None:
        """Remove the file this thread wrote last, whole or not: its row could not be added."""
        self.remove(getattr(self._here, "written", ""))


def framed(key: str, value: bytes) -> bytes:
    """The content of a value's file: a checksum over the rest, the key, the value."""
    name = key.encode()
    rest = len(name).to_bytes(4, "little") + name + value
    return _MAGIC + blake2b(rest, digest_size=_DIGEST).digest() + rest


def unframed(raw: bytes) -> tuple[str, bytes] | None:
    """The key and the value that `framed` packed, or None if a single bit differs."""
    rest = raw[len(_MAGIC) + _DIGEST :]
    if raw[: len(_MAGIC) + _DIGEST] != _MAGIC + blake2b(rest, digest_size=_DIGEST).digest():
        return None
    value_at = 4 + int.from_bytes(rest[:4], "little")
    return rest[4:value_at].decode(), rest[value_at:]


def value_files(folder: Path) -> Iterator[Path]:
    """The files of values, with or without a row."""
    return (file for file in folder.glob("??/??/*.val") if _is_value_file(str(file.relative_to(folder))))


def recount(index: Any) -> None:  # noqa: ANN401 - diskcache has no types
    """Set the index's own count and size, which decide what has to go, to what its rows say."""
    for name, total in (("count", "COUNT(*)"), ("size", "COALESCE(SUM(size), 0)")):
        index._sql(f"UPDATE Settings SET value = (SELECT {total} FROM Cache) WHERE key = ?", (name,))


def is_damage(error: BaseException) -> bool:
    """Whether the error says that the index is broken, and not that it is busy, full or read-only."""
    if not isinstance(error, sqlite3.Error):
        return False
    # The plain SQLITE_ERROR is a missing table or column.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, made if need be, while no other process opens or repairs it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Once there is an index, other files are those of diskcache.
        entries = [] if (folder / INDEX).exists() else sorted(entry.name for entry in folder.iterdir())
        foreign = [name for name in entries if not _OURS.fullmatch(name)]
        if foreign:
            raise StoreError(
                f"The results folder {folder} holds other things ({', '.join(foreign[:3])}); choose an empty "
                "or new one (UWS_CACHE names the app's)"
            )
        # A folder of somebody else that we may write to stays as it is.
        with suppress(PermissionError):
            folder.chmod(0o700)
        with FileLock(folder / ".lock", timeout=6 * _WAIT_SECONDS):
            yield
    except (*FAILURES, LockTimeout, NotImplementedError) as error:
        raise unusable(folder, error) from error


def _index(folder: Path, limit: int) -> Any:  # noqa: ANN401 - diskcache has no types
    return Cache(
        str(folder),
        timeout=_WAIT_SECONDS,
        disk=BytesDisk,
        size_limit=limit,
        eviction_policy="least-recently-used",
        # A mapped index that another process cuts short would end this process without a word.
        sqlite_mmap_size=0,
    )


def _rebuilt(folder: Path, limit: int) -> Any:  # noqa: ANN401 - diskcache has no types
    """The index with a row for every whole value file; stopped at any moment, the next to open the folder goes on."""
    marker = folder / _REBUILDING
    marker.touch()
    index = _index(folder, limit)
    recount(index)
    known = {name for (name,) in index._sql("SELECT filename FROM Cache").fetchall()}
    for file in [file for file in value_files(folder) if str(file.relative_to(folder)) not in known]:
        raw = file.read_bytes()
        entry = unframed(raw)
        if entry is not None:
            index.set(entry[0], raw)
        file.unlink()
    marker.unlink()
    return index


def _damage(index: Path) -> str | None:
    """Why the index cannot be used, or None if it is sound or not there."""
    if not index.exists():
        return None
    try:
        with closing(sqlite3.connect(index, timeout=_WAIT_SECONDS)) as connection:
            ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        return str(error) if is_damage(error) else None
    return None if verdict == "ok" else str(verdict)


def _has_rows(index: Path) -> bool:
    """Whether there is an index with a table of rows, which may be empty."""
    if not index.exists():
        return False
    with closing(sqlite3.connect(index, timeout=_WAIT_SECONDS)) as connection:
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Cache'").fetchall())


def _is_value_file(name: object) -> bool:
    return isinstance(name, str) and _VALUE_FILE.fullmatch(name) is not None


def _write(path: Path, value: bytes) -> None:
    for _ in range(10):
        with suppress(FileNotFoundError):
            # Another process may remove the emptied folder between these two lines.
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
            return
    path.write_bytes(value)
