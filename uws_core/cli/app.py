"""`app`: starts the dashboard."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from uws_core.errors import UwsError

PASSWORD = "UWS_PASSWORD"
_LOCAL = ("127.0.0.1", "localhost", "::1")


def add_app(parser: ArgumentParser) -> None:
    """Adds the options of `app`."""
    parser.add_argument("--address", default="127.0.0.1", help="interface to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8501)")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name that browsers use to reach the app on another machine; may be given several times",
    )
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help=f"a proxy in front of the app checks who may enter, so no {PASSWORD} is needed",
    )
    parser.set_defaults(act=run_app)


def run_app(options: Namespace) -> int:
    """Runs the dashboard until it is stopped and returns its exit code; on POSIX the command becomes the server.

    Raises:
        UwsError: other machines could reach the app and neither a password nor a proxy protects it.
    """
    if options.address not in _LOCAL and not options.behind_proxy and not os.environ.get(PASSWORD):
        raise UwsError(
            f"On {options.address} other machines can reach the app and every folder it may open. Set {PASSWORD}, or "
            "pass --behind-proxy if a proxy in front of it checks who may enter"
        )
    command = [sys.executable, "-m", "streamlit", "run", str(script()), "--server.address", options.address]
    if options.port is not None:
        command += ["--server.port", str(options.port)]
    for host in ("localhost", "127.0.0.1", *options.allowed_host) if options.allowed_host else ():
        command += ["--server.allowedHosts", host]
    if os.name == "posix":
        # A stop that a container or a service manager sends reaches the server itself: as process 1 of a container a
        # waiting parent ignores SIGTERM, and elsewhere it dies of it and leaves the server running.
        os.execv(sys.executable, command)
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0


def script() -> Path:
    """Returns the path of `app.py`: beside the package in a checkout, inside it where a wheel was installed."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "app.py"
    return checkout if checkout.is_file() else package / "dashboard" / "app.py"
