"""A Hub on this machine: speaks the endpoints the real client calls, with switches for everything that goes wrong.

Two servers, as in the real world: the Hub itself, and another origin that holds the large files behind a redirect (to
which no token may travel). Small files are redirected to a commit-pinned address on the Hub, those of private and gated
repositories are served directly; a renamed repository redirects. Every request is recorded with the bytes it moved.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Literal, Self

from tests.hub_routes import STRANGER, TOKEN, Handler

__all__ = ["STRANGER", "TOKEN", "Fault", "HubStandIn", "Repo", "Seen"]

Kind = Literal["status", "slow", "truncated", "too_long", "shifted", "whole", "etag"]


@dataclass
class Repo:
    """A repository: its files at each commit, and what the Hub says about it."""

    id: str
    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    private: bool = False
    gated: bool = False
    disabled: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def at(self, revision: str) -> str | None:
        """The commit a branch, a tag or a commit names."""
        found = self.refs.get(revision, revision)
        return found if found in self.commits else None


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it, and the body bytes it sent back."""

    server: str
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    status: int
    sent: int


@dataclass
class Fault:
    """What goes wrong for requests whose path matches: `times` times, after letting `skip` of them pass."""

    pattern: str
    kind: Kind
    times: int = 1
    skip: int = 0
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    keep: float = 0.5


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # With the usual five, the sixth of several clients that connect at once waits a second.
    request_queue_size = 128

    def server_bind(self) -> None:
        """Binds without asking for the name of 127.0.0.1, which takes a second where no name server answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what many tests are about: nothing is printed."""


class HubStandIn:
    """Both servers on 127.0.0.1, started on entry, stopped on exit; `url` is the endpoint to point a client at."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.busy = 0
        self.busiest = 0
        self._servers = [self._server("hub"), self._server("cdn")]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def _server(self, name: str) -> ThreadingHTTPServer:
        handler = type("Bound", (Handler,), {"standin": self, "server_name_": name})
        return _Server(("127.0.0.1", 0), handler)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *stop: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        *,
        revision: str = "main",
        private: bool = False,
        gated: bool = False,
        disabled: bool = False,
        **facts: object,
    ) -> str:
        """A repository, or one more commit of it under `revision`; returns the commit.

        `facts` are told as they are: tags, cardData, downloads, createdAt, pipeline_tag, ...
        """
        content = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        commit = hashlib.sha1(json.dumps([repo_id, content]).encode()).hexdigest()
        repo = self.repos.setdefault(repo_id, Repo(repo_id, {}, {}))
        repo.commits[commit] = dict(files)
        repo.refs[revision] = commit
        repo.private, repo.gated, repo.disabled = private, gated, disabled
        repo.facts.update(facts)
        self.blobs.update((content[name], data) for name, data in files.items())
        return commit

    def fail(self, pattern: str, kind: Kind = "status", **how: object) -> Fault:
        """Let requests whose path matches `pattern` go wrong; see `Fault`."""
        fault = Fault(pattern, kind, **how)
        self.faults.append(fault)
        return fault

    def fault(self, path: str) -> Fault | None:
        """The fault that hits this request, used up by it."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fnmatchcase(path, fault.pattern):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def note(self, *facts: object) -> None:
        """Records a request; see `Seen` for the facts."""
        self.seen.append(Seen(*facts))

    def quiet(self) -> list[Seen]:
        """Every request so far, once none is being answered: an answer is recorded just after its last byte is sent."""
        until = time.monotonic() + 5
        while self.busy and time.monotonic() < until:
            time.sleep(0.001)
        return self.seen

    def calls(self, pattern: str = "*") -> list[Seen]:
        """The requests a client began on the Hub whose path matches, without those a redirect of the Hub's caused."""
        began = [one for one in self.quiet() if one.server == "hub" and "/resolve-cache/" not in one.path]
        return [one for one in began if fnmatchcase(one.path, pattern)]

    def bytes_sent(self, pattern: str = "*") -> int:
        """The body bytes sent by both servers for matching paths."""
        return sum(one.sent for one in self.quiet() if fnmatchcase(one.path, pattern))

    def statuses(self) -> Counter[int]:
        """How often each status was answered."""
        return Counter(one.status for one in self.quiet())
