"""`scan`: reads the weights of a collection once and fills the store that the app shows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from uws_core.cli import arguments
from uws_core.cli.compute import add_compute_options, compute_options, missing, print_cost
from uws_core.cli.output import print_json, print_note, print_table
from uws_core.cli.results import DONE, FAILED, IN_PART, add_axis, exit_code, grams, layer_spectrum
from uws_core.errors import UwsError
from uws_core.frames.spectrum import overview
from uws_core.nouns.gram import Axis

# The draws of noise to compare with.
_DRAWS = 200
_COLUMNS = ("layer", "shape", "models", "rank", "effective_rank", "first_share", "ceiling")
_NOISE_COLUMNS = ("noise_rank", "above", "z")


def add_scan(parser: ArgumentParser) -> None:
    """Adds the options of `scan`."""
    arguments.add_where(parser)
    arguments.add_layers(parser)
    add_compute_options(parser)
    add_axis(parser)
    parser.add_argument(
        "--share", type=arguments.share, default=0.9, help="share of variance for the rank (default 0.9)"
    )
    parser.add_argument(
        "--noise",
        action="store_true",
        help="draw noise to compare with: of the same profile, on a side axis of the same singular values",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the cost")
    parser.add_argument("--json", action="store_true", help="one JSON object a layer and line, as layers finish")
    parser.set_defaults(act=scan)


def scan(options: Namespace) -> int:
    """Computes and stores the chosen layers that are missing, and prints each layer's spectrum in numbers."""
    collection = arguments.open_collection(options)
    chosen = arguments.choose_layers(collection, options.layers)
    axis, compute = Axis(options.axis), compute_options(options)
    if axis is not Axis.MODELS and options.scheduler:
        print_note(f"Side axes are computed on this machine; the cluster {options.scheduler} is not asked")
    cost = print_cost(collection, chosen, compute, axis)
    if options.dry_run and options.json:
        print_json(fields_of(cost))
    if options.dry_run or (cost.refused and not cost.layers and len(cost.refused) == len(chosen)):
        # The exit code of a dry run: 0 where everything can be computed.
        if not cost.refused:
            return DONE
        return IN_PART if cost.layers else FAILED
    failed: dict[str, UwsError] = {}
    items = []
    for gram in grams(collection, chosen, options, failed):
        items.append(layer_spectrum(collection, gram, _DRAWS if options.noise else 0))
        if options.json:
            (row,) = overview(items[-1:], share=options.share).to_dicts()
            print_json({**row, "axis": str(gram.axis), "left_out": [fields_of(item) for item in gram.left_out]})
    if items and not options.json:
        order = {key.name: index for index, key in enumerate(collection.layers)}
        items.sort(key=lambda spectrum: order[spectrum.layer.name])
        print_table(overview(items, share=options.share), _COLUMNS + (_NOISE_COLUMNS if options.noise else ()))
    # The exit code for results that the store had no room for, and prints how many.
    gone = missing(collection, [key for key in chosen if key.name not in failed], options.precision, Axis(options.axis))
    if gone:
        print_note(
            f"{len(gone)} of {len(chosen)} results are not kept: the results folder has no room, see UWS_CACHE_LIMIT"
        )
    return max(exit_code([spectrum.layer.name for spectrum in items], failed), IN_PART if gone else DONE)


def fields_of(item: object) -> dict[str, object]:
    """Returns the fields of a frozen dataclass with slots, by name."""
    return {name: getattr(item, name) for name in item.__slots__}  # type: ignore[attr-defined]
