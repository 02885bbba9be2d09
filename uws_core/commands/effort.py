"""How much work a command takes, on which device, in how much memory, and what is said of that before it starts."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from uws_core import cluster, run
from uws_core.analysis.cost import scan_cost, side_cost
from uws_core.commands import asked
from uws_core.commands.bar import duration
from uws_core.commands.table import say
from uws_core.nouns.cost import Cost, Pace, Reading, result_bytes
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.sizes import bytes_text
from uws_core.passes.effort import possible
from uws_core.store import lack_of_room

# Above that many seconds an estimate for a modest machine is not good enough; measuring takes about one.
_WORTH_MEASURING = 5.0


def add_effort(parser: ArgumentParser) -> None:
    """The options of everything that may have to read weights."""
    parser.add_argument("--budget", type=asked.amount, help="memory for slabs, by default UWS_BUDGET or else 256MiB")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", choices=["auto", "single", "double"])
    parser.add_argument(
        "--scheduler",
        type=_scheduler,
        default=cluster.scheduler_address(),
        help="a Dask cluster, tcp://host:8786 (UWS_SCHEDULER); empty for this machine",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def device(text: str) -> str:
    """A device, for argparse."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        raise ArgumentTypeError(f"a device is auto, cpu, cuda or cuda:1; found {text!r}")
    return text


def effort_of(told: Namespace) -> run.Effort:
    """How the passes of a command run.

    Raises:
        UwsError: the device is not there; also where nothing has to be computed. A cluster's devices are its own.
        BudgetError: the budget is no amount, or more than this machine has.
    """
    if told.device.startswith("cuda") and not told.scheduler:
        from uws_core.passes.opened import device_of

        device_of(told.device)
    if told.budget is None:
        return run.Effort(device=told.device, precision=told.precision)
    # A cluster's workers may have more than this machine.
    budget = told.budget if told.scheduler else possible(told.budget)
    return run.Effort(device=told.device, precision=told.precision, budget=budget)


def cost_of(
    found: Collection,
    layers: Sequence[LayerKey],
    effort: run.Effort,
    axis: Axis = Axis.MODELS,
    *,
    measured: bool = False,
) -> Cost:
    """What a pass over these layers takes, as the headers tell; at the pace of this machine where that is `measured`.

    Raises:
        SourceError: a model went away or changed.
    """
    if not layers:
        return scan_cost((), n=len(found), budget=effort.budget)
    from uws_core.passes.stored import readings

    read = readings(found, [key.name for key in layers], precision=effort.precision)
    first = _priced(read, found, effort, axis, None)
    if not measured or first.seconds <= _WORTH_MEASURING:
        return first
    from uws_core.passes.pace import measured_pace

    return _priced(read, found, effort, axis, measured_pace())


def missing(found: Collection, chosen: Sequence[LayerKey], precision: str, axis: Axis = Axis.MODELS) -> list[LayerKey]:
    """The chosen layers whose result the store does not have."""
    if axis is Axis.MODELS:
        stored = set(run.stored(found, chosen, precision=precision))
    else:
        stored = set(run.sides_stored(found, chosen, axis=axis, precision=precision))
    return [key for key in chosen if key.name not in stored]


def tell_cost(found: Collection, chosen: Sequence[LayerKey], effort: run.Effort, axis: Axis = Axis.MODELS) -> Cost:
    """Say what is stored already, what the rest costs here, and what the budget or the store has no room for."""
    rest = missing(found, chosen, effort.precision, axis)
    cost = cost_of(found, rest, effort, axis, measured=True)
    kept = f"{len(chosen) - len(rest)} of them stored" + (f", axis {axis}" if axis is not Axis.MODELS else "")
    what = f"{found.name}: {len(chosen)} layers of {len(found)} models, {kept}"
    if found.left_out:
        say(f"{len(found.left_out)} models and tensors are left out; `ls` names each with the reason")
    far = f" ({bytes_text(cost.far)} of it from the Hub)" if cost.far else ""
    price = (
        f"{bytes_text(cost.bytes)} to read{far}, {bytes_text(cost.memory)} of memory, about {duration(cost.seconds)}"
    )
    say(f"{what}; {price}" if cost.layers else what)
    if cost.refused:
        say(f"{cost.refusal}. The budget is --budget or UWS_BUDGET")
    results = result_bytes(len(chosen), n=len(found))
    if axis is Axis.MODELS and (lack := lack_of_room(results, what=f"{len(chosen)} layers of {len(found)} models")):
        say(lack)
    return cost


def _priced(read: Sequence[Reading], found: Collection, effort: run.Effort, axis: Axis, pace: Pace | None) -> Cost:
    if axis is Axis.MODELS:
        return scan_cost(read, n=len(found), budget=effort.budget, pace=pace)
    return side_cost(read, axis=axis, budget=effort.budget, pace=pace)


def _scheduler(text: str) -> str | None:
    return text.strip() or None
