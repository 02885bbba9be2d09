"""Reads byte ranges from the Hub, resumes where a connection broke, and checks them against the headers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

from uws_core.errors import UnreadableFile
from uws_core.sources.hub.client import Address, HubClient, RemoteFile, demanded_wait
from uws_core.sources.hub.errors import PASSING


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a file that the headers of an answer hold: its size, and the Hub's tag of its content."""

    size: int
    tag: str = ""


class _Passing(Exception):
    """The server failed in a way that passes; `asked` is the wait it wants."""

    def __init__(self, response: httpx2.Response, demanded: float | None) -> None:
        self.error = HfHubHTTPError(f"status {response.status_code}", response=response)
        self.demanded = demanded


def fetch(
    client: HubClient, file: RemoteFile, start: int, target: memoryview, known: Facts | None = None
) -> tuple[int, Facts]:
    """Fills `target` with the file's bytes from `start` on; returns how many (fewer only at its end) and the facts.

    Raises:
        HubError: refused or unreachable; the message says which and what to do.
        UnreadableFile: the answer is not the bytes that were asked for, or the file changed since `known`.
    """
    got, failed = 0, 0
    while True:
        before, demanded = got, None
        problem: Exception = httpx2.RemoteProtocolError("the answer ended early")
        try:
            with _answer(client, file, start + got, start + len(target), known) as (known, chunks):
                for chunk in chunks:
                    target[got : got + len(chunk)] = chunk
                    got += len(chunk)
        except _Passing as passing:
            problem, demanded = passing.error, passing.demanded
        except httpx2.TransportError as error:
            problem = error
        except (HfHubHTTPError, OSError) as error:
            raise client.explained(error, file.repo, file.commit) from None
        if known is not None and got >= min(len(target), known.size - start):
            return got, known
        failed = 1 if got > before else failed + 1
        client.pause(failed, problem, demanded, repo=file.repo, revision=file.commit)


@contextmanager
def _answer(
    client: HubClient, file: RemoteFile, start: int, stop: int, known: Facts | None
) -> Iterator[tuple[Facts, Iterator[bytes]]]:
    """One answer for bytes `[start, stop)`: its facts, checked before its body is read, and the body's bytes."""
    address = client.address(file)
    # Counted in the file's own bytes: a compressed answer would have other offsets.
    headers = {**address.headers, "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    with get_session().stream("GET", address.url, headers=headers, timeout=client.retry.timeout) as response:
        if response.status_code in PASSING:
            raise _Passing(response, demanded_wait(response.headers))
        if response.status_code >= 400 and address.signed:
            # The signed address has expired: the next try asks the Hub for another.
            client.forget(file)
            raise _Passing(response, 0.0)
        if response.status_code != 416:
            hf_raise_for_status(response)
        facts = _facts(file, address, response, start, stop, known)
        if response.history:
            client.remember(file, str(response.url), response.headers.get("ETag", ""))
        yield facts, _body(file, response, stop - start)


def _facts(
    file: RemoteFile, address: Address, response: httpx2.Response, start: int, stop: int, known: Facts | None
) -> Facts:
    """The facts of an answer that is what was asked for: bytes from `start` on of the file at this commit."""
    headers_of_hub = response.history[0].headers if response.history else response.headers
    commit = headers_of_hub.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT, file.commit)
    if commit != file.commit:
        raise UnreadableFile(f"{file.name}: asked for commit {file.commit[:12]}, the Hub answered with {commit[:12]}")
    tag = headers_of_hub.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG) or headers_of_hub.get("ETag") or ""
    size = _size(file, response, start, stop)
    # A signed address has tags of its own, to be compared with its own only.
    before = address.tag if address.signed else known.tag if known else ""
    if (known and size != known.size) or (tag and before and tag != before):
        raise UnreadableFile(f"{file.name}: the file on the Hub changed while it was read; open the collection again")
    return Facts(size, known.tag if known and address.signed else tag)


def _size(file: RemoteFile, response: httpx2.Response, start: int, stop: int) -> int:
    """The whole file's size as content_range by an answer that is exactly the range that was asked for.

    Raises:
        UnreadableFile: it is not.
    """
    content_range = response.headers.get("Content-Range", "")
    length = response.headers.get("Content-Length", "")
    if response.status_code == 200 and start == 0 and length.isdigit():
        # A server without ranges: the beginning of the file is still what was asked for.
        return int(length)
    unit, _, total = content_range.removeprefix("bytes ").partition("/")
    if response.status_code == 416 and total.isdigit() and int(total) <= start:
        return int(total)
    if response.status_code != 206 or response.headers.get("Content-Encoding", "identity") != "identity":
        raise UnreadableFile(
            f"{file.name}: the server ignores byte ranges, so one layer would move the whole file; download it instead"
        )
    if not total.isdigit() or unit != f"{start}-{min(stop, int(total)) - 1}":
        raise UnreadableFile(
            f"{file.name}: asked for bytes {start}-{stop - 1}, the answer is {content_range or 'no range'!r}"
        )
    return int(total)


def _body(file: RemoteFile, response: httpx2.Response, room: int) -> Iterator[bytes]:
    """The bytes of an answer, at most `room` of them.

    Raises:
        UnreadableFile: a range with more bytes than were asked for.
    """
    if response.status_code == 416:
        return
    for chunk in response.iter_raw():
        if len(chunk) > room and response.status_code == 206:
            raise UnreadableFile(f"{file.name}: the server sent more bytes than were asked for")
        yield chunk[:room]
        room -= len(chunk)
        if room < 0:
            return
