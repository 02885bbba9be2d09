"""Independent pieces of work side by side, each on one core.

numpy's products and decompositions use all cores by themselves, which for matrices of some hundred rows costs more in
waiting than it brings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from uws_core.analysis.steps import step

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


class _OneCore:
    """How many ask for one core each, how many cores there were, and what puts that back after the last."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.cores = 1
        self.limits: Any = None


_ONE_CORE = _OneCore()


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """The libraries that are loaded with so many modules: a search takes 2 ms, more than many a piece of work."""
    return ThreadpoolController()


@contextmanager
def one_core_each() -> Iterator[int]:
    """Has numpy use one core for each product meanwhile, in all threads; gives how many it had.

    The number is the library's: the last of several at the same time puts it back.
    """
    with _ONE_CORE.lock:
        _ONE_CORE.users += 1
        if _ONE_CORE.users == 1:
            libraries = _libraries(len(sys.modules))
            _ONE_CORE.cores = max(
                (one["num_threads"] for one in libraries.info() if one["user_api"] == "blas"), default=1
            )
            _ONE_CORE.limits = libraries.limit(limits=1, user_api="blas")
        cores = _ONE_CORE.cores
    try:
        yield cores
    finally:
        with _ONE_CORE.lock:
            _ONE_CORE.users -= 1
            if _ONE_CORE.users == 0 and _ONE_CORE.limits is not None:
                _ONE_CORE.limits.restore_original_limits()


def on_every_core(work: Callable[[_Given], _Found], given: Iterable[_Given], *, what: str = "") -> Iterator[_Found]:
    """`work` of each, in order, as many at once as numpy has cores; a consumer may stop between any two.

    With `what`, the name of one of them, each is a step that is told; see `steps`.
    """
    items = tuple(given)
    with one_core_each() as cores, ThreadPoolExecutor(cores, "uws-core") as pool:
        try:
            for done, item in enumerate(pool.map(work, items) if cores > 1 else map(work, items), 1):
                if what:
                    step(done, len(items), what)
                yield item
        finally:
            # Who stops waits for what runs, not for all the rest.
            pool.shutdown(cancel_futures=True)
