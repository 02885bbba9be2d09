"""Results of a command, layer by layer, its failures, and its exit code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from functools import partial

from uws_core import cluster, run
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import spectrum
from uws_core.cli.compute import compute_options, missing, scan_price
from uws_core.cli.output import print_note
from uws_core.cli.progress import Bar
from uws_core.errors import ClusterError, LayerError, UwsError
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.passes.options import ComputeOptions

DONE, FAILED, IN_PART = 0, 1, 3
_TOLD = 10


def add_axis(parser: ArgumentParser) -> None:
    """Adds the option `--axis`."""
    parser.add_argument(
        "--axis",
        choices=[str(axis) for axis in Axis],
        default="models",
        help="points are models (the default), or the rows (in) or columns (out) of all models' layers",
    )


def grams(
    collection: Collection, chosen: Sequence[LayerKey], options: Namespace, failed: dict[str, UwsError]
) -> Iterator[Gram]:
    """Yields the Grams of the chosen layers as they finish, with a progress bar; errors go to `failed`.

    Finished ones come first: a cluster is asked only for the others, and one that does not answer costs only those.
    """
    axis, compute = Axis(options.axis), compute_options(options)
    rest = missing(collection, chosen, options.precision, axis)
    bar = Bar(bytes_total=scan_price(collection, rest, compute, axis).bytes, quiet=options.quiet)
    try:
        if axis is not Axis.MODELS:
            yield from _sides(collection, chosen, axis, compute, bar, failed)
            return
        scan = partial(
            run.scan, collection, options=compute, failed=lambda key, error: failed.update({key.name: error})
        )
        yield from scan([key for key in chosen if key not in rest])
        if not rest:
            return
        lost = set(rest)
        try:
            with cluster.connected(options.scheduler) as executor:
                for gram in scan(rest, executor=executor, report=bar.report):
                    lost.discard(gram.layer)
                    yield gram
        except ClusterError as error:
            failed |= {key.name: error for key in rest if key in lost and key.name not in failed}
    finally:
        bar.close()


def layer_spectrum(collection: Collection, gram: Gram, draws: int) -> LayerSpectrum:
    """Returns a layer's spectrum with the null band of `draws` draws, 20 on a side axis; without a band if 0.

    Nor has it one on a side axis where the sides are too large for all singular values.
    """
    seen, band = spectrum(gram), None
    if draws and seen.total > 0 and gram.axis is Axis.MODELS:
        band = null_band(gram, draws=draws)
    elif draws and seen.total > 0:
        try:
            band = run.side_band(collection, gram, draws=min(draws, run.SIDE_DRAWS))
        except LayerError as error:
            print_note(f"{gram.layer.name}: no noise to compare with: {error}")
    return LayerSpectrum(gram.layer, seen, band, len(gram.layers))


def exit_code(done: Sequence[str], failed: dict[str, UwsError]) -> int:
    """Prints the failures and returns the exit code; `done` names the layers that have a result."""
    layers: dict[str, list[str]] = {}
    for name, error in failed.items():
        text = str(error)
        layers.setdefault(text.removeprefix(f"{name}: "), []).append(name)
    for text, names in list(layers.items())[:_TOLD]:
        more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
        print_note(f"{names[0]}{more}: {text}")
    if len(layers) > _TOLD:
        print_note(f"and {len(layers) - _TOLD} more reasons")
    if not failed:
        return DONE
    kept = len(set(done) - failed.keys())
    print_note(f"layers that failed: {len(failed)}, done and stored: {kept}")
    return IN_PART if kept else FAILED


def _sides(
    collection: Collection,
    chosen: Sequence[LayerKey],
    axis: Axis,
    compute: ComputeOptions,
    bar: Bar,
    failed: dict[str, UwsError],
) -> Iterator[Gram]:
    for index, key in enumerate(chosen):

        def report(fraction: float, message: str, index: int = index) -> None:
            bar.report((index + fraction) / len(chosen), message)

        try:
            yield run.cached_side_gram(collection, key, axis=axis, options=compute, report=report)
        except UwsError as error:
            failed[key.name] = error
