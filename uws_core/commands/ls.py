"""`ls`: what a collection is, and how its files were read."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from uws_core import run
from uws_core.commands import asked
from uws_core.commands.results import DONE
from uws_core.commands.scan import vars_of
from uws_core.commands.table import plain, print_json, print_table
from uws_core.errors import UwsError
from uws_core.frames import loader as frames
from uws_core.nouns.loader import LoaderReport
from uws_core.nouns.models import Collection, LayerKey
from uws_core.reporting import loader


def add_ls(parser: ArgumentParser) -> None:
    """The options of `ls`."""
    asked.add_where(parser)
    asked.add_layers(parser)
    parser.add_argument(
        "--report",
        action="store_true",
        help="what became of every key of every file, also of models that are left out, and each scale with its origin",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.set_defaults(act=ls)


def ls(told: Namespace) -> int:
    """Print what a collection is: models, layers with whether they are computed, and what was left out."""
    found = asked.collection(told)
    shown = asked.layers(found, told.layers) if told.layers else found.layers
    known = set(run.stored(found))
    reports, problems = _reports(found, told) if told.report else ({}, {})
    if told.json:
        more = {"report": _report_as_json(reports, problems)} if told.report else {}
        print_json(_as_json(found, shown, known) | more)
        return DONE
    print(f"{plain(found.name)}: {len(found)} models, {len(found.layers)} layers, base {found.base or 'unknown'}")
    for key in shown:
        print(
            f"  {'computed' if key.name in known else '        '}  {plain(key.name)}  {key.shape[0]} x {key.shape[1]}"
        )
    if found.left_out:
        print(f"left out ({len(found.left_out)}):")
    for item in found.left_out:
        print(f"  {plain(item.what)}: {plain(item.reason)}")
    if told.report:
        _print_report(reports, problems)
    return DONE


def _reports(found: Collection, told: Namespace) -> tuple[dict[str, LoaderReport], dict[str, str]]:
    """Every model's report by label, and in words why there is none."""
    reports, problems = {}, {}
    for model in loader.models_of(found, asked.places(told), pickled=told.pickled):
        try:
            reports[model.label] = loader.report_of(model)
        except UwsError as error:
            problems[model.label] = str(error)
    return reports, problems


def _print_report(reports: dict[str, LoaderReport], problems: dict[str, str]) -> None:
    keys, scales = frames.keys(reports), frames.scales(reports)
    print(f"\nkeys ({keys.height}):")
    print_table(keys, keys.columns)
    if scales.height:
        print(f"\nscales ({scales.height}):")
        print_table(scales, scales.columns)
    notes = [f"{label}: {note}" for label, report in reports.items() for note in report.notes]
    for line in [*notes, *(f"{label}: not read: {why}" for label, why in problems.items())]:
        print(plain(line))


def _report_as_json(reports: dict[str, LoaderReport], problems: dict[str, str]) -> list[dict[str, object]]:
    read: list[dict[str, object]] = [
        {
            "model": label,
            "format": report.format,
            "dialects": list(report.dialects),
            "keys": [vars_of(key) for key in report.keys],
            "scales": [vars_of(scale) for scale in report.scales],
            "notes": list(report.notes),
        }
        for label, report in reports.items()
    ]
    failed: list[dict[str, object]] = [{"model": label, "problem": why} for label, why in problems.items()]
    return read + failed


def _as_json(found: Collection, shown: Sequence[LayerKey], known: set[str]) -> dict[str, object]:
    return {
        "name": found.name,
        "fingerprint": found.fingerprint,
        "models": [str(ref) for ref in found.refs],
        "labels": list(found.labels),
        "base": str(found.base) if found.base else None,
        "layers": [{"name": key.name, "shape": list(key.shape), "computed": key.name in known} for key in shown],
        "table": {name: list(column) for name, column in found.table.items()},
        "left_out": [vars_of(item) for item in found.left_out],
    }
