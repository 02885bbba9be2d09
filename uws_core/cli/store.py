"""`store`: statistics, integrity check, pruning, and copying of the results folder."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from math import inf, nan
from pathlib import Path

from uws_core.cli import arguments
from uws_core.cli.output import print_json, print_note
from uws_core.errors import StoreError
from uws_core.nouns.cost import bytes_text
from uws_core.store.disk import INDEX
from uws_core.store.results import Store, default_path, default_store, delete_all_values

_DAY = 86_400.0


def add_store(parser: ArgumentParser) -> None:
    """Adds the commands of `store`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stats_options = commands.add_parser("stats", help="folder, number of results, size")
    stats_options.set_defaults(act=stats)
    check_options = commands.add_parser("check", help="read every result and delete damaged ones")
    check_options.set_defaults(act=check)
    prune_options = commands.add_parser("prune", help="delete results, least recently used first")
    prune_options.add_argument("--unused", type=_days, metavar="DAYS", help="only results unused for this long")
    prune_options.add_argument("--down-to", type=arguments.amount, metavar="SIZE", help="stop at 1GiB, print_note")
    prune_options.add_argument("--all", action="store_true", help="delete every result")
    prune_options.set_defaults(act=prune)
    copy_options = commands.add_parser("copy", help="copy the results of one collection to a folder")
    arguments.add_where(copy_options)
    copy_options.add_argument("--to", required=True, metavar="FOLDER")
    copy_options.set_defaults(act=copy)
    merge_options = commands.add_parser("merge", help="add the results of a folder that `store copy` wrote")
    merge_options.add_argument("folder", metavar="FOLDER")
    merge_options.set_defaults(act=merge)
    for options in (stats_options, check_options, prune_options, copy_options, merge_options):
        options.add_argument("--json", action="store_true", help="one JSON object instead of text")


def stats(options: Namespace) -> int:
    """Prints the folder of the store, its number of results and its size."""
    store = default_store()
    stats = store.stats()
    text = f"{stats.path}: {stats.entries} results, {bytes_text(stats.bytes)} of at most {bytes_text(stats.limit)}"
    row = {"path": str(stats.path), "entries": stats.entries, "bytes": stats.bytes, "limit": stats.limit}
    return _print(options, text + (f"\n{store.notice}" if store.notice else ""), row | {"notice": store.notice})


def check(options: Namespace) -> int:
    """Reads every result and deletes damaged ones; returns 1 if there were any."""
    checked = default_store().check()
    text = (
        f"{checked.whole} results are whole, {len(checked.dropped)} damaged ones dropped, {checked.orphans} orphaned "
        "files deleted"
    )
    row = {"whole": checked.whole, "dropped": list(checked.dropped), "orphans": checked.orphans}
    _print(options, "\n  ".join([text, *checked.dropped]), row)
    return 1 if checked.dropped else 0


def prune(options: Namespace) -> int:
    """Deletes results, least recently used first; returns 2 if no option says which."""
    if options.unused is None and options.down_to is None and not options.all:
        print_note(
            "store prune: say which results go, with --unused DAYS, --down-to SIZE, or both; --all drops every one"
        )
        return 2
    if options.all and (options.unused is not None or options.down_to is not None):
        print_note("store prune: --all drops every result, --unused and --down-to keep some; give one or the other")
        return 2
    dropped = 0
    try:
        store = default_store()
    except StoreError:
        if not options.all:
            raise
        dropped, store = delete_all_values(default_path()), default_store()
    dropped = max(dropped, store.prune(unused_seconds=(options.unused or 0.0) * _DAY, down_to=options.down_to or 0))
    left = store.stats()
    text = f"{dropped} results dropped, {left.entries} left, {bytes_text(left.bytes)}"
    return _print(options, text, {"dropped": dropped, "entries": left.entries, "bytes": left.bytes})


def copy(options: Namespace) -> int:
    """Copies all results of a collection to a store in another folder."""
    collection, source = arguments.open_collection(options), default_store()
    keys = [key for key in source.keys("") if collection.fingerprint in key.split("/")]
    if not keys:
        raise StoreError(f"Nothing is stored for {collection.name}; run `scan` on it first")
    with Store(options.to, limit=source.limit) as target:
        copied = _copied(source, target, keys)
    text = f"{copied} results of {collection.name} copied to {options.to}; on the other machine: store merge FOLDER"
    return _print(options, text, {"copied": copied, "to": str(options.to), "fingerprint": collection.fingerprint})


def merge(options: Namespace) -> int:
    """Adds the results of another store that are missing here."""
    folder = Path(options.folder).expanduser()
    if not (folder / INDEX).is_file():
        raise StoreError(f"{folder} holds no results; expected a folder that `store copy` wrote")
    target = default_store()
    with Store(folder, limit=target.limit) as source:
        keys = [key for key in source.keys("") if key not in target]
        merged = _copied(source, target, keys)
    return _print(options, f"{merged} results taken in from {folder}", {"merged": merged})


def _days(text: str) -> float:
    """Returns a number of days, for argparse."""
    try:
        days = float(text)
    except ValueError:
        days = nan
    if not 0 < days < inf:
        raise ArgumentTypeError(f"days are a number above 0, such as 30 or 0.5; found {text!r}")
    return days


def _copied(source: Store, target: Store, keys: list[str]) -> int:
    values = ((key, source.get(key)) for key in keys)
    count = 0
    for key, value in values:
        if value is not None:
            target.put(key, value)
            count += 1
    return count


def _print(options: Namespace, text: str, row: dict[str, object]) -> int:
    if options.json:
        print_json(row)
    else:
        print(text)
    return 0
