"""`merge`: models into one, its distance to mean and members first, then the folder."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

from uws_core import cluster
from uws_core.answers.merging import answer, members
from uws_core.cli import arguments
from uws_core.cli.compute import add_scheduler
from uws_core.cli.output import print_json, print_note, print_table
from uws_core.cli.progress import Bar
from uws_core.cli.results import DONE
from uws_core.collection import collect
from uws_core.errors import CollectionError
from uws_core.frames.merging import layers, models
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.merging import RULES, Convention, Merge, MergeMethod, MergeRecipe
from uws_core.nouns.models import Collection
from uws_core.passes.options import checked_budget, default_budget
from uws_core.use.merge.door import measured
from uws_core.use.merge.plan import DTYPES, MergePlan, plan_merge
from uws_core.use.merge.price import price
from uws_core.use.merge.recipe import read_mergekit
from uws_core.use.merge.writing import SHARD_BYTES, TARGETS, WriteOptions, written

# Options of a recipe by their names on the command line.
_NUMBERS = {"scale": float, "density": float, "gamma": float, "epsilon": float, "t": float, "ridge": float,
            "common": float, "rank": int, "joint_rank": int, "seed": int}  # fmt: skip


def add_merge(parser: ArgumentParser) -> None:
    """Adds the options of `merge`."""
    arguments.add_where(parser, optional=True)
    arguments.add_layers(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="members by name (all)")
    parser.add_argument(
        "--recipe", metavar="FILE", help="a mergekit recipe: models, method, weights; WHERE is not given"
    )
    parser.add_argument("--method", help=f"{', '.join(MergeMethod)} (mean)")
    parser.add_argument("--weights", type=_weights, metavar="W,W,..", help="one number a member (1 each)")
    parser.add_argument("--convention", choices=list(map(str, Convention)), help="whose reading of the method (paper)")
    parser.add_argument("--rule", help=f"of knots, core and ctm: {', '.join(RULES)} (ties)")
    defaults = MergeRecipe()
    for name, kind in _NUMBERS.items():
        flag, default = f"--{name.replace('_', '-')}", getattr(defaults, name)
        parser.add_argument(flag, type=kind, help=_HELP[name] + (f" ({default:g})" if default is not None else ""))
    parser.add_argument("--out", metavar="FOLDER", help="folder to write; without it the distances are printed only")
    parser.add_argument("--for", dest="target", choices=TARGETS, default="peft", help="what must load a merged adapter")
    parser.add_argument(
        "--beside", default="mean", metavar="WHAT",
        help="heads that adapters trained whole: mean, drop, or the name of the member whose are taken",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=DTYPES, help="type of the written numbers (as the base has it)")
    parser.add_argument("--shard-size", type=arguments.amount, default=SHARD_BYTES, help="most bytes in one file (5GB)")
    parser.add_argument("--budget", type=arguments.amount, help="memory for slabs (default: UWS_BUDGET or 256MiB)")
    add_scheduler(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the cost and the distances, write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=run_merge)


_HELP = {
    "scale": "factor of the merged update: base + scale * merge",
    "density": "share of entries kept by ties, dare, della, breadcrumbs, sce",
    "gamma": "share of the largest entries that breadcrumbs drops",
    "epsilon": "half the spread of della's probabilities",
    "t": "place on slerp's arc, 0 is the first model",
    "ridge": "of regmean, relative to the mean eigenvalue",
    "common": "share of common directions of iso-cts",
    "rank": "of a merged adapter; directions of tsv and subspace",
    "joint_rank": "of the basis of ctm",
    "seed": "of what is dropped at random",
}


def run_merge(options: Namespace) -> int:
    """Prints where the merge lies, and writes the folder if one is named."""
    collection, recipe, dtype = _chosen(options)
    budget = default_budget() if options.budget is None else checked_budget(options.budget)
    plan = plan_merge(
        collection,
        recipe,
        members=options.models,
        layers=arguments.choose_layers(collection, options.layers) if options.layers else None,
        dtype=options.dtype or dtype,
        beside=options.beside,
        budget=budget,
    )
    cost = price(plan)
    print_note(
        f"{len(plan.members)} models, {len(plan.layers)} layers; {bytes_text(cost.read)} to read"
        + (f" up to {cost.passes} times" if cost.passes > 1 else "")
        + f", {bytes_text(cost.written)} to write, {bytes_text(cost.memory)} of memory"
    )
    folder = Path(options.out).expanduser() if options.out and not options.dry_run else None
    bar = Bar(quiet=options.quiet)
    try:
        with cluster.connected(options.scheduler) as executor:
            if folder is None:
                merge = measured(plan, report=bar.report, executor=executor)
            else:
                # Measured in the pass that writes.
                how = WriteOptions(options.target, options.shard_size)
                merge = written(plan, folder, how, report=bar.report, executor=executor)
    finally:
        bar.close()
    if options.json:
        print_json(_row(merge, plan, folder))
    else:
        print(answer(merge))
        print(members(merge))
        for table in (models(merge), layers(merge)):
            print()
            print_table(table, table.columns)
        for note in merge.notes:
            print_note(note)
        if folder is not None:
            print_note(f"{folder}: written")
    return DONE


def _chosen(options: Namespace) -> tuple[Collection, MergeRecipe, str]:
    """The models, the recipe and the type: from a recipe file, from the options, options first."""
    if bool(options.where) == bool(options.recipe):
        raise CollectionError("Name models, or a recipe (--recipe) that names them, and not both")
    recipe, dtype = MergeRecipe(), "auto"
    if options.recipe:
        read = read_mergekit(options.recipe)
        collection = collect(list(read.models), base=options.base or read.base)
        recipe, dtype = read.recipe, read.dtype
    else:
        collection = arguments.open_collection(options)
    changes: dict[str, object] = {
        name: getattr(options, name) for name in _NUMBERS if getattr(options, name) is not None
    }
    if options.method:
        changes["method"] = MergeMethod.of(options.method)
    if options.rule:
        changes["rule"] = MergeMethod.of(options.rule)
    if options.convention:
        changes["convention"] = Convention.of(options.convention)
    if options.weights is not None:
        changes["weights"] = options.weights
    return collection, replace(recipe, **changes), dtype  # type: ignore[arg-type]


def _row(merge: Merge, plan: MergePlan, folder: Path | None) -> dict[str, object]:
    whole = merge.whole
    return {
        "folder": str(folder) if folder else None,
        "recipe": plan.recipe.as_dict(),
        "norm": whole.norm,
        "mean_norm": whole.mean_norm,
        "off_mean": whole.off_mean,
        "rank": whole.rank,
        "lost": whole.lost,
        "models": models(merge).to_dicts(),
        "layers": layers(merge).to_dicts(),
        "notes": list(merge.notes),
    }


def _weights(text: str) -> tuple[float, ...]:
    """Weights from `0.5,0.3,0.2`, for argparse."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"weights are numbers with commas, such as 0.5,0.3,0.2; found {text!r}") from error
