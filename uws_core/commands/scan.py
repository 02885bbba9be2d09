"""`scan`: a collection's passes over the weights, into the store that the app shows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from uws_core import cluster, run
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import spectrum
from uws_core.commands import asked
from uws_core.commands.bar import Bar
from uws_core.commands.effort import add_effort, cost_of, effort_of, tell_cost
from uws_core.commands.table import print_json, print_table, say
from uws_core.errors import UwsError
from uws_core.frames.spectrum import overview
from uws_core.nouns.cost import Cost
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.spectrum import LayerSpectrum

DONE, FAILED, IN_PART = 0, 1, 3
# A full disk says the same of every layer.
_TOLD = 10
_COLUMNS = ("layer", "shape", "models", "rank", "effective_rank", "first_share", "ceiling")
_NOISE_COLUMNS = ("noise_rank", "above", "z")


def add_scan(parser: ArgumentParser) -> None:
    """The options of `scan`."""
    asked.add_where(parser)
    asked.add_layers(parser)
    add_effort(parser)
    parser.add_argument("--axis", choices=[str(axis) for axis in Axis], default="models", help="points are models, or")
    parser.add_argument("--share", type=asked.share, default=0.9, help="the rank is that at this share (default 0.9)")
    parser.add_argument("--noise", action="store_true", help="draw noise of the same strengths to compare with")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would cost")
    parser.add_argument("--json", action="store_true", help="one JSON object a layer and line, as layers finish")
    parser.set_defaults(act=scan)


def scan(told: Namespace) -> int:
    """Compute what is missing of the chosen layers, store it, and print each layer's spectrum in numbers."""
    found = asked.collection(told)
    chosen = asked.layers(found, told.layers)
    axis, effort = Axis(told.axis), effort_of(told)
    if axis is not Axis.MODELS and told.scheduler:
        say(f"Side axes are computed on this machine; the cluster {told.scheduler} is not asked")
    cost = tell_cost(found, chosen, effort, axis)
    if told.dry_run or (cost.refused and not cost.layers and len(cost.refused) == len(chosen)):
        return _refused(cost)
    failed: dict[str, UwsError] = {}
    items = []
    for gram in grams(found, chosen, told, failed):
        items.append(_item(gram, noise=told.noise))
        if told.json:
            (row,) = overview(items[-1:], share=told.share).to_dicts()
            print_json({**row, "axis": str(gram.axis), "left_out": [vars_of(item) for item in gram.left_out]})
    if items and not told.json:
        order = {key.name: place for place, key in enumerate(found.layers)}
        items.sort(key=lambda item: order[item.layer.name])
        print_table(overview(items, share=told.share), _COLUMNS + (_NOISE_COLUMNS if told.noise else ()))
    return ended(len(items), failed)


def grams(
    found: Collection, chosen: Sequence[LayerKey], told: Namespace, failed: dict[str, UwsError]
) -> Iterator[Gram]:
    """The Grams of the chosen layers, as they finish, under a progress bar; what goes wrong goes to `failed`."""
    axis, effort = Axis(getattr(told, "axis", Axis.MODELS)), effort_of(told)
    stored = set(run.stored(found, chosen, precision=told.precision)) if axis is Axis.MODELS else set()
    rest = [key for key in chosen if key.name not in stored]
    bar = Bar(bytes_total=cost_of(found, rest, effort, axis).bytes, quiet=told.quiet)
    try:
        if axis is not Axis.MODELS:
            yield from _sides(found, chosen, axis, effort, bar, failed)
            return
        with cluster.connected(told.scheduler) as executor:
            yield from run.scan(
                found,
                chosen,
                executor=executor,
                report=bar.report,
                effort=effort,
                failed=lambda layer, error: failed.update({layer.name: error}),
            )
    finally:
        bar.close()


def _refused(cost: Cost) -> int:
    """The exit code where nothing is computed: 0 where everything could be."""
    if not cost.refused:
        return DONE
    return IN_PART if cost.layers else FAILED


def ended(done: int, failed: dict[str, UwsError]) -> int:
    """Say what failed, and the exit code."""
    for name, error in list(failed.items())[:_TOLD]:
        text = str(error)
        say(text if text.startswith(name) else f"{name}: {text}")
    if len(failed) > _TOLD:
        say(f"and {len(failed) - _TOLD} more")
    if not failed:
        return DONE
    say(f"layers that failed: {len(failed)}, done and stored: {done}")
    return IN_PART if done else FAILED


def vars_of(item: object) -> dict[str, object]:
    """The fields of a small frozen noun."""
    return {name: getattr(item, name) for name in item.__slots__}  # type: ignore[attr-defined]


def _sides(
    found: Collection,
    chosen: Sequence[LayerKey],
    axis: Axis,
    effort: run.Effort,
    bar: Bar,
    failed: dict[str, UwsError],
) -> Iterator[Gram]:
    for place, key in enumerate(chosen):

        def report(fraction: float, message: str, place: int = place) -> None:
            bar.report((place + fraction) / len(chosen), message)

        try:
            yield run.side(found, key, axis=axis, effort=effort, report=report)
        except UwsError as error:
            failed[key.name] = error


def _item(gram: Gram, *, noise: bool) -> LayerSpectrum:
    seen = spectrum(gram)
    kind = "strength" if gram.axis is Axis.MODELS else "gaussian"
    band = null_band(gram, kind=kind) if noise and seen.total > 0 else None
    return LayerSpectrum(gram.layer, seen, band)
