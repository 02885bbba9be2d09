"""A bounded cache on disk of byte ranges that were read from the Hub, so that each is downloaded once.

A file that was read in part is a folder; every slice of it is a file whose name says where it lies and what its check
sum is. Slices appear by rename and are only ever added or removed whole, so threads and processes may share a folder,
and a damaged slice is a missing one.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_SLICE = re.compile(r"(\d+)-(\d+)-([0-9a-f]{8})")
_SIZE = "size-"
# Room is made down to this share of the limit, so that it is not made for every slice.
_TARGET_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class _Slice:
    """Bytes `[start, stop)` of a file and their check sum."""

    start: int
    stop: int
    sum: str
    path: Path


class RangeCache:
    """A folder of slices of at most `limit` bytes; the least recently used go first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        # A longer slice is not stored.
        self.most = limit // 4
        self._lock = threading.Lock()
        self._total: int | None = None
        # How often room was made: what was here before may be gone.
        self.cleared = 0
        # Slices whose check sum this process has seen to be right: one is read many times, some rows each.
        self._sound: set[Path] = set()

    def bytes_kept(self) -> int:
        """The bytes of all slices."""
        return sum(size for _, size, _ in self._all())

    def size(self, key: str) -> int | None:
        """The size of the whole file, if it was noted."""
        for name in _names(self._home(key)):
            if name.startswith(_SIZE) and name.removeprefix(_SIZE).isdecimal():
                return int(name.removeprefix(_SIZE))
        return None

    def fill(self, key: str, start: int, target: memoryview) -> list[tuple[int, int]]:
        """Writes the cached bytes from `start` on into `target`; returns the ranges that are missing."""
        missing: list[tuple[int, int]] = []
        at, stop = start, start + len(target)
        home = self._home(key)
        matches = (match for name in _names(home) if (match := _SLICE.fullmatch(name)))
        slices = (_Slice(int(match[1]), int(match[2]), match[3], home / match[0]) for match in matches)
        for part in sorted(slices, key=lambda part: part.start):
            if part.stop <= at or part.start >= stop:
                continue
            first, end = max(at, part.start), min(stop, part.stop)
            if not self._copied(part, first, target[first - start : end - start]):
                continue
            if first > at:
                missing.append((at, first))
            at = end
        return [*missing, (at, stop)] if at < stop else missing

    def keep(self, key: str, start: int, data: memoryview, *, size: int) -> None:
        """Stores bytes from `start` on of a file of `size` bytes. A full or read-only disk is logged and ignored."""
        if len(data) > self.most:
            return
        home = self._home(key)
        name = f"{start}-{start + len(data)}-{zlib.crc32(data):08x}"
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            (home / f"{_SIZE}{size}").touch()
            unfinished = home / f".{name}-{os.getpid()}-{threading.get_ident()}"
            unfinished.write_bytes(data)
            unfinished.replace(home / name)
        except OSError as error:
            log.warning("bytes read from the Hub cannot be kept in %s: %s", self.folder, error)
            return
        added = len(data)
        with self._lock:
            if self._total is None or self._total + added > self.limit:
                found = sorted(self._all())
                self._total = sum(size for _, size, _ in found)
                self.cleared += self._total > self.limit
                self._sound = set()
                for _, size, path in found if self._total > self.limit else []:
                    if self._total <= self.limit * _TARGET_SHARE:
                        break
                    path.unlink(missing_ok=True)
                    self._total -= size
            else:
                self._total += added

    def _copied(self, part: _Slice, first: int, target: memoryview) -> bool:
        """Whether the slice's bytes from `first` on fill `target`; a damaged slice is removed."""
        try:
            with open(part.path, "rb", buffering=0) as file:  # noqa: PTH123
                if part.path not in self._sound and f"{zlib.crc32(file.readall()):08x}" != part.sum:
                    part.path.unlink(missing_ok=True)
                    return False
                self._sound.add(part.path)
                file.seek(first - part.start)
                whole = file.readinto(target) == len(target)
        except OSError:
            # Removed by another process to make room.
            return False
        with suppress(OSError):
            os.utime(part.path)
        return whole

    def _all(self) -> Iterator[tuple[float, int, Path]]:
        """Time of last use, size and path of every slice."""
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                if not path.name.startswith(_SIZE):
                    entry = path.stat()
                    yield entry.st_mtime, entry.st_size, path

    def _home(self, key: str) -> Path:
        # A digest: a name from outside is never joined into a path.
        return self.folder / sha256(key.encode()).hexdigest()[:40]


def _names(home: Path) -> list[str]:
    try:
        return os.listdir(home)  # noqa: PTH208
    except OSError:
        return []
