"""`ls`: models, layers and left-out files of a collection, and how its files were read."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from uws_core import run
from uws_core.cli import arguments
from uws_core.cli.output import plain, print_json, print_table
from uws_core.cli.results import DONE
from uws_core.cli.scan import fields_of
from uws_core.errors import UwsError
from uws_core.frames.loader import keys, scales
from uws_core.nouns.left_out import OTHERS
from uws_core.nouns.loader import LoaderReport
from uws_core.nouns.models import Collection, LayerKey
from uws_core.reporting import loader


def add_ls(parser: ArgumentParser) -> None:
    """Adds the options of `ls`."""
    arguments.add_where(parser)
    arguments.add_layers(parser)
    parser.add_argument(
        "--report",
        action="store_true",
        help="what became of every key of every file, also of models that are left out, and each scale with its origin",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=ls)


def ls(options: Namespace) -> int:
    """Prints models, layers (with whether they are computed) and what was left out."""
    collection = arguments.open_collection(options)
    shown = arguments.choose_layers(collection, options.layers) if options.layers else collection.layers
    known = set(run.stored_layers(collection))
    reports, problems = _reports(collection, options) if options.report else ({}, {})
    # True where models were left out because others are of another architecture.
    groups = (
        arguments.open_architectures(options)
        if any(item.reason.startswith(OTHERS) for item in collection.left_out)
        else ()
    )
    if options.json:
        more = {"report": _report_as_json(reports, problems)} if options.report else {}
        listed = [{"id": item.id, "title": item.title, "models": list(item.models)} for item in groups]
        print_json(_as_json(collection, shown, known) | {"architectures": listed} | more)
        return DONE
    base = collection.base or "unknown"
    print(f"{plain(collection.name)}: {len(collection)} models, {len(collection.layers)} layers, base {base}")
    for key in shown:
        print(
            f"  {'computed' if key.name in known else '        '}  {plain(key.name)}  {key.shape[0]} x {key.shape[1]}"
        )
    if len(groups) > 1:
        print("architectures here, one of which --architecture takes:")
        for group in groups:
            print(f"  {'shown' if collection.labels[0] in group.models else '     '}  {group.id}  {plain(str(group))}")
    _print_others(collection)
    if options.report:
        for name, table in (("keys", keys(reports)), ("scales", scales(reports))):
            if table.height or name == "keys":
                print(f"\n{name} ({table.height}):")
                print_table(table, table.columns)
        notes = [f"{label}: {note}" for label, report in reports.items() for note in report.notes]
        for line in [*notes, *(f"{label}: not read: {why}" for label, why in problems.items())]:
            print(plain(line))
    return DONE


def _print_others(collection: Collection) -> None:
    """Prints the layers that part of the models have, and what was left out."""
    if collection.partial:
        print("layers of part of the models, one of which --having takes:")
    for layer in collection.partial:
        m, p = layer.key.shape
        print(f"  {plain(layer.key.name)}  {m} x {p}  in {len(layer.models)} of {layer.of} models")
    if collection.left_out:
        print(f"left out ({len(collection.left_out)}):")
    for item in collection.left_out:
        print(f"  {plain(item.what)}: {plain(item.reason)}")


def _reports(collection: Collection, options: Namespace) -> tuple[dict[str, LoaderReport], dict[str, str]]:
    """Returns each model's loader report by label, and the reasons where there is none."""
    reports, problems = {}, {}
    for model in loader.models_of(collection, arguments.paths(options), pickled=options.pickled):
        try:
            reports[model.label] = loader.report_of(model)
        except UwsError as error:
            problems[model.label] = str(error)
    return reports, problems


def _report_as_json(reports: dict[str, LoaderReport], problems: dict[str, str]) -> list[dict[str, object]]:
    read: list[dict[str, object]] = [
        {
            "model": label,
            "format": report.format,
            "dialects": list(report.dialects),
            "keys": [fields_of(key) for key in report.keys],
            "scales": [fields_of(scale) for scale in report.scales],
            "notes": list(report.notes),
        }
        for label, report in reports.items()
    ]
    failed: list[dict[str, object]] = [{"model": label, "problem": why} for label, why in problems.items()]
    return read + failed


def _as_json(collection: Collection, shown: Sequence[LayerKey], known: set[str]) -> dict[str, object]:
    return {
        "name": collection.name,
        "fingerprint": collection.fingerprint,
        "models": [str(ref) for ref in collection.refs],
        "labels": list(collection.labels),
        "base": str(collection.base) if collection.base else None,
        "layers": [{"name": key.name, "shape": list(key.shape), "computed": key.name in known} for key in shown],
        "partial": [
            {"name": item.key.name, "shape": list(item.key.shape), "models": list(item.models)}
            for item in collection.partial
        ],
        "table": {name: list(column) for name, column in collection.table.items()},
        "left_out": [fields_of(item) for item in collection.left_out],
    }
