"""A real server nobody has visited, and visitors without a browser: one websocket, one run of a page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

ROOT = Path(__file__).parents[1]


@contextmanager
def cold_server(folder: Path, *, app: Path = ROOT / "app.py", store: str = "results") -> Iterator[str]:
    """The address of a new server whose port answers; its results and its log lie in `folder`."""
    env = os.environ | {"UWS_CACHE": str(folder / store), "UWS_ROOTS": str(folder), "HF_HUB_OFFLINE": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", app.name, f"--server.port={port}"]
    log, url = folder / "server.log", f"http://127.0.0.1:{port}"
    with log.open("w") as words:
        process = subprocess.Popen(command, cwd=app.parent, env=env, stdout=words, stderr=words)
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert "Traceback" not in log.read_text(), log.read_text()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as reply:
            return int(reply.status) == 200
    except (urllib.error.URLError, TimeoutError):
        return False


@dataclass
class Visit:
    """What one run of a page sent: `exceptions` in place of elements, and seconds from asking to the first of each."""

    exceptions: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    figure_seconds: float = float("nan")
    seconds: float = float("nan")


def visit(url: str, page: str = "", *, patience: float = 60.0, **params: str) -> Visit:
    """Opens a page (empty for the start page) and stays until its script has ended; redirects are followed."""
    result, began = Visit(), time.perf_counter()
    address = url.replace("http", "ws", 1).rstrip("/") + "/_stcore/stream"
    with connect(address, origin=url.rstrip("/"), max_size=None, compression=None) as socket:
        ask = BackMsg()
        ask.rerun_script.page_name = page
        ask.rerun_script.query_string = urlencode(params)
        socket.send(ask.SerializeToString())
        while True:
            message = ForwardMsg.FromString(socket.recv(timeout=patience))
            _note(message, result, time.perf_counter() - began)
            # A switch of the page ends one run and begins another, which ends with the page's title.
            if message.WhichOneof("type") == "script_finished" and (result.titles or result.exceptions):
                result.seconds = time.perf_counter() - began
                return result


def _note(message: ForwardMsg, result: Visit, seconds: float) -> None:
    if message.WhichOneof("type") != "delta" or message.delta.WhichOneof("type") != "new_element":
        return
    element = message.delta.new_element
    kind = str(element.WhichOneof("type"))
    if kind == "bidi_component":
        kind = element.bidi_component.component_name
    result.kinds.add(kind)
    if kind == "exception":
        result.exceptions.append(f"{element.exception.type}: {element.exception.message}")
    if kind == "heading" and element.heading.tag == "h1":
        result.titles.append(element.heading.body)
    if kind == "uws_figure" and result.figure_seconds != result.figure_seconds:
        result.figure_seconds = seconds
