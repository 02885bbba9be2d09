"""Work that sessions do at once, inside a click: one does it, and who asked for the same meanwhile waits for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """One at a time a key; whoever had to wait should look first whether it is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By key: the lock of the one whose turn it is, and how many hold or await it.
        self._held: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """A turn at the work under `key`."""
        with self._lock:
            own, count = self._held.get(key, (threading.Lock(), 0))
            self._held[key] = own, count + 1
        try:
            with own:
                yield
        finally:
            with self._lock:
                own, count = self._held.pop(key)
                if count > 1:
                    self._held[key] = own, count - 1

    def __len__(self) -> int:
        return len(self._held)


TURNS = Turns()
