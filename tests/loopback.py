"""A real Dask cluster on this machine: a scheduler and workers in processes of their own, on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PATIENCE = 90.0


class Cluster:
    """The processes of one cluster; `address` is what `UWS_SCHEDULER` would say."""

    def __init__(self, folder: Path) -> None:
        """Start a scheduler that writes where it is into `folder`."""
        self._folder, self._file = folder, folder / "scheduler.json"
        # Like one that somebody else runs, it knows nothing of this project.
        told = ("--host", "127.0.0.1", "--port", "0", "--no-show")
        self.scheduler = self._start("dask_scheduler", *told, environment={"PYTHONPATH": ""})
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = str(self._found()["address"])

    def add_worker(self, *, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """One worker of one thread, which nobody starts again when it dies."""
        told = ("--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(self._folder))
        worker = self._start("dask_worker", *told, environment=environment)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """Stop every process."""
        for process in (*self.workers, self.scheduler):
            process.terminate()
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, program: str, *told: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *told, "--no-dashboard"]
        command += ["--scheduler-file", str(self._file)]
        # One thread a worker, as on a cluster; and the project on the path, as in its folder.
        set_to = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(environment or {})}
        with (self._folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command, env={**os.environ, **set_to}, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )

    def _found(self) -> dict[str, object]:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self.scheduler.poll() is None:
            try:
                return dict(json.loads(self._file.read_text()))
            except (OSError, ValueError):
                time.sleep(0.05)
        raise RuntimeError(f"no scheduler: {(self._folder / 'log.txt').read_text()[-2000:]}")
