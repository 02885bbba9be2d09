"""`scan`: a collection's passes over the weights, into the store that the app shows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence

from uws_core.commands import asked
from uws_core.commands.effort import add_effort, effort_of, missing, tell_cost
from uws_core.commands.results import DONE, FAILED, IN_PART, add_axis, ended, grams, item
from uws_core.commands.table import print_json, print_table, say
from uws_core.errors import UwsError
from uws_core.frames.spectrum import overview
from uws_core.nouns.cost import Cost
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey

# The draws of noise to compare with.
_DRAWS = 200
_COLUMNS = ("layer", "shape", "models", "rank", "effective_rank", "first_share", "ceiling")
_NOISE_COLUMNS = ("noise_rank", "above", "z")


def add_scan(parser: ArgumentParser) -> None:
    """The options of `scan`."""
    asked.add_where(parser)
    asked.add_layers(parser)
    add_effort(parser)
    add_axis(parser)
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
    if told.dry_run and told.json:
        print_json(vars_of(cost))
    if told.dry_run or (cost.refused and not cost.layers and len(cost.refused) == len(chosen)):
        return _refused(cost)
    failed: dict[str, UwsError] = {}
    items = []
    for gram in grams(found, chosen, told, failed):
        items.append(item(gram, _DRAWS if told.noise else 0))
        if told.json:
            (row,) = overview(items[-1:], share=told.share).to_dicts()
            print_json({**row, "axis": str(gram.axis), "left_out": [vars_of(item) for item in gram.left_out]})
    if items and not told.json:
        order = {key.name: place for place, key in enumerate(found.layers)}
        items.sort(key=lambda one: order[one.layer.name])
        print_table(overview(items, share=told.share), _COLUMNS + (_NOISE_COLUMNS if told.noise else ()))
    return max(ended([one.layer.name for one in items], failed), _dropped(found, chosen, told, failed))


def _dropped(found: Collection, chosen: Sequence[LayerKey], told: Namespace, failed: Mapping[str, UwsError]) -> int:
    """The exit code of results that the store had no room to keep, and a word on how many."""
    gone = missing(found, [key for key in chosen if key.name not in failed], told.precision, Axis(told.axis))
    if gone:
        say(f"{len(gone)} of {len(chosen)} results are not kept: the results folder has no room, see UWS_CACHE_LIMIT")
    return IN_PART if gone else DONE


def _refused(cost: Cost) -> int:
    """The exit code where nothing is computed: 0 where everything could be."""
    if not cost.refused:
        return DONE
    return IN_PART if cost.layers else FAILED


def vars_of(item: object) -> dict[str, object]:
    """The fields of a small frozen noun."""
    return {name: getattr(item, name) for name in item.__slots__}  # type: ignore[attr-defined]
