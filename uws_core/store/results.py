"""The results store: bytes under content keys on disk, no pickle, least recently used entries dropped first.

Every value is a file of its own with a checksum, so a truncated, flipped or exchanged entry is a miss and never a
wrong number, and a damaged index is rebuilt from the files. Writes are not synced: results lost in a power cut are
computed again. Any number of threads and processes may share a folder.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from uws_core.errors import StoreError
from uws_core.nouns.cost import bytes_from, bytes_text
from uws_core.store import disk
from uws_core.store.attached import attached_bytes, is_attached

# For all results together; 4 GiB are 50,000 layers of a hundred models.
LIMIT = 4 * 2**30
# A file without a row may belong to a writer that is about to add the row.
_ORPHAN_SECONDS = 600.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The size of a results folder: `entries`, their `bytes` with the index, and the `limit` in bytes."""

    path: Path
    entries: int
    bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The result of a full check: `whole` entries, `dropped` keys, and the number of `orphans` removed."""

    whole: int
    dropped: tuple[str, ...]
    orphans: int


def default_store() -> Store:
    """The user's own store, one a process: `UWS_CACHE` if set, else the folder for caches of this system.

    Raises:
        StoreError: it cannot be used; the message says how to choose another.
    """
    return _shared(default_path(), default_limit())


def default_path() -> Path:
    """The default folder of results.

    Raises:
        StoreError: there is no home folder.
    """
    if os.environ.get("UWS_CACHE"):
        return Path(os.environ["UWS_CACHE"]).expanduser().absolute()
    try:
        if sys.platform == "win32":
            parent = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            parent = Path.home() / "Library" / "Caches"
        else:
            xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
            parent = xdg if xdg.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise StoreError("There is no home folder for results; name a folder with UWS_CACHE") from error
    return parent / "uws"


def default_limit() -> int:
    """The bytes all results may take: `UWS_CACHE_LIMIT` (such as 20GiB) if set, else 4 GiB.

    Raises:
        StoreError: `UWS_CACHE_LIMIT` is no amount of bytes.
    """
    try:
        return bytes_from(os.environ.get("UWS_CACHE_LIMIT") or str(LIMIT))
    except ValueError as error:
        raise StoreError(f"UWS_CACHE_LIMIT: {error}") from error


def store_limit_problem(results: int, *, what: str) -> str:
    """The reason why the default store cannot keep so many bytes of results, and the way out; empty if it can."""
    limit = default_limit()
    if results <= limit:
        return ""
    return (
        f"The results of {what} take {bytes_text(results)}, and the results folder keeps {bytes_text(limit)} at most: "
        f"the first would be dropped before the last is there. Raise UWS_CACHE_LIMIT above {bytes_text(results)} "
        "and start again, or choose fewer layers"
    )


class Store:
    """A folder of results; `notice` describes a repair that was made on opening, if any.

    Raises:
        StoreError: the folder cannot be made, read, written or locked, or it holds something else.
    """

    def __init__(self, path: Path | str | None = None, *, limit: int | None = None) -> None:
        self.path = Path(path).expanduser().absolute() if path is not None else default_path()
        self.limit = limit if limit is not None else default_limit()
        self._mutex = threading.Lock()
        self._cache, self.notice = disk.open_index(self.path, self.limit)

    def get(self, key: str) -> bytes | None:
        """The bytes stored under `key`, here or in an attached results file; None if there are none or damaged ones."""
        try:
            raw = self._cache.get(key)
        except disk.Refused:
            raw = b""
        except disk.FAILURES as error:
            # `get` also writes the time of use; on a full disk the value can still be read without that.
            self._recover(error)
            raw = self._attempt(lambda: self._read_only(key))
        if raw is None:
            return attached_bytes(key)
        entry = disk.unframed(raw)
        if entry is None or entry[0] != key:
            self._drop(key)
            return attached_bytes(key)
        return entry[1]

    def put(self, key: str, value: bytes) -> None:
        """Stores `value` under `key`; an old value stays readable until the new one is complete.

        Raises:
            StoreError: the disk is full or read-only, or the value alone is above the limit.
            TypeError: not a str and bytes.
        """
        raw = disk.framed(key, value)
        if len(raw) > self.limit:
            raise StoreError(
                f"One result of {bytes_text(len(raw))} is above the limit of {bytes_text(self.limit)} for all results; "
                "raise it with UWS_CACHE_LIMIT"
            )
        try:
            self._set(key, raw)
        except disk.FAILURES:
            # Once more, with a new connection and a sound index.
            try:
                self._set(key, raw)
            except disk.FAILURES as error:
                raise disk.unusable(self.path, error) from error

    def __contains__(self, key: str) -> bool:
        return bool(self._attempt(lambda: key in self._cache)) or is_attached(key)

    def keys(self, prefix: str = "") -> tuple[str, ...]:
        """The keys that begin with `prefix`, sorted."""
        return tuple(sorted(key for key, _ in self._rows(prefix)))

    def stats(self) -> StoreStats:
        """The number of entries and their bytes."""
        rows = self._rows()
        index = sum(file.stat().st_size for file in self.path.glob(f"{disk.INDEX}*"))
        return StoreStats(self.path, len(rows), sum(size for _, size in rows) + index, self.limit)

    def check(self) -> StoreCheck:
        """Reads all entries and drops damaged ones; price: all bytes once."""
        self._attempt(self._drop_foreign_rows)
        keys = self.keys()
        dropped = tuple(key for key in keys if self.get(key) is None)
        return StoreCheck(len(keys) - len(dropped), dropped, self._attempt(self._remove_orphans) or 0)

    def prune(self, prefix: str = "", *, unused_seconds: float = 0.0, down_to: int = 0) -> int:
        """Drops entries under `prefix`, least recently used first; returns how many.

        Only those unused for `unused_seconds`, and only until those left under the prefix take `down_to` bytes or less.
        """
        total = sum(size for _, size in self._rows(prefix))
        dropped = 0
        for key, size in self._rows(prefix, used_before=time.time() - unused_seconds):
            if total <= down_to:
                break
            dropped += self._drop(key)
            total -= size
        return dropped

    def close(self) -> None:
        """Closes this thread's connection; the next use opens another."""
        self._cache.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *stop: object) -> None:
        self.close()

    def _set(self, key: str, raw: bytes) -> None:
        try:
            self._cache.set(key, raw)
        except disk.FAILURES as error:
            self._cache.disk.undo()
            self._recover(error)
            raise

    def _drop(self, key: str) -> bool:
        return bool(self._attempt(lambda: self._cache.delete(key)))

    def _recover(self, error: BaseException) -> None:
        """After a failure: rolls back the open transaction, and repairs the index if damage was the cause."""
        # The connection stays: on a full disk no other could be opened.
        with suppress(sqlite3.Error):
            self._cache._con.rollback()
        if disk.is_damage(error):
            with self._mutex, suppress(StoreError):
                self._cache, notice = disk.open_index(self.path, self.limit)
                self.notice = notice or self.notice

    def _attempt(self, act: Callable[[], _T]) -> _T | None:
        try:
            return act()
        except disk.FAILURES as error:
            self._recover(error)
            return None

    def _read_only(self, key: str) -> bytes | None:
        """The framed bytes, without writing the time of use."""
        row = self._cache._sql(
            "SELECT mode, filename FROM Cache WHERE key = ? AND mode = ?", (key, disk.MODE)
        ).fetchone()
        return self._cache.disk.fetch(*row, None, False) if row else None

    def _rows(self, prefix: str = "", *, used_before: float = float("inf")) -> list[tuple[str, int]]:
        """Keys and sizes in bytes, least recently used first."""
        sql = (
            "SELECT key, size FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND substr(key, 1, ?) = ?"
            " AND access_time <= ? ORDER BY access_time"
        )
        return self._attempt(lambda: self._cache._sql(sql, (len(prefix), prefix, used_before)).fetchall()) or []

    def _drop_foreign_rows(self) -> None:
        with self._cache.transact():
            self._cache._sql("DELETE FROM Cache WHERE raw != 1 OR typeof(key) != 'text' OR mode != ?", (disk.MODE,))
            disk.recount(self._cache)

    def _remove_orphans(self) -> int:
        known = {str(self.path / name) for (name,) in self._cache._sql("SELECT filename FROM Cache").fetchall()}
        orphans = [file for file in disk.value_files(self.path) if str(file) not in known]
        old = [file for file in orphans if time.time() - file.stat().st_mtime > _ORPHAN_SECONDS]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)


def delete_all_values(path: Path) -> int:
    """Removes every value of a store without opening it, which fails on a full disk; returns how many there were."""
    files = list(disk.value_files(path))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


@cache
def _shared(path: Path, limit: int) -> Store:
    return Store(path, limit=limit)
