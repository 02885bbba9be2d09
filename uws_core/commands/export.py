"""`export`: the spectrum of a layer, or the overview of all, as a table, a figure, or a bundle of both."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path

import plotly.graph_objects as go
import polars as pl

from uws_core import export as exporting
from uws_core import run
from uws_core.charts import overview as overview_charts
from uws_core.charts import spectrum as spectrum_charts
from uws_core.charts.style import Look
from uws_core.commands import asked
from uws_core.commands.effort import add_effort
from uws_core.commands.results import add_axis, ended, grams, item
from uws_core.commands.table import print_json, say
from uws_core.errors import ExportError, UwsError
from uws_core.export import Draw, Provenance
from uws_core.frames import spectrum as frames
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.spectrum import LayerSpectrum

_SUFFIXES = ("csv", "parquet", "html", "zip", *exporting.FORMS)


def add_export(parser: ArgumentParser) -> None:
    """The options of `export`."""
    asked.add_where(parser)
    asked.add_layers(parser)
    add_effort(parser)
    add_axis(parser)
    parser.add_argument("--to", required=True, metavar="FILE", help=f"the suffix is the form: {', '.join(_SUFFIXES)}")
    parser.add_argument("--sum", action="store_true", help="the chosen layers as one long layer, instead of each")
    parser.add_argument("--share", type=asked.share, default=0.9, help="the rank is that at this share (default 0.9)")
    parser.add_argument("--draws", type=_draws, default=200, help="draws of noise to compare with; 0 for none")
    parser.add_argument("--json", action="store_true", help="say what was written as one JSON object")
    parser.set_defaults(act=export)


def export(told: Namespace) -> int:
    """Write the scree of one layer (or of all as one), or one row a layer; the file appears when it is whole."""
    place = Path(told.to).expanduser()
    form = place.suffix.lstrip(".").lower()
    if form not in _SUFFIXES:
        raise ExportError(f"{place.name}: the suffix says the form, one of {', '.join(_SUFFIXES)}; found {form!r}")
    if told.sum and told.axis != Axis.MODELS:
        raise ExportError("--sum adds layers on the models axis only; leave one of --sum and --axis out")
    obstacle = exporting.print_obstacle() if form in exporting.FORMS else ""
    if obstacle:
        raise ExportError(obstacle)
    found = asked.collection(told)
    failed: dict[str, UwsError] = {}
    names = list[str]()
    items = _items(_noted(grams(found, asked.layers(found, told.layers), told, failed), names), told)
    if not items:
        return ended([], failed)
    frame, draw = _scree(items[0]) if len(items) == 1 else _overview(items, told.share)
    origin = _origin(found, items, names, told, failed)
    write_whole(place, _content(form, frame, draw, origin))
    say(f"{place}: {frame.height} rows")
    if told.json:
        print_json({"file": str(place), "rows": frame.height, "layers": names, "failed": sorted(failed)})
    return ended(names, failed)


def _draws(text: str) -> int:
    """A number of draws, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise ArgumentTypeError(f"draws are a whole number from 0 to 999999; found {text!r}")
    return int(text)


def write_whole(place: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is whole.

    Raises:
        ExportError: the folder is not there, or the disk is full or read-only.
    """
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(place)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ExportError(f"{place} cannot be written ({error}); name a file in a folder that exists") from error


def _items(every: Iterator[Gram], told: Namespace) -> list[LayerSpectrum]:
    """The spectrum of each, or of all as one; one Gram at a time, since all of them are more than memory holds."""
    first = next(every, None)
    if first is None:
        return []
    grams = chain([first], every)
    return [item(gram, told.draws) for gram in ([run.whole_network(grams)] if told.sum else grams)]


def _noted(every: Iterator[Gram], names: list[str]) -> Iterator[Gram]:
    """The same, with the layers' names noted as they come."""
    for gram in every:
        names.append(gram.layer.name)
        yield gram


def _scree(one: LayerSpectrum) -> tuple[pl.DataFrame, Draw]:
    frame = frames.scree(one.spectrum, one.band)

    def draw(look: Look) -> go.Figure:
        seen = one.spectrum
        floor = seen.floor / seen.total if seen.total > 0 and isfinite(seen.floor) else 0.0
        edge = one.band.edge if one.band is not None else float("nan")
        return spectrum_charts.scree(frame, floor=floor, ceiling=seen.ceiling, edge=edge, look=look)

    return frame, draw


def _overview(items: list[LayerSpectrum], share: float) -> tuple[pl.DataFrame, Draw]:
    frame = frames.overview(items, share=share)

    def draw(look: Look) -> go.Figure:
        return overview_charts.overview(frame, look=look)

    return frame, draw


def _content(form: str, frame: pl.DataFrame, draw: Draw, origin: Provenance) -> bytes:
    makers: dict[str, Callable[[], bytes]] = {
        "csv": partial(exporting.csv_bytes, frame, origin),
        "parquet": partial(exporting.parquet_bytes, frame, origin),
        "html": partial(exporting.html_bytes, draw, origin),
        "zip": partial(exporting.bundle_bytes, draw, frame, origin),
    }
    return makers[form]() if form in makers else exporting.print_bytes(draw, form=form)


def _origin(
    found: Collection, items: list[LayerSpectrum], names: list[str], told: Namespace, failed: dict[str, UwsError]
) -> Provenance:
    one = len(items) == 1
    what = items[0].layer.short if one else f"{len(items)} layers"
    lost = tuple(LeftOut(name, str(error)) for name, error in failed.items())
    return Provenance(
        name=f"{found.name} {what}",
        caption=f"{found.name}, {what}, {len(found)} models about their mean"
        + ("" if told.axis == Axis.MODELS else f", axis {told.axis}")
        + ("" if one else f", rank at {told.share:.0%}"),
        collection=found.name,
        fingerprint=found.fingerprint,
        models=tuple(str(ref) for ref in found.refs),
        layers=tuple(names),
        asked={"where": " ".join(told.where), "axis": told.axis, "draws": str(told.draws), "sum": str(told.sum)},
        left_out=found.left_out + lost,
        columns=frames.HELP,
    )
