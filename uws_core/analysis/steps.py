"""Progress of long analyses: the steps of their loops are told to who asked, who may stop them by raising."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[float, str], None]

# Loops lie several calls below who wants to know, and in none of these calls is it a question of mathematics.
_REPORT: ContextVar[Report | None] = ContextVar("report", default=None)


@contextmanager
def reported(report: Report | None) -> Iterator[None]:
    """Steps of this thread meanwhile go to `report`, None is to nobody; what it raises ends the analysis."""
    token = _REPORT.set(report)
    try:
        yield
    finally:
        _REPORT.reset(token)


def step(done: int, of: int, what: str) -> None:
    """Tells that so many of so many are done."""
    report = _REPORT.get()
    if report is not None:
        report(done / max(of, 1), f"{what} {done} of {of}")
