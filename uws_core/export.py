"""A figure and its numbers as files: tables, interactive and printed figures, a bundle that says where they are from.

Everything is made in memory as bytes; nothing is drawn by a service and no browser is ever downloaded.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl

from uws_core.charts.style import PRINT, PRINT_MM, Theme
from uws_core.errors import ExportError
from uws_core.nouns.models import LeftOut
from uws_core.store.codec import MATH_VERSION

# Builds the same figure for any ground; an export is always light.
Draw = Callable[[Theme], go.Figure]

# Without the first, a click on the figure's own button would send its data to a server of plotly's maker.
PLOTLY_CONFIG: Mapping[str, object] = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
FORMS = ("pdf", "svg", "png")
PACKAGES = ("torch", "numpy", "scipy", "polars", "plotly", "streamlit", "safetensors")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PNG_DPI = 300
_lock = threading.Lock()


@dataclass(frozen=True)
class Provenance:
    """Where a figure comes from: enough to make it again, and to see what is not in it.

    `name` begins the file names; `settings` is what was chosen, as plain text; `models` are the references with commits;
    `columns` explains the columns of the data; `address` is the page's own, without secrets.
    """

    name: str
    caption: str
    collection: str
    fingerprint: str
    models: tuple[str, ...]
    layers: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    address: str = ""

    @property
    def stem(self) -> str:
        """The file name without suffix: letters, digits, dots and dashes."""
        return re.sub(r"[^a-zA-Z0-9.]+", "-", self.name).strip("-.")[:80] or "figure"

    def as_json(self) -> str:
        """Everything about the figure with the versions of what made it and the time, as JSON."""
        told = {
            "caption": self.caption,
            "collection": {"name": self.collection, "fingerprint": self.fingerprint, "models": list(self.models)},
            "layers": list(self.layers),
            "settings": dict(self.settings),
            "left_out": [{"what": one.what, "reason": one.reason} for one in self.left_out],
            "columns": dict(self.columns),
            "address": self.address,
            "math_version": MATH_VERSION,
            "packages": versions(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(told, indent=2, ensure_ascii=False)


def versions() -> dict[str, str]:
    """Python and the packages that make the numbers, each with its version."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def csv_bytes(frame: pl.DataFrame, origin: Provenance) -> bytes:
    """The data as CSV; lines that begin with `#` come first and say what it is, its columns, and what was left out."""
    head = [origin.caption, f"collection: {origin.collection} {origin.fingerprint}", f"mathematics: {MATH_VERSION}"]
    head += [f"column {name}: {origin.columns[name]}" for name in frame.columns if name in origin.columns]
    head += [f"left out: {one.what}: {one.reason}" for one in origin.left_out]
    notes = "".join(f"# {' '.join(line.split())}\n" for line in head)
    return (notes + frame.write_csv()).encode()


def parquet_bytes(frame: pl.DataFrame, origin: Provenance) -> bytes:
    """The data as Parquet, its provenance in the file's metadata under `uws`."""
    place = io.BytesIO()
    frame.write_parquet(place, metadata={"uws": origin.as_json()})
    return place.getvalue()


def html_bytes(draw: Draw, origin: Provenance) -> bytes:
    """The interactive figure as one file that needs no network, with its caption and what was left out under it."""
    drawn = draw(PRINT)
    drawn.update_layout(font_size=13)
    body = drawn.to_html(full_html=False, include_plotlyjs=True, config=dict(PLOTLY_CONFIG))
    items = "".join(f"<li><b>{escape(one.what)}</b>: {escape(one.reason)}</li>" for one in origin.left_out)
    left_out = (
        f"<details><summary>Left out ({len(origin.left_out)})</summary><ul>{items}</ul></details>" if items else ""
    )
    style = (
        "body{font:15px/1.5 Helvetica,Arial,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#1b2126}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(origin.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
        f"<body>{body}<p>{escape(origin.caption)}</p>{left_out}</body></html>"
    ).encode()


def print_bytes(draw: Draw, *, form: str, mm: int = PRINT_MM[1]) -> bytes:
    """The figure as `pdf`, `svg` or `png` (300 dpi), `mm` wide with 7 pt text, drawn by a browser of this machine.

    Heatmaps are pictures inside PDF and SVG. The first figure takes seconds, the next a fraction of one.

    Raises:
        ExportError: there is no browser or no kaleido, or the browser failed.
    """
    obstacle = print_obstacle()
    if obstacle:
        raise ExportError(obstacle)
    if form not in FORMS:
        raise ExportError(f"A printed figure is one of {', '.join(FORMS)}; found {form!r}")
    # A PDF counts CSS pixels, 96 to the inch.
    width = mm / 25.4 * 96
    drawn = draw(PRINT)
    drawn.update_layout(width=width, height=max(width * 0.66, 0.7 * (drawn.layout.height or 0)))
    options = {"format": form, "width": width, "height": drawn.layout.height, "scale": 1}
    if form == "png":
        options["scale"] = _PNG_DPI / 96
    with _lock:
        try:
            return bytes(_drawer().calc_fig_sync(drawn.to_dict(), opts=options))
        except Exception as error:
            raise ExportError(
                f"The browser could not draw the figure ({type(error).__name__}: {error}); export it as HTML instead"
            ) from error


@cache
def print_obstacle() -> str:
    """Why figures cannot be printed here, or nothing when they can."""
    named = os.environ.get("BROWSER_PATH", "")
    if not (named and Path(named).is_file()) and not any(shutil.which(name) for name in _BROWSERS):
        return (
            "PDF, SVG and PNG need a Chrome or Chromium on the machine the app runs on; none was found. "
            "Install one, or name it in BROWSER_PATH"
        )
    try:
        version("kaleido")
    except PackageNotFoundError:
        return (
            "PDF, SVG and PNG need the package kaleido; install it beside the others with pip install 'kaleido>=1.5,<2'"
        )
    return ""


def bundle_bytes(draw: Draw, frame: pl.DataFrame, origin: Provenance) -> bytes:
    """One .zip with the figure, its data and `provenance.json`; printed forms too where there is a browser."""
    files = {
        f"{origin.stem}.html": html_bytes(draw, origin),
        f"{origin.stem}.csv": csv_bytes(frame, origin),
        f"{origin.stem}.parquet": parquet_bytes(frame, origin),
        "provenance.json": origin.as_json().encode(),
    }
    if not print_obstacle():
        files |= {f"{origin.stem}.{form}": print_bytes(draw, form=form) for form in FORMS}
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place.getvalue()


@cache
def _drawer() -> Any:  # noqa: ANN401 - kaleido has no types
    """kaleido with its browser kept open: 0.2 s a figure instead of 3."""
    import kaleido

    kaleido.start_sync_server(n=1, silence_warnings=True)
    return kaleido
