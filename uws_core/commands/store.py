"""`store`: what the results folder holds, whether it is sound, making room in it, and carrying results elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from math import inf, nan
from pathlib import Path

from uws_core.commands import asked
from uws_core.commands.table import print_json, say
from uws_core.disk import INDEX
from uws_core.errors import StoreError
from uws_core.nouns.sizes import bytes_text
from uws_core.store import Store, default_path, default_store, emptied

_DAY = 86_400.0


def add_store(parser: ArgumentParser) -> None:
    """The commands of `store`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stats_options = commands.add_parser("stats", help="where it is, how many results, how large")
    stats_options.set_defaults(act=stats)
    check_options = commands.add_parser("check", help="read everything back, drop what is damaged")
    check_options.set_defaults(act=check)
    prune_options = commands.add_parser("prune", help="make room: least recently used results go first")
    prune_options.add_argument("--unused", type=_days, metavar="DAYS", help="only those unused so long")
    prune_options.add_argument("--down-to", type=asked.amount, metavar="SIZE", help="stop at 1GiB, say")
    prune_options.add_argument("--all", action="store_true", help="drop every result")
    prune_options.set_defaults(act=prune)
    copy_options = commands.add_parser("copy", help="one collection's results to a folder that can be carried")
    asked.add_where(copy_options)
    copy_options.add_argument("--to", required=True, metavar="FOLDER")
    copy_options.set_defaults(act=copy)
    merge_options = commands.add_parser("merge", help="take in the results of a folder that was carried here")
    merge_options.add_argument("folder", metavar="FOLDER")
    merge_options.set_defaults(act=merge)
    for options in (stats_options, check_options, prune_options, copy_options, merge_options):
        options.add_argument("--json", action="store_true", help="one JSON object instead of text")


def stats(told: Namespace) -> int:
    """Print where the store is, how many results it holds, and how large it is."""
    store = default_store()
    found = store.stats()
    text = f"{found.path}: {found.entries} results, {bytes_text(found.bytes)} of at most {bytes_text(found.limit)}"
    row = {"path": str(found.path), "entries": found.entries, "bytes": found.bytes, "limit": found.limit}
    return _tell(told, text + (f"\n{store.notice}" if store.notice else ""), row | {"notice": store.notice})


def check(told: Namespace) -> int:
    """Read everything back and drop what is damaged; 1 if something was."""
    found = default_store().check()
    text = (
        f"{found.whole} results are whole, {len(found.dropped)} damaged ones dropped, {found.orphans} left-overs gone"
    )
    row = {"whole": found.whole, "dropped": list(found.dropped), "orphans": found.orphans}
    _tell(told, "\n  ".join([text, *found.dropped]), row)
    return 1 if found.dropped else 0


def prune(told: Namespace) -> int:
    """Drop results, least recently used first; 2 where nothing says which."""
    if told.unused is None and told.down_to is None and not told.all:
        say("store prune: say which results go, with --unused DAYS, --down-to SIZE, or both; --all drops every one")
        return 2
    if told.all and (told.unused is not None or told.down_to is not None):
        say("store prune: --all drops every result, --unused and --down-to keep some; give one or the other")
        return 2
    dropped = 0
    try:
        store = default_store()
    except StoreError:
        if not told.all:
            raise
        dropped, store = emptied(default_path()), default_store()
    dropped = max(dropped, store.prune(unused_seconds=(told.unused or 0.0) * _DAY, down_to=told.down_to or 0))
    left = store.stats()
    text = f"{dropped} results dropped, {left.entries} left, {bytes_text(left.bytes)}"
    return _tell(told, text, {"dropped": dropped, "entries": left.entries, "bytes": left.bytes})


def copy(told: Namespace) -> int:
    """Copy everything known of a collection to a store in another folder."""
    found, source = asked.collection(told), default_store()
    keys = [key for key in source.keys("") if found.fingerprint in key.split("/")]
    if not keys:
        raise StoreError(f"Nothing is stored for {found.name}; run `scan` on it first")
    with Store(told.to, limit=source.limit) as target:
        copied = _carried(source, target, keys)
    text = f"{copied} results of {found.name} copied to {told.to}; on the other machine: store merge FOLDER"
    return _tell(told, text, {"copied": copied, "to": str(told.to), "fingerprint": found.fingerprint})


def merge(told: Namespace) -> int:
    """Take in every result of another store that is not here."""
    folder = Path(told.folder).expanduser()
    if not (folder / INDEX).is_file():
        raise StoreError(f"{folder} holds no results; expected a folder that `store copy` wrote")
    target = default_store()
    with Store(folder, limit=target.limit) as source:
        keys = [key for key in source.keys("") if key not in target]
        merged = _carried(source, target, keys)
    return _tell(told, f"{merged} results taken in from {folder}", {"merged": merged})


def _days(text: str) -> float:
    """A number of days, for argparse."""
    try:
        days = float(text)
    except ValueError:
        days = nan
    if not 0 < days < inf:
        raise ArgumentTypeError(f"days are a number above 0, such as 30 or 0.5; found {text!r}")
    return days


def _carried(source: Store, target: Store, keys: list[str]) -> int:
    values = ((key, source.get(key)) for key in keys)
    count = 0
    for key, value in values:
        if value is not None:
            target.put(key, value)
            count += 1
    return count


def _tell(told: Namespace, text: str, row: dict[str, object]) -> int:
    if told.json:
        print_json(row)
    else:
        print(text)
    return 0
