"""The progress bar of the command line."""

from __future__ import annotations

import io
import time

import pytest

from uws_core.cli.progress import Bar, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_stays_on_one_line() -> None:
    terminal = Terminal()
    bar = Bar(bytes_total=2**30, stream=terminal)
    bar.report(0.25, "blocks.0.q")
    time.sleep(0.12)
    bar.report(0.5, "blocks.1.q")
    bar.report(0.51, "too soon to draw")
    bar.report(1.0, "done")
    bar.close()
    text = terminal.getvalue()
    assert "[######..................]  25%  blocks.0.q" in text
    assert "/s" in text
    assert " left  blocks.1.q" in text
    assert "too soon" not in text
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")


def test_a_log_gets_few_lines_and_quiet_none() -> None:
    log, silence = io.StringIO(), io.StringIO()
    for stream, quiet in ((log, False), (silence, True)):
        bar = Bar(stream=stream, quiet=quiet)
        for step in range(101):
            bar.report(step / 100, f"step {step}")
        bar.close()
    assert [line.split()[-1] for line in log.getvalue().splitlines()] == ["0", "100"]
    assert silence.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (11100, "3 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text.replace("100 min", "1 h 40 min")
