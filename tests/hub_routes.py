"""How the stand-in for the Hub answers, route by route; see `hub_standin`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from tests.hub_standin import HubStandIn, Repo

# A token that may read everything, and one of an account that was granted nothing; any other is refused.
TOKEN = "hf_allowed_everything"
STRANGER = "hf_known_but_without_rights"
# A listing answers this many models a page, so that small tests have several pages.
PAGE = 100
# Files that lie on the other server, behind a redirect.
LARGE = (".safetensors", ".bin", ".gguf")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in two small packets would wait 40 ms for each other's acknowledgement.
    disable_nagle_algorithm = True
    standin: HubStandIn
    server_name_: str

    def log_message(self, *args: object) -> None:
        """Stay quiet: requests are recorded instead."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub = self.standin
        parts = urlsplit(self.path)
        self.sent, self.status = 0, 0
        # One blob is one path, so that a fault can name a file: the query of a signed address carries its name.
        self.query = parse_qs(parts.query)
        self.route = unquote(parts.path)
        shown = self.route + (f"/{self.query['name'][0]}" if self.server_name_ == "cdn" else "")
        with hub.lock:
            hub.busy += 1
            hub.busiest = max(hub.busiest, hub.busy)
        try:
            self.trouble = hub.fault(shown)
            if self.trouble and self.trouble.kind == "slow":
                time.sleep(self.trouble.seconds)
            if self.trouble and self.trouble.kind == "status":
                self._answer(self.trouble.status, b"something went wrong", self.trouble.headers)
            elif self.server_name_ == "cdn":
                self._blob(self.route.removeprefix("/blob/"))
            else:
                self._hub()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with hub.lock:
                hub.busy -= 1
                headers = {key.lower(): value for key, value in self.headers.items()}
                hub.note(self.server_name_, self.command, shown, self.query, headers, self.status, self.sent)

    # --- the Hub's own routes

    def _hub(self) -> None:
        for pattern, route in (
            ("/api/models", self._listing),
            ("/api/resolve-cache/models/*", self._cached),
            ("/api/models/*", self._info),
            ("/*/resolve/*", self._resolve),
        ):
            if fnmatchcase(self.route, pattern):
                return route()
        return self._answer(404, b"Not Found")

    def _repo(self, repo_id: str, *, files: bool = False) -> Repo | None:
        """The repository if it exists and this token may see it; otherwise answers as the Hub does."""
        hub = self.standin
        if repo_id in hub.renamed:
            target = self.path.replace(repo_id, hub.renamed[repo_id], 1)
            self._answer(307, b"", {"Location": target})
            return None
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        repo = hub.repos.get(repo_id)
        if token not in ("", TOKEN, STRANGER):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and token != TOKEN):
            # Whoever has no rights must not learn whether it exists: anonymous callers read 401, others 404.
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repo.disabled:
            self._refuse(403, "", "Access to this resource is disabled.")
        elif repo.gated and files and token != TOKEN:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to model {repo_id} is restricted.")
        else:
            return repo
        return None

    def _listing(self) -> None:
        """Every model that passes the filters and is public, in pages with a `Link` to the next."""
        ask = {key: values[-1] for key, values in self.query.items()}
        found = [repo for repo in self.standin.repos.values() if not repo.private and self._passes(repo, ask)]
        if sort := ask.get("sort"):
            found.sort(key=lambda repo: (repo.facts.get(sort) is not None, repo.facts.get(sort)), reverse=True)
        first, size = int(ask.get("cursor", 0)), min(int(ask.get("limit", PAGE)), PAGE)
        body = [_told(repo, repo.refs["main"], self.query.get("expand")) for repo in found[first : first + size]]
        headers = {}
        if first + size < len(found):
            kept = "&".join(f"{k}={quote(v)}" for k, vs in self.query.items() for v in vs if k != "cursor")
            headers["Link"] = f'<{self.standin.url}/api/models?{kept}&cursor={first + size}>; rel="next"'
        self._json(body, headers)

    def _passes(self, repo: Repo, ask: Mapping[str, str]) -> bool:
        facts = repo.facts
        return (
            all(tag in facts.get("tags", ()) for tag in self.query.get("filter", ()))
            and ("author" not in ask or repo.id.split("/")[0] == ask["author"])
            and ask.get("search", "").lower() in repo.id.lower()
            and ask.get("pipeline_tag") in (None, facts.get("pipeline_tag"))
            and ask.get("gated") in (None, str(repo.gated).lower())
        )

    def _info(self) -> None:
        repo_id, _, rest = self.route.removeprefix("/api/models/").partition("/revision/")
        if "/tree/" in repo_id:
            repo_id, _, rest = repo_id.partition("/tree/")
        repo = self._repo(repo_id)
        if repo is None:
            return
        commit = repo.at(rest or "main")
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {rest}")
        elif "/tree/" in self.route:
            self._json([_entry(name, data) for name, data in repo.commits[commit].items()])
        else:
            self._json(_told(repo, commit, self.query.get("expand")))

    def _resolve(self) -> None:
        """A file at a revision: a redirect to where the bytes are, with the file's facts in the headers."""
        repo_id, _, rest = self.route.removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        repo = self._repo(repo_id, files=True)
        if repo is None:
            return None
        commit = repo.at(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        data = repo.commits[commit].get(name)
        if data is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        facts = {"X-Repo-Commit": commit}
        if name.endswith(LARGE):
            digest = hashlib.sha256(data).hexdigest()
            shown = f"changed-{digest}" if self.trouble and self.trouble.kind == "etag" else digest
            facts |= {"X-Linked-Etag": f'"{shown}"', "X-Linked-Size": str(len(data)), "ETag": f'"{shown}"'}
            signed = f"{self.standin.cdn}/blob/{digest}?name={quote(repo_id)}/{quote(name)}&signature=secret"
            return self._answer(302, b"", facts | {"Location": signed})
        if repo.private or repo.gated:
            return self._ranged(data, facts)
        return self._answer(
            307, b"", facts | {"Location": f"/api/resolve-cache/models/{repo_id}/{commit}/{quote(name)}"}
        )

    def _cached(self) -> None:
        owner, name, commit, path = self.route.removeprefix("/api/resolve-cache/models/").split("/", 3)
        self._ranged(self.standin.repos[f"{owner}/{name}"].commits[commit][path], {"X-Repo-Commit": commit})

    def _blob(self, digest: str) -> None:
        self._ranged(self.standin.blobs[digest], {})

    # --- answers

    def _ranged(self, data: bytes, headers: Mapping[str, str]) -> None:
        """The bytes a `Range` asks for, spoilt by the fault that hit this request."""
        kind = self.trouble.kind if self.trouble else None
        digest = hashlib.sha256(data).hexdigest()
        # Where the bytes lie, their tag is another than the one the Hub gives them.
        facts = {"ETag": f'"{self.server_name_}-{digest}"', "Accept-Ranges": "bytes", **headers}
        asked = self.headers.get("Range")
        if asked is None or kind == "whole":
            return self._answer(200, data, facts)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(data)) + 1, len(data))
        if start >= len(data):
            return self._answer(416, b"out of range", facts | {"Content-Range": f"bytes */{len(data)}"})
        if kind == "shifted":
            start, stop = start + 1, min(stop + 1, len(data))
        facts["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        body = data[start:stop] + (b"more" if kind == "too_long" else b"")
        return self._answer(206, body, facts)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.trouble and self.trouble.kind == "truncated":
            body = body[: int(len(body) * self.trouble.keep)]
            self.close_connection = True
        self.wfile.write(body)
        self.sent += len(body)

    def _json(self, found: object, headers: Mapping[str, str] | None = None) -> None:
        self._answer(200, json.dumps(found).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Code": code} if code else {}
        body = json.dumps({"error": message}).encode()
        self._answer(
            status, body, {**told, "X-Error-Message": message, "Content-Type": "application/json", **(headers or {})}
        )


def _told(repo: Repo, commit: str, expand: list[str] | None) -> dict[str, Any]:
    """What the Hub says about a repository: everything that is asked for, no more."""
    author = repo.id.split("/")[0]
    said = {
        "sha": commit,
        "author": author,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": repo.disabled,
        "siblings": [{"rfilename": name} for name in repo.commits[commit]],
        "tags": [],
        "downloads": 0,
        "likes": 0,
        **repo.facts,
    }
    kept = said if not expand else {key: value for key, value in said.items() if key in expand}
    return {"_id": hashlib.md5(repo.id.encode()).hexdigest()[:24], "id": repo.id, "modelId": repo.id, **kept}


def _entry(name: str, data: bytes) -> dict[str, Any]:
    """One file of a tree listing."""
    entry: dict[str, Any] = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
