"""`independence`: an exact test of whether networks were trained independently, from the order of hidden units."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from difflib import get_close_matches

from uws_core.cli import arguments
from uws_core.cli.output import plain, print_json
from uws_core.cli.results import DONE
from uws_core.errors import NotEnoughModels
from uws_core.passes.independence import independence


def add_independence(parser: ArgumentParser) -> None:
    """Adds the options of `independence`."""
    arguments.add_where(parser)
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="LABEL",
        help="2 to 24 models by the labels that `ls --json` lists (the first two)",
    )
    parser.add_argument("--hidden", metavar="NAME", help="a hidden layer, such as blocks.0.mlp (the first)")
    parser.add_argument(
        "--copies",
        type=arguments.whole_number("copies", 19, 10**6),
        default=999,
        help="permuted copies; p is exact at 1 / (1 + copies) (default 999)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the permutations (default 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=run_independence)


def run_independence(options: Namespace) -> int:
    """Prints the sentence of the test, or its numbers as one JSON object."""
    collection = arguments.open_collection(options)
    if options.models is None:
        rows = tuple(range(min(2, len(collection))))
    else:
        row_of = {label: row for row, label in enumerate(collection.labels)}
        unknown = [label for label in options.models if label not in row_of]
        if unknown:
            near = get_close_matches(unknown[0], list(row_of), n=3, cutoff=0.3) or list(row_of)[:3]
            raise NotEnoughModels(
                f"{collection.name} has no model {', '.join(map(repr, unknown))}; it has {len(row_of)}, "
                f"among them {', '.join(near)}"
            )
        rows = tuple(row_of[label] for label in options.models)
    test = independence(collection, rows, hidden=options.hidden, copies=options.copies, seed=options.seed)
    if options.json:
        names = ("p", "statistic", "copies", "seed", "units", "hidden")
        print_json({"models": list(test.labels)} | {name: getattr(test, name) for name in names})
        return DONE
    print(f"{plain(', '.join(test.labels))}, {test.units} hidden units of {plain(test.hidden)}")
    print(test)
    return DONE
