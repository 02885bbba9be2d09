"""`scan`: a collection's passes over the weights, into the store that the app shows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from uws_core import cluster, run
from uws_core.analysis.cost import scan_cost
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import spectrum
from uws_core.commands import asked
from uws_core.commands.bar import Bar, duration
from uws_core.commands.table import print_json, print_table, say
from uws_core.errors import UwsError
from uws_core.frames.spectrum import overview
from uws_core.nouns.cost import Cost, Pace, result_bytes
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.sizes import bytes_text
from uws_core.nouns.spectrum import LayerSpectrum
from uws_core.store import lack_of_room

DONE, FAILED, IN_PART = 0, 1, 3
# A full disk says the same of every layer.
_TOLD = 10
# Above that many seconds an estimate for a modest machine is not good enough; measuring takes about one.
_WORTH_MEASURING = 5.0
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


def add_effort(parser: ArgumentParser) -> None:
    """The options of everything that may have to read weights."""
    parser.add_argument("--budget", type=asked.amount, default=run.Effort().budget, help="memory for slabs (256MiB)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", choices=["auto", "single", "double"])
    parser.add_argument(
        "--scheduler", default=cluster.scheduler_address(), help="a Dask cluster, tcp://host:8786 (UWS_SCHEDULER)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def scan(told: Namespace) -> int:
    """Compute what is missing of the chosen layers, store it, and print each layer's spectrum in numbers."""
    found = asked.collection(told)
    chosen = asked.layers(found, told.layers)
    if told.axis == "models":
        tell_cost(found, chosen, told)
    if told.dry_run:
        return DONE
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
    axis = Axis(getattr(told, "axis", Axis.MODELS))
    effort = run.Effort(device=told.device, precision=told.precision, budget=told.budget)
    stored = set(run.stored(found, chosen, precision=told.precision)) if axis is Axis.MODELS else set()
    rest = [key for key in chosen if key.name not in stored]
    bar = Bar(bytes_total=_cost(found, rest, effort).bytes, quiet=told.quiet)
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


def tell_cost(found: Collection, chosen: Sequence[LayerKey], told: Namespace) -> None:
    """Say what is stored already, and what the rest costs on this machine: bytes, memory, time."""
    effort = run.Effort(budget=told.budget)
    stored = set(run.stored(found, chosen, precision=told.precision))
    rest = [key for key in chosen if key.name not in stored]
    cost = _cost(found, rest, effort)
    if cost.seconds > _WORTH_MEASURING:
        from uws_core.passes.pace import measured_pace

        cost = _cost(found, rest, effort, measured_pace())
    what = f"{found.name}: {len(chosen)} layers of {len(found)} models, {len(chosen) - len(rest)} of them stored"
    price = f"{bytes_text(cost.bytes)} to read, {bytes_text(cost.memory)} of memory, about {duration(cost.seconds)}"
    say(f"{what}; {price}" if rest else what)
    results = result_bytes(len(chosen), n=len(found))
    if lack := lack_of_room(results, what=f"{len(chosen)} layers of {len(found)} models"):
        say(lack)


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


def _cost(found: Collection, chosen: Sequence[LayerKey], effort: run.Effort, pace: Pace | None = None) -> Cost:
    n = len(found) + (found.base is not None)
    return scan_cost(chosen, n=n, budget=effort.budget, pace=pace)


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
