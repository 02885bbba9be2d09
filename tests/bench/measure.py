"""How benches measure: routes in turn within one run, medians, ratios; memory in a process of its own.

Shared machines drift, so a figure alone says little: routes alternate, and the ratio to a yardstick of the same run
counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.bench.record import keep

ROOT = Path(__file__).parents[2]


def medians(routes: Mapping[str, Callable[[], object]], *, rounds: int = 5) -> dict[str, float]:
    """Median seconds of each route, run in turn `rounds` times after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in routes}
    for turn in range(rounds + 1):
        for name, route in routes.items():
            began = time.perf_counter()
            route()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: sorted(found)[len(found) // 2] for name, found in times.items()}


def apart(code: str, *given: str) -> dict[str, float]:
    """Runs `code` in a fresh process; it prints one JSON object of figures last, with `peak_mib` from `Peak`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=1500,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


class Peak:
    """The peak of this process's anonymous memory inside a `with` block, in MiB beyond what it had on entry.

    Anonymous memory is what must be in RAM; pages of mapped files, which the system may drop at any time, do not count.
    """

    def __enter__(self) -> Peak:
        self._before, self.mib, self._stop = _anonymous_mib(), 0.0, threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *stop: object) -> None:
        self._stop.set()
        self._watch.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            self.mib = max(self.mib, _anonymous_mib() - self._before)
            time.sleep(0.002)


def _anonymous_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a markdown table, ready for the docs, and keeps it as JSON with the commit."""
    keep(title, columns, rows)
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'|'.join('---' for _ in columns)}|")
    for row in rows:
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def verdict(value: float, limit: float) -> str:
    """What a reader looks for first."""
    return f"{value:.2f} (target {limit:g}: {'met' if value <= limit else 'MISSED'})"
