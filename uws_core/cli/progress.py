"""Progress on the error stream: a bar on a terminal, one line every 30 s in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from uws_core.jobs import ProgressRate
from uws_core.nouns.cost import bytes_text

_WIDTH = 24
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 30.0


class Bar:
    """Draws reports of a fraction and a message; `bytes_total` gives the rate."""

    def __init__(self, *, bytes_total: int = 0, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet, self._bytes_total = quiet, bytes_total
        self._terminal = self._stream.isatty()
        self._rate = ProgressRate()
        self._drawn = float("-inf")
        self._last = -1.0

    def report(self, fraction: float, message: str) -> None:
        """Draws the progress, at most ten times a second."""
        now = time.monotonic()
        self._rate.note(now, fraction)
        wait = _REDRAW_SECONDS if self._terminal else _LINE_SECONDS
        done = fraction >= 1.0 > self._last
        if self._quiet or (now - self._drawn < wait and not done):
            return
        self._drawn, self._last = now, fraction
        full = round(_WIDTH * fraction)
        parts = [f"[{'#' * full}{'.' * (_WIDTH - full)}] {fraction:4.0%}"]
        rate = self._rate.per_second
        if rate and fraction < 1:
            if self._bytes_total:
                parts.append(f"{bytes_text(rate * self._bytes_total)}/s")
            parts.append(f"{duration((1 - fraction) / rate)} left")
        line = "  ".join([*parts, message])[:160]
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Clears the line of the bar."""
        if self._terminal and self._last >= 0 and not self._quiet:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def duration(seconds: float) -> str:
    """Returns a duration in words: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
