"""Requests to the Hub with the session, addresses and errors of the real client, under one retry policy.

The token comes from the environment and travels in a header to the Hub alone: never in an address, a key or a log.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Final, Literal, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

# Loaded lazily by the package, which hides them from a type checker.
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers  # type: ignore[attr-defined]

from uws_core.errors import HubError
from uws_core.nouns.hub import HubModel
from uws_core.sources.hub.errors import PASSING, TOKEN_VARIABLE, explained

log = logging.getLogger(__name__)
T = TypeVar("T")

# A signed address is valid for an hour; it is renewed after ten minutes to be safe.
_ADDRESS_LIVES: Final = 600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try a request again: seconds before the first retry (doubling), and the longest wait a server may demand.

    `tries` counts failures in a row: every byte that arrives starts the count anew.
    """

    tries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 8.0
    # The Hub counts requests in windows of five minutes.
    longest_demand: float = 310.0
    timeout: float = 10.0

    def wait(self, failed: int, demanded: float | None) -> float:
        """Seconds before the next try after `failed` failures; a wait that the server demanded goes first."""
        if demanded is not None:
            return demanded
        # Spread, so that eight readers that failed together do not come back together.
        return min(self.longest_wait, self.first_wait * 2.0 ** (failed - 1)) * random.uniform(0.75, 1.25)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at a commit."""

    repo: str
    commit: str
    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a file's bytes: the Hub's own, or the signed one it redirected to, with the tag of the content."""

    url: str
    headers: Mapping[str, str]
    signed: bool = False
    tag: str = ""
    until: float = 0.0


class HubClient:
    """One endpoint and one token, shared by all threads; `workers` range requests at a time."""

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        retry: RetryPolicy | None = None,
        workers: int = 8,
    ) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.retry = retry or RetryPolicy()
        self.workers = workers
        # The length of headers met so far by file name: models of one architecture have equal headers.
        self.header_sizes: dict[str, int] = {}
        # Descriptions of repositories at a commit, which do not change.
        self.models: dict[tuple[str, str], HubModel] = {}
        # Models and layers that were fetched whole: into what, and how often room had been made there by then.
        self.fetched: dict[tuple[str, str], tuple[object, int]] = {}
        # False, not None: with None the client would look for a token in files of its own.
        self._token: str | Literal[False] = token or os.environ.get(TOKEN_VARIABLE) or False
        self._signed: dict[RemoteFile, Address] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"HubClient({self.endpoint}, {'with' if self._token else 'without'} a token)"

    @cached_property
    def api(self) -> HfApi:
        """The real client."""
        return HfApi(endpoint=self.endpoint, token=self._token, library_name="uws")

    @property
    def token_or_no(self) -> str | Literal[False]:
        """The token, for a function of the client's that wants it."""
        return self._token

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that read ranges; their tasks never wait for one another."""
        return ThreadPoolExecutor(self.workers, thread_name_prefix="uws-hub")

    def ask(self, call: Callable[[], T], *, repo: str = "", revision: str = "", once: bool = False) -> T:
        """What `call` returns, tried again while the Hub is busy, unless `once`: some of the client's calls do it too.

        Raises:
            HubError: refused, missing, unreachable; the message says which and what to do.
        """
        failed = 0
        while True:
            demanded = None
            try:
                return call()
            except httpx2.TransportError as error:
                problem: Exception = error
            except HfHubHTTPError as error:
                if error.response.status_code not in PASSING:
                    raise self.explained(error, repo, revision) from None
                problem, demanded = error, demanded_wait(error.response.headers)
            # On purpose the client raises ValueError and OSError; an answer of another shape ends in the other two.
            except (ValueError, OSError, TypeError, LookupError) as error:
                raise self.explained(error, repo, revision) from None
            failed = self.retry.tries if once else failed + 1
            self.pause(failed, problem, demanded, repo=repo, revision=revision)

    def pause(self, failed: int, problem: Exception, demanded: float | None, *, repo: str, revision: str) -> None:
        """Waits before the next try, or raises a HubError when no try is left; no other error is chained to it."""
        retry = self.retry
        # A refused connection is no hiccup: one more try, then say so.
        tries = min(2, retry.tries) if isinstance(problem, httpx2.ConnectError) else retry.tries
        if failed >= tries:
            raise self.explained(problem, repo, revision) from None
        if demanded is not None and demanded > retry.longest_demand:
            raise HubError(f"the Hub asks to wait {demanded:.0f} s before the next request; try again later")
        seconds = retry.wait(failed, demanded)
        log.info("%s: %s, next try in %.1f s", repo, type(problem).__name__, seconds)
        time.sleep(seconds)

    def explained(self, error: Exception, repo: str, revision: str) -> HubError:
        """What to raise for an error of the client's."""
        return explained(error, repo=repo, revision=revision, endpoint=self.endpoint, has_token=bool(self._token))

    def address(self, file: RemoteFile) -> Address:
        """Where to ask for a file's bytes. A signed address is off the Hub, so no token goes there."""
        with self._lock:
            found = self._signed.get(file)
        if found and time.monotonic() < found.until:
            return found
        url = hf_hub_url(file.repo, file.name, revision=file.commit)
        # The client builds addresses from the endpoint of the process, not from this object's.
        url = self.endpoint + url.removeprefix(constants.ENDPOINT)
        return Address(url, self.headers())

    def headers(self) -> dict[str, str]:
        """The headers of a request to the Hub itself, with the token."""
        return dict(build_hf_headers(token=self._token, library_name="uws"))

    def remember(self, file: RemoteFile, url: str, tag: str) -> None:
        """Keeps the address a redirect led to, off the Hub: half as many requests, none of them counted there."""
        if not url.startswith(self.endpoint + "/"):
            with self._lock:
                self._signed[file] = Address(url, {}, True, tag, time.monotonic() + _ADDRESS_LIVES)

    def forget(self, file: RemoteFile) -> None:
        """Drops a signed address that has expired."""
        with self._lock:
            self._signed.pop(file, None)


def demanded_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds a server demands before the next request: its rate limit, or `Retry-After` (seconds or a date)."""
    limit = parse_ratelimit_headers(headers)
    if limit and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
