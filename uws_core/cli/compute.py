"""Device, memory and precision of a command, and its cost before it starts."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from uws_core import cluster, run
from uws_core.analysis.cost import scan_cost, side_cost
from uws_core.cli import arguments
from uws_core.cli.output import print_note
from uws_core.cli.progress import duration
from uws_core.nouns.cost import Cost, Reading, Throughput, bytes_text, result_bytes
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.options import ComputeOptions, checked_budget
from uws_core.store.results import store_limit_problem

# Above that many seconds an estimate for a modest machine is not good enough; measuring takes about one.
_WORTH_MEASURING = 5.0


def add_compute_options(parser: ArgumentParser) -> None:
    """Adds the options of commands that may read weights."""
    parser.add_argument("--budget", type=arguments.amount, help="memory for slabs (default: UWS_BUDGET or 256MiB)")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", choices=["auto", "single", "double"])
    add_scheduler(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_scheduler(parser: ArgumentParser) -> None:
    """Adds the option that names a cluster."""
    parser.add_argument(
        "--scheduler",
        type=lambda text: text.strip() or None,
        default=cluster.scheduler_address(),
        help="a Dask cluster, tcp://host:8786 (UWS_SCHEDULER); empty for this machine",
    )


def device(text: str) -> str:
    """Returns a device name, for argparse."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        raise ArgumentTypeError(f"a device is auto, cpu, cuda or cuda:1; found {text!r}")
    return text


def compute_options(options: Namespace) -> ComputeOptions:
    """Returns the compute options of a command.

    Raises:
        UwsError: the device does not exist on this machine (a cluster checks its own).
        BudgetError: the budget is no amount, or more than this machine has.
    """
    if options.device.startswith("cuda") and not options.scheduler:
        from uws_core.passes.open_models import torch_device

        torch_device(options.device)
    if options.budget is None:
        return ComputeOptions(device=options.device, precision=options.precision)
    # A cluster's workers may have more than this machine.
    budget = options.budget if options.scheduler else checked_budget(options.budget)
    return ComputeOptions(device=options.device, precision=options.precision, budget=budget)


def scan_price(
    collection: Collection,
    layers: Sequence[LayerKey],
    compute: ComputeOptions,
    axis: Axis = Axis.MODELS,
    *,
    measured: bool = False,
) -> Cost:
    """Returns the cost of a pass over these layers from file headers; `measured` uses this machine's throughput.

    Raises:
        SourceError: a model is missing or changed.
    """
    if not layers:
        return scan_cost((), n=len(collection), budget=compute.budget)
    from uws_core.passes.stored_sizes import readings

    read = readings(collection, [key.name for key in layers], precision=compute.precision)
    first = _priced(read, collection, compute, axis, None)
    if not measured or first.seconds <= _WORTH_MEASURING:
        return first
    from uws_core.passes.throughput import measured_throughput

    return _priced(read, collection, compute, axis, measured_throughput())


def missing(
    collection: Collection, chosen: Sequence[LayerKey], precision: str, axis: Axis = Axis.MODELS
) -> list[LayerKey]:
    """Returns the chosen layers without a stored result."""
    if axis is Axis.MODELS:
        stored = set(run.stored_layers(collection, chosen, precision=precision))
    else:
        stored = set(run.stored_side_layers(collection, chosen, axis=axis, precision=precision))
    return [key for key in chosen if key.name not in stored]


def print_cost(
    collection: Collection, chosen: Sequence[LayerKey], compute: ComputeOptions, axis: Axis = Axis.MODELS
) -> Cost:
    """Prints how many layers are stored, what the rest costs, and where the budget or the store is too small."""
    rest = missing(collection, chosen, compute.precision, axis)
    cost = scan_price(collection, rest, compute, axis, measured=True)
    kept = f"{len(chosen) - len(rest)} of them stored" + (f", axis {axis}" if axis is not Axis.MODELS else "")
    what = f"{collection.name}: {len(chosen)} layers of {len(collection)} models, {kept}"
    if collection.left_out:
        print_note(f"{len(collection.left_out)} models and tensors are left out; `ls` names each with the reason")
    far = f" ({bytes_text(cost.far)} of it from the Hub)" if cost.far else ""
    price = (
        f"{bytes_text(cost.bytes)} to read{far}, {bytes_text(cost.memory)} of memory, about {duration(cost.seconds)}"
    )
    print_note(f"{what}; {price}" if cost.layers else what)
    if cost.refused:
        print_note(f"{cost.refusal}. The budget is --budget or UWS_BUDGET")
    results = result_bytes(len(chosen), n=len(collection))
    if axis is Axis.MODELS and (
        lack := store_limit_problem(results, what=f"{len(chosen)} layers of {len(collection)} models")
    ):
        print_note(lack)
    return cost


def _priced(
    read: Sequence[Reading], collection: Collection, compute: ComputeOptions, axis: Axis, throughput: Throughput | None
) -> Cost:
    if axis is Axis.MODELS:
        return scan_cost(read, n=len(collection), budget=compute.budget, throughput=throughput)
    return side_cost(read, axis=axis, budget=compute.budget, throughput=throughput)
