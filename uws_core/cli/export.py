"""`export`: writes the spectrum of a layer, or the overview of all, as a table, a figure, or a bundle of both.

With `--results` it writes a results file instead: Grams and what else was computed, without weights.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path

import plotly.graph_objects as go
import polars as pl

from uws_core import run
from uws_core.charts.overview import overview
from uws_core.charts.spectrum import scree
from uws_core.charts.style import Theme
from uws_core.cli import arguments
from uws_core.cli.compute import add_compute_options
from uws_core.cli.output import print_json, print_note
from uws_core.cli.results import add_axis, exit_code, grams, layer_spectrum
from uws_core.errors import ExportError, UwsError
from uws_core.export import (
    FORMS,
    Draw,
    Provenance,
    bundle_bytes,
    csv_bytes,
    html_bytes,
    parquet_bytes,
    print_bytes,
    print_obstacle,
)
from uws_core.frames import spectrum
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.reporting.results_file import USUAL_LIMIT, write_results
from uws_core.store.results_file import RESULTS_SUFFIX

_SUFFIXES = ("csv", "parquet", "html", "zip", *FORMS)


def add_export(parser: ArgumentParser) -> None:
    """Adds the options of `export`."""
    arguments.add_where(parser)
    arguments.add_layers(parser)
    add_compute_options(parser)
    add_axis(parser)
    file = parser.add_mutually_exclusive_group(required=True)
    file.add_argument("--to", metavar="FILE", help=f"the suffix is the form: {', '.join(_SUFFIXES)}")
    file.add_argument(
        "--results",
        metavar="FILE",
        help=f"a results file ({RESULTS_SUFFIX}): Grams, spectra, attributes and versions, without weights; every page "
        "that needs no weights opens it",
    )
    parser.add_argument(
        "--limit",
        type=arguments.amount,
        default=USUAL_LIMIT,
        metavar="BYTES",
        help="with --results: Grams of blocks, directions and other stored results go in below this size (64MiB)",
    )
    parser.add_argument(
        "--directions",
        action="store_true",
        help="with --results: compute each model's own directions too, for the angles between models",
    )
    parser.add_argument("--sum", action="store_true", help="the chosen layers as one long layer, instead of each")
    parser.add_argument(
        "--share", type=arguments.share, default=0.9, help="share of variance for the rank (default 0.9)"
    )
    parser.add_argument(
        "--draws",
        type=arguments.whole_number("draws", 0, 999_999),
        default=200,
        help="draws of noise to compare with; 0 for none",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as one JSON object")
    parser.set_defaults(act=export)


def export(options: Namespace) -> int:
    """Writes the scree of one layer (or of the whole network), or one row a layer; the file appears when complete."""
    if options.results:
        return _results(options)
    path = Path(options.to).expanduser()
    form = path.suffix.lstrip(".").lower()
    if form not in _SUFFIXES:
        raise ExportError(f"{path.name}: the suffix says the form, one of {', '.join(_SUFFIXES)}; found {form!r}")
    if options.sum and options.axis != Axis.MODELS:
        raise ExportError("--sum adds layers on the models axis only; leave one of --sum and --axis out")
    obstacle = print_obstacle() if form in FORMS else ""
    if obstacle:
        raise ExportError(obstacle)
    collection = arguments.open_collection(options)
    failed: dict[str, UwsError] = {}
    names = list[str]()
    items = _items(
        collection,
        _noted(grams(collection, arguments.choose_layers(collection, options.layers), options, failed), names),
        options,
    )
    if not items:
        return exit_code([], failed)
    frame, draw = _scree(items[0]) if len(items) == 1 else _overview(items, options.share)
    origin = _origin(collection, items, names, options, failed)
    makers: dict[str, Callable[[], bytes]] = {
        "csv": partial(csv_bytes, frame, origin),
        "parquet": partial(parquet_bytes, frame, origin),
        "html": partial(html_bytes, draw, origin),
        "zip": partial(bundle_bytes, draw, frame, origin),
    }
    write_whole(path, makers[form]() if form in makers else print_bytes(draw, form=form))
    print_note(f"{path}: {frame.height} rows")
    if options.json:
        print_json({"file": str(path), "rows": frame.height, "layers": names, "failed": sorted(failed)})
    return exit_code(names, failed)


def _results(options: Namespace) -> int:
    """Writes the results file of the chosen layers; what is not stored yet is computed first."""
    path = Path(options.results).expanduser()
    if not path.name.endswith(RESULTS_SUFFIX):
        raise ExportError(f"{path.name}: the name of a results file ends in {RESULTS_SUFFIX}")
    if options.sum or options.axis != Axis.MODELS:
        raise ExportError("--results has the Grams of layers on the models axis; leave --sum and --axis out")
    collection = arguments.open_collection(options)
    chosen, failed, done = arguments.choose_layers(collection, options.layers), dict[str, UwsError](), list[str]()
    for gram in grams(collection, chosen, options, failed):
        done.append(gram.layer.name)
    layers = [layer for layer in chosen if layer.name in set(done)]
    if not layers:
        return exit_code([], failed)
    for layer in layers if options.directions else ():
        run.cached_factors(collection, layer)
    written = write_results(path, collection, layers, limit=options.limit)
    size = bytes_text(written.bytes)
    print_note(f"{path}: {written.layers} layers of {len(collection)} models, {written.others} further results, {size}")
    for item in written.left_out:
        print_note(f"{item.what}: {item.reason}")
    if options.json:
        shown = {"file": str(path), "bytes": written.bytes, "layers": [layer.name for layer in layers]}
        print_json(shown | {"others": written.others, "failed": sorted(failed)})
    return exit_code(done, failed)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears under its name only when complete.

    Raises:
        ExportError: the folder does not exist, or the disk is full or read-only.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ExportError(f"{path} cannot be written ({error}); name a file in a folder that exists") from error


def _items(collection: Collection, every: Iterator[Gram], options: Namespace) -> list[LayerSpectrum]:
    """Returns the spectrum of each Gram, or of their sum; one Gram is in memory at a time."""
    first = next(every, None)
    if first is None:
        return []
    grams = chain([first], every)
    chosen = [run.whole_network(grams)] if options.sum else grams
    return [layer_spectrum(collection, gram, options.draws) for gram in chosen]


def _noted(every: Iterator[Gram], names: list[str]) -> Iterator[Gram]:
    """Yields the Grams and appends their layer names to `names`."""
    for gram in every:
        names.append(gram.layer.name)
        yield gram


def _scree(one: LayerSpectrum) -> tuple[pl.DataFrame, Draw]:
    frame = spectrum.scree(one.spectrum, one.band)

    def draw(theme: Theme) -> go.Figure:
        seen = one.spectrum
        floor = seen.floor / seen.total if seen.total > 0 and isfinite(seen.floor) else 0.0
        edge = one.band.edge if one.band is not None else float("nan")
        return scree(frame, floor=floor, ceiling=seen.ceiling, edge=edge, theme=theme)

    return frame, draw


def _overview(items: list[LayerSpectrum], share: float) -> tuple[pl.DataFrame, Draw]:
    frame = spectrum.overview(items, share=share)

    def draw(theme: Theme) -> go.Figure:
        return overview(frame, theme=theme)

    return frame, draw


def _origin(
    collection: Collection,
    items: list[LayerSpectrum],
    names: list[str],
    options: Namespace,
    failed: dict[str, UwsError],
) -> Provenance:
    one = len(items) == 1
    what = items[0].layer.short if one else f"{len(items)} layers"
    lost = tuple(LeftOut(name, str(error)) for name, error in failed.items())
    return Provenance(
        name=f"{collection.name} {what}",
        caption=f"{collection.name}, {what}, {len(collection)} models about their mean"
        + ("" if options.axis == Axis.MODELS else f", axis {options.axis}")
        + ("" if one else f", rank at {options.share:.0%}"),
        collection=collection.name,
        fingerprint=collection.fingerprint,
        models=tuple(str(ref) for ref in collection.refs),
        layers=tuple(names),
        settings={
            "where": " ".join(options.where),
            "axis": options.axis,
            "draws": str(options.draws),
            "sum": str(options.sum),
        },
        left_out=collection.left_out + lost,
        columns=spectrum.HELP,
    )
