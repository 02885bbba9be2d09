"""`adapt`: coefficients trained in a shared basis beside every rival, and results trained elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from pathlib import Path

import polars as pl

from uws_core.analysis.adapt import judged
from uws_core.answers.adapt import answer, before
from uws_core.cli.output import print_json, print_note, print_table
from uws_core.cli.progress import Bar, duration
from uws_core.cli.results import DONE
from uws_core.collection import collect
from uws_core.errors import CollectionError
from uws_core.frames.adapt import differences, gradient, rows, runs
from uws_core.nouns.adapting import DEFAULT_ROWS, RATES, SEEDS, Comparison, Row
from uws_core.nouns.models import Collection
from uws_core.use.adapt import builtin
from uws_core.use.adapt.comparison import planned
from uws_core.use.adapt.export import EXPORTED, export_adapter
from uws_core.use.adapt.log import Log, open_log
from uws_core.use.adapt.options import AdaptOptions
from uws_core.use.rebuild import TARGETS

# Of one step of a built-in network on one core, for the price of a dry run.
_STEP_SECONDS = 0.012


def add_adapt(parser: ArgumentParser) -> None:
    """Adds the options of `adapt`."""
    parser.add_argument(
        "where",
        metavar="WHERE",
        help="demo:lora or demo:finetuned to train on, or a folder with a training log to read",
    )
    parser.add_argument(
        "--task",
        action="append",
        metavar="NAME",
        help=f"a built-in task; several times for several ({', '.join(builtin.USUAL_TASKS)})",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=DEFAULT_ROWS,
        metavar="ROWS",
        help=f"what to train, with commas: {', '.join(Row)}, or all (the first six)",
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), metavar="N", help="seeds, at least 3 (3)")
    parser.add_argument("--rank", type=int, default=builtin.KEPT, metavar="K", help="directions a side (6)")
    parser.add_argument("--rates", type=_rates, default=RATES, metavar="RATES", help="learning rates, with commas")
    parser.add_argument("--steps", type=int, default=builtin.STEPS, metavar="N", help=f"steps ({builtin.STEPS})")
    parser.add_argument("--out", metavar="FOLDER", help="folder for the log; the same command goes on from it")
    parser.add_argument("--export", metavar="FOLDER", help="write the trained row as a LoRA adapter")
    parser.add_argument(
        "--row", type=Row, choices=EXPORTED, default=Row.SHARED, metavar="ROW", help="the row to export (shared)"
    )
    parser.add_argument("--for", dest="target", choices=TARGETS, default="peft", help="what must load the adapter")
    parser.add_argument("--without-head", action="store_true", help="leave the trained head out of the adapter")
    parser.add_argument("--dry-run", action="store_true", help="print counts and captured gradients, train nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=run_adapt)


def run_adapt(options: Namespace) -> int:
    """Trains, or reads what was trained, and prints the verdict with every row."""
    if not options.where.startswith("demo:"):
        log, folder = open_log(options.where), Path(options.where)
    else:
        collection = collect(options.where)
        tasks = tuple(options.task or builtin.USUAL_TASKS)
        if options.dry_run:
            return _dry_run(collection, tasks, options)
        if options.export and not options.out:
            raise CollectionError("--export reads the trained row from the log; name its folder too (--out)")
        log = _trained(collection, tasks, options)
        folder = Path(options.out or "")
    _print(log, as_json=options.json)
    if options.export:
        task = options.task[0] if options.task else ""
        written = export_adapter(
            folder,
            options.export,
            row=options.row,
            task=task,
            target=options.target,
            with_head=not options.without_head,
        )
        print_note(f"{written}: written")
    return DONE


def _trained(collection: Collection, tasks: tuple[str, ...], options: Namespace) -> Log:
    bar = Bar(quiet=options.quiet)
    logs = []
    try:
        for number, task in enumerate(tasks):

            def report(fraction: float, message: str, number: int = number, task: str = task) -> None:
                bar.report((number + fraction) / len(tasks), f"{task}, {message}")

            comparison = builtin.compare(
                collection,
                task,
                kept=options.rank,
                rows=options.rows,
                options=AdaptOptions(
                    steps=options.steps,
                    seeds=tuple(range(options.seeds)),
                    rates=options.rates,
                    folder=Path(options.out) / task if options.out else None,
                ),
                report=report,
            )
            logs.append(comparison)
    finally:
        bar.close()
    return Log(Comparison.joined(logs), (), {}, {}) if not options.out else open_log(options.out)


def _dry_run(collection: Collection, tasks: tuple[str, ...], options: Namespace) -> int:
    """What would be trained: numbers of every row, trainings, about how long, and the captured gradient."""
    checked = AdaptOptions(steps=options.steps, seeds=tuple(range(options.seeds)), rates=options.rates).checked()
    bases = {task: builtin.basis_for(collection, task, kept=options.rank) for task in tasks}
    counts = planned(bases[tasks[0]], options.rows)
    trainings = len(tasks) * len(counts) * (len(set(checked.rates)) + len(checked.seeds) - 1)
    gradients = {task: builtin.captured(collection, task, basis=basis) for task, basis in bases.items()}
    if options.json:
        print_json(
            {
                "trainings": trainings,
                "steps": checked.steps,
                "trainables": counts,
                "gradient": {task: [asdict(share) for share in shares] for task, shares in gradients.items()},
            }
        )
        return DONE
    seconds = trainings * checked.steps * _STEP_SECONDS
    print(
        f"{trainings} trainings of {checked.steps} steps, about {duration(seconds)} on one core; nothing was trained."
    )
    print_table(pl.DataFrame({"row": list(counts), "trainables": list(counts.values())}), ("row", "trainables"))
    for task, shares in gradients.items():
        print()
        print(before(shares, task))
        table = gradient(shares)
        print_table(table, table.columns)
    return DONE


def _print(log: Log, *, as_json: bool) -> None:
    comparison, whole = log.comparison, judged(log.comparison)
    if as_json:
        print_json(
            {
                "answer": answer(whole),
                "metric": comparison.metric,
                "complete": comparison.complete,
                "rows": rows(whole).to_dicts(),
                "differences": {
                    task or "all": differences(judged(comparison, task)).fill_nan(None).to_dicts()
                    for task in ("", *comparison.tasks)
                },
                "runs": runs(comparison).fill_nan(None).to_dicts(),
            }
        )
        return
    print(answer(whole))
    tables = [rows(whole), differences(whole)]
    for table in tables:
        print()
        print_table(table, table.columns)
    for task in comparison.tasks if len(comparison.tasks) > 1 else ():
        print()
        print(answer(judged(comparison, task)))
    if not comparison.complete:
        print_note(f"{len(comparison.runs)} of {comparison.expected} trainings are finished")


def _rows(text: str) -> tuple[Row, ...]:
    if text == "all":
        return tuple(Row)
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in set(map(str, Row))]
    if unknown or not names:
        raise ArgumentTypeError(f"no row is called {', '.join(unknown) or 'nothing'}; there are {', '.join(Row)}")
    return tuple(Row(name) for name in names)


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"rates are numbers with commas, such as 0.01,0.1; found {text!r}") from error
    if min(rates) <= 0:
        raise ArgumentTypeError(f"rates are above 0; found {text!r}")
    return rates
