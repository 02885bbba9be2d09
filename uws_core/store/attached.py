"""Results files that this process reads beside its store: those that somebody opened, and the one that is shipped."""

from __future__ import annotations

import threading

from uws_core.store.results_file import ResultsFile, key_prefix, read_entry

# More than anybody has open; the oldest make room.
_MOST = 64
_lock = threading.Lock()
_attached: dict[str, ResultsFile] = {}


def attach(results: ResultsFile, *, own_contents: bool = False) -> None:
    """From now on the store finds the file's results.

    They are found for the collection that `read_results_file` made of it. With `own_contents`, which is for a file
    that this package ships, they are found for every collection of the same contents.
    """
    fingerprint = str(results.provenance["fingerprint"]) if own_contents else results.collection.fingerprint
    with _lock:
        _attached.pop(key_prefix(fingerprint), None)
        _attached[key_prefix(fingerprint)] = results
        while len(_attached) > _MOST:
            _attached.pop(next(iter(_attached)))


def detach_all() -> None:
    """The store finds its own results only."""
    with _lock:
        _attached.clear()


def attached_bytes(key: str) -> bytes | None:
    """The bytes that an attached file has under a store's key, or None."""
    results, end = _of(key)
    return None if results is None else read_entry(results, end)


def is_attached(key: str) -> bool:
    """Whether an attached file has a store's key; unpacks nothing."""
    results, end = _of(key)
    return results is not None and end in results.entries


def _of(key: str) -> tuple[ResultsFile | None, str]:
    # `gram/5`, the fingerprint, and what follows it.
    pieces = key.split("/", 3)
    prefix, fingerprint, end = "/".join(pieces[:2]), "".join(pieces[2:3]), "".join(pieces[3:])
    with _lock:
        return _attached.get(f"{prefix}/{fingerprint}/"), end
