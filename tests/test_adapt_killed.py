"""A killed training goes on at its last kept step, and ends with the numbers of one that was never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uws_core.use.adapt.log import CHECKPOINT, open_log

# Five processes that each import torch and fit a basis: half a minute, minutes where the machine is busy. In the
# default run a comparison is stopped in this process and goes on (test_adapt).
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WORDS = ["adapt", "demo:lora", "--task", "rotated", "--rows", "shared", "--rates", "0.1", "--steps", "110"]


def started(out: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "uws_core", *WORDS, "--out", str(out), "--quiet"]
    return subprocess.Popen(words, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_killed_training_goes_on_at_its_last_kept_step(tmp_path: Path):
    out, whole = tmp_path / "killed", tmp_path / "whole"
    for _ in range(2):
        process = started(out)
        checkpoint, end = out / "rotated" / CHECKPOINT, time.monotonic() + 90
        before = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
        while time.monotonic() < end and process.poll() is None:
            if checkpoint.is_file() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was killed while it trained"
    assert started(out).wait(100) == 0
    assert started(whole).wait(100) == 0
    killed, never = open_log(out).comparison, open_log(whole).comparison
    assert [step for run in killed.runs for step in run.resumed_at if step >= 100]
    assert [(run.name, run.score, run.validation) for run in killed.runs] == [
        (run.name, run.score, run.validation) for run in never.runs
    ]
    # Lines of the killed processes are whole.
    for line in (out / "rotated" / "curves.jsonl").read_text().splitlines():
        assert json.loads(line)
