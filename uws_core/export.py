"""A figure and its data as files: tables, interactive and printed figures, and a bundle with provenance.

Everything is built in memory as bytes. No online service draws a figure, and no browser is downloaded.
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

# Builds the figure for a theme; an export is always light.
Draw = Callable[[Theme], go.Figure]

# `showSendToCloud` would let a button of the figure upload its data to plotly's server.
PLOTLY_CONFIG: Mapping[str, object] = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
FORMS = ("pdf", "svg", "png")
PACKAGES = ("torch", "numpy", "scipy", "polars", "plotly", "streamlit", "safetensors")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PNG_DPI = 300
_lock = threading.Lock()


@dataclass(frozen=True)
class Provenance:
    """Origin of a figure: enough to reproduce it, and what is not in it.

    `name` begins the file names; `settings` are the chosen options as plain text; `models` are the references with
    commits; `columns` explains the columns of the data; `address` is the address of the page, without secrets.
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
        """The provenance as JSON, with package versions and the time."""
        content = {
            "caption": self.caption,
            "collection": {"name": self.collection, "fingerprint": self.fingerprint, "models": list(self.models)},
            "layers": list(self.layers),
            "settings": dict(self.settings),
            "left_out": [{"what": item.what, "reason": item.reason} for item in self.left_out],
            "columns": dict(self.columns),
            "address": self.address,
            "math_version": MATH_VERSION,
            "packages": versions(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(content, indent=2, ensure_ascii=False)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute the numbers."""
    result = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def csv_bytes(frame: pl.DataFrame, origin: Provenance) -> bytes:
    """The data as CSV; leading lines with `#` hold caption, collection, columns, and what was left out."""
    head = [origin.caption, f"collection: {origin.collection} {origin.fingerprint}", f"mathematics: {MATH_VERSION}"]
    head += [f"column {name}: {origin.columns[name]}" for name in frame.columns if name in origin.columns]
    head += [f"left out: {item.what}: {item.reason}" for item in origin.left_out]
    notes = "".join(f"# {' '.join(line.split())}\n" for line in head)
    return (notes + frame.write_csv()).encode()


def parquet_bytes(frame: pl.DataFrame, origin: Provenance) -> bytes:
    """The data as Parquet, with provenance in the file's metadata under `uws`."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata={"uws": origin.as_json()})
    return buffer.getvalue()


def html_bytes(draw: Draw, origin: Provenance) -> bytes:
    """The interactive figure as one file that needs no network, with its caption and what was left out below."""
    figure = draw(PRINT)
    figure.update_layout(font_size=13)
    body = figure.to_html(full_html=False, include_plotlyjs=True, config=dict(PLOTLY_CONFIG))
    items = "".join(f"<li><b>{escape(item.what)}</b>: {escape(item.reason)}</li>" for item in origin.left_out)
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
    """The figure as `pdf`, `svg` or `png` (300 dpi), `mm` wide with 7 pt text, drawn by a browser on this machine.

    Heatmaps are raster images inside PDF and SVG. The first figure takes about 3 s, further ones 0.2 s.

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
    figure = draw(PRINT)
    figure.update_layout(width=width, height=max(width * 0.66, 0.7 * (figure.layout.height or 0)))
    options = {"format": form, "width": width, "height": figure.layout.height, "scale": 1}
    if form == "png":
        options["scale"] = _PNG_DPI / 96
    with _lock:
        try:
            return bytes(_kaleido().calc_fig_sync(figure.to_dict(), opts=options))
        except Exception as error:
            raise ExportError(
                f"The browser could not draw the figure ({type(error).__name__}: {error}); export it as HTML instead"
            ) from error


@cache
def print_obstacle() -> str:
    """The reason why figures cannot be printed on this machine; empty where they can."""
    browser = os.environ.get("BROWSER_PATH", "")
    if not (browser and Path(browser).is_file()) and not any(shutil.which(name) for name in _BROWSERS):
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
    """A .zip with the figure, its data and `provenance.json`, and printed figures where there is a browser."""
    files = {
        f"{origin.stem}.html": html_bytes(draw, origin),
        f"{origin.stem}.csv": csv_bytes(frame, origin),
        f"{origin.stem}.parquet": parquet_bytes(frame, origin),
        "provenance.json": origin.as_json().encode(),
    }
    if not print_obstacle():
        files |= {f"{origin.stem}.{form}": print_bytes(draw, form=form) for form in FORMS}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@cache
def _kaleido() -> Any:  # noqa: ANN401 - kaleido has no types
    """kaleido with its browser kept open: 0.2 s a figure instead of 3 s."""
    import kaleido

    kaleido.start_sync_server(n=1, silence_warnings=True)
    return kaleido
