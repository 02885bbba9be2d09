"""Who in this process does which work: one does it, and who wants the same meanwhile waits for what it makes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager


class Turns:
    """One holder a key at a time; whoever had to wait should look first whether the work is done.

    Nobody waits for a turn while holding another, so no two can wait for each other.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """A turn at the work under `key`, after whoever has it now."""
        while not self.take([key]):
            self.wait(key)
        try:
            yield
        finally:
            self.give_back([key])

    def take(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that nobody holds, which are the caller's from now on; never waits."""
        with self._changed:
            free = set(keys) - self._held
            self._held |= free
            return free

    def give_back(self, keys: Collection[str]) -> None:
        """End these turns."""
        with self._changed:
            self._held -= set(keys)
            self._changed.notify_all()

    def wait(self, key: str, *, seconds: float | None = None) -> bool:
        """Whether nobody holds the key, after waiting for that up to `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: key not in self._held, seconds)

    def __len__(self) -> int:
        return len(self._held)


TURNS = Turns()
