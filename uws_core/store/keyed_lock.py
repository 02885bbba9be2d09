"""A lock with one holder per key: threads that need the same result compute it once."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager


class KeyedLock:
    """One holder a key at a time. A thread that had to wait should first check whether the result is there now.

    No thread waits for a key while it holds another, so there is no deadlock.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Holds `key`, after waiting for its present holder."""
        while not self.acquire_free([key]):
            self.wait(key)
        try:
            yield
        finally:
            self.release([key])

    def acquire_free(self, keys: Iterable[str]) -> set[str]:
        """Acquires those of `keys` that nobody holds and returns them; never waits."""
        with self._changed:
            free = set(keys) - self._held
            self._held |= free
            return free

    def release(self, keys: Collection[str]) -> None:
        """Releases these keys."""
        with self._changed:
            self._held -= set(keys)
            self._changed.notify_all()

    def wait(self, key: str, *, seconds: float | None = None) -> bool:
        """Waits up to `seconds` until nobody holds `key`; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: key not in self._held, seconds)

    def __len__(self) -> int:
        return len(self._held)


# Keys are those of the store, so that all threads of this process compute a result once.
RESULT_LOCK = KeyedLock()
