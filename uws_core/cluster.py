"""A running Dask cluster as an executor for a scan. Dask is imported only here, and only when a cluster is used.

Workers open their own files: every one of them needs this package, and sees the models under the same paths, or reads
them from the Hub.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from uws_core.errors import ClusterError
from uws_core.store.codec import MATH_VERSION

_TIMEOUT_SECONDS = 10
# A worker that dies is replaced by another this often before its layer is given up.
_RETRIES = 2
_T = TypeVar("_T")
# With other versions of these, numbers could differ or results could not be read.
_SAME = ("mathematics", "torch", "distributed", "python")


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster that can be used: where it is, how many workers and threads, and where its own page is."""

    address: str
    workers: int
    threads: int
    dashboard: str


def scheduler_addresses() -> tuple[str, ...]:
    """The clusters that `UWS_SCHEDULER` names, with commas between several."""
    return tuple(text.strip() for text in os.environ.get("UWS_SCHEDULER", "").split(",") if text.strip())


def scheduler_address() -> str | None:
    """The cluster that `UWS_SCHEDULER` names, if any; the first of several."""
    return next(iter(scheduler_addresses()), None)


@contextmanager
def connected(address: str | None) -> Iterator[Executor | None]:
    """The executor of the cluster at `address` (`tcp://host:8786`), checked; None for None, so that work stays here.

    Raises:
        ClusterError: Dask is not installed, nothing answers there, no worker does, or they are of another version.
    """
    if address is None:
        yield None
        return
    with _client(address) as client:
        yield _PickledItems(client.get_executor(pure=False, retries=_RETRIES))


def inspected(address: str) -> ClusterState:
    """The state of the cluster at `address`, after the same checks as before a scan.

    Raises:
        ClusterError: see `connected`.
    """
    with _client(address) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        threads = sum(worker["nthreads"] for worker in workers.values())
        return ClusterState(address, len(workers), threads, str(client.dashboard_link or ""))


def worker_versions() -> dict[str, str]:
    """The versions that must agree for numbers of two machines to be comparable; called on every worker."""
    versions = {"mathematics": str(MATH_VERSION), "python": ".".join(platform.python_version_tuple()[:2])}
    for package in ("torch", "distributed"):
        try:
            # The build after a plus (cpu, cu128) changes numbers only within the stated floor.
            versions[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            versions[package] = "missing"
    return versions


class _PickledItems(Executor):
    """Sends items as bytes that only a worker unpickles: the scheduler, which inspects tasks, needs no such package."""

    def __init__(self, cluster: Executor) -> None:
        self._cluster = cluster

    def submit(self, fn: Callable[..., _T], /, *args: object, **kwargs: object) -> Future[_T]:
        """The item's future; a failure on the way is its exception."""
        return self._cluster.submit(_opener(), pickle.dumps((fn, args, kwargs)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancels unfinished items."""
        self._cluster.shutdown(wait=wait)


def _opener() -> Callable[[bytes], Any]:
    # A function inside a function travels by value; one of this module would be looked up by name.
    def opened(item: bytes) -> object:
        import pickle

        work, given, named = pickle.loads(item)
        return work(*given, **named)

    return opened


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        dask: Any = import_module("distributed")
    except ImportError as error:
        raise ClusterError(
            f"A scan on the cluster {address} needs Dask, which is not installed here; "
            "install it with pip install -r requirements-cluster.txt, or scan without a scheduler"
        ) from error
    try:
        _check_scheduler(dask, address)
        client = dask.Client(address, timeout=_TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}" if str(error) else f"Timed out after {_TIMEOUT_SECONDS} s"
        raise ClusterError(
            f"No Dask scheduler answers at {address!r} ({cause}); an address looks like "
            "tcp://host:8786; start a scheduler with `dask scheduler`, or scan without one"
        ) from error
    try:
        _check(address, client)
        yield client
    finally:
        # A client whose scheduler died keeps trying to reconnect, and may not close in time.
        with suppress(TimeoutError, OSError, AssertionError):
            client.close(timeout=2)


def _check_scheduler(dask: Any, address: str) -> None:  # noqa: ANN401 - a module imported late
    """Checks that a scheduler answers, on an event loop of its own: a Dask client that never connected blocks the next.

    Raises:
        OSError, ValueError, TypeError: nothing answers, or something else does.
    """

    async def ask() -> str:
        # Raises ValueError for what is no address of a kind Dask knows.
        dask.comm.get_address_host_port(address, strict=True)
        async with dask.rpc(address, timeout=_TIMEOUT_SECONDS) as there:
            return str((await asyncio.wait_for(there.identity(), _TIMEOUT_SECONDS))["type"])

    # A thread of its own, because the caller's may have a running loop (a notebook's has).
    with ThreadPoolExecutor(1) as thread:
        kind = thread.submit(lambda: asyncio.run(ask())).result()
    if kind != "Scheduler":
        raise ValueError(f"a {kind} answers there")


def _check(address: str, client: Any) -> None:  # noqa: ANN401 - a Dask client, imported late
    try:
        client.wait_for_workers(1, timeout=_TIMEOUT_SECONDS)
    except (TimeoutError, OSError) as error:
        raise ClusterError(
            f"The scheduler at {address} has no workers after {_TIMEOUT_SECONDS} s; "
            f"start some with `dask worker {address}` in the folder of this project"
        ) from error
    try:
        answers: Mapping[str, Mapping[str, str]] = client.run(worker_versions)
    except Exception as error:
        # Whatever a worker without this package raises: Dask passes on the error of the import, or one of its own.
        raise ClusterError(
            f"A worker of {address} cannot run this package ({type(error).__name__}: {error}); "
            "start it in the folder of this project, or with that folder in PYTHONPATH, and the same requirements"
        ) from error
    here = worker_versions()
    wrong = [
        f"{worker} has {name} {answer.get(name)}, here it is {here[name]}"
        for worker, answer in answers.items()
        for name in _SAME
        if answer.get(name) != here[name]
    ]
    if wrong:
        raise ClusterError(
            f"Workers of {address} are of another version: {'; '.join(wrong[:3])}; install the same requirements there"
        )
