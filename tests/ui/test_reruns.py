"""The busiest page again and again: memory stays flat, whatever is changed."""

from __future__ import annotations

import gc

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open

_MIB = 2**20


def grown_mib(app: AppTest, *, warm: int, reruns: int) -> float:
    """How much the process grew over so many changed controls, beyond what the first ones needed."""
    layers = next(box for box in app.selectbox if box.label == "Layer").options
    before = 0.0
    for turn in range(warm + reruns):
        if turn == warm:
            before = _resident()
        # Another layer each time, and a share that was never asked for: nothing of it is known from before.
        next(box for box in app.selectbox if box.label == "Layer").select_index(turn % len(layers))
        next(box for box in app.number_input if box.label == "Share, %").set_value(50 + (turn % 4900) / 100)
        app.run()
        assert not app.exception
    return (_resident() - before) / _MIB


def _resident() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss)


def test_changes_of_a_minute_leave_memory_flat(open_page: Open) -> None:
    # Few draws: what a run leaves behind is asked for, not its numbers.
    assert grown_mib(open_page("spectrum", c="demo:finetuned", draws="19"), warm=12, reruns=15) < 16


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_changes_leave_memory_flat(open_page: Open) -> None:
    assert grown_mib(open_page("spectrum", c="demo:finetuned"), warm=100, reruns=1000) < 50
