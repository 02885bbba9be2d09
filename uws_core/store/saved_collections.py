"""Saved collections: files that name models at commits, their attributes, and the query; another machine can open them.

A `*.uws.toml` holds names and numbers only, no weights. Models of the Hub stand there by commit; models on a disk by
their path beside the file, with the digest of their content, so that the same files elsewhere are the same collection.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uws_core.errors import ExportError, UnreadableFile
from uws_core.nouns.models import Collection, LeftOut, ModelRef, Value

SUFFIX: Final = ".uws.toml"
FORMAT: Final = 1
# Ten thousand models with a dozen attributes take 5 MB.
LONGEST: Final = 50_000_000
# The built-in collections lie inside the package.
_PACKAGE: Final = Path(__file__).parents[1]
# TOML knows no other control characters than these, and JSON escapes all but the last.
_DELETE: Final = "\x7f"
# How a layer is called of which the first rows are compared.
_ROWS: Final = re.compile(r"\[:\d+\]$")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Saved:
    """A collection file: its models by label in order, with their attributes; paths are absolute."""

    name: str
    models: Mapping[str, ModelRef]
    table: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    base: ModelRef | None = None
    query: str = ""
    fingerprint: str = ""
    left_out: tuple[LeftOut, ...] = ()
    # Whether layers that differ in their number of rows were compared in the rows they share.
    common_rows: bool = False


def save(collection: Collection, path: Path, *, query: str = "") -> None:
    """Writes a collection file; it appears whole or not at all.

    Raises:
        ExportError: it cannot be written there.
    """
    text = saved_text(collection, beside=path.absolute().parent, query=query)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ExportError(f"{path}: the collection cannot be saved: {error.strerror or error}") from error


def saved_text(collection: Collection, *, beside: Path | None = None, query: str = "") -> str:
    """The text of a collection file; models in or below the folder `beside` are named relative to it."""
    saved = Saved(
        name=collection.name,
        models=dict(zip(collection.labels, collection.refs, strict=True)),
        table=collection.table,
        base=collection.base,
        query=query,
        fingerprint=collection.fingerprint,
        left_out=collection.left_out,
        common_rows=any(_ROWS.search(layer.name) for layer in collection.layers),
    )
    return _written(saved, beside)


def portable(saved: Saved) -> tuple[str, Path | None]:
    """The text of a file for another machine, and the folder it must be saved in; None where any folder will do."""
    folder = common_folder(saved.models.values())
    return _written(saved, folder), folder


def common_folder(refs: Iterable[ModelRef]) -> Path | None:
    """The deepest folder that holds all local models; None without such a folder, or without local models."""
    parents = [str(Path(ref.repo).parent) for ref in refs if is_local(ref)]
    folder = Path(os.path.commonpath(parents)) if parents else None
    return None if folder is None or folder == folder.parent else folder


def is_local(ref: ModelRef) -> bool:
    """Whether a model lies on this machine only: neither on the Hub nor built in."""
    path = Path(ref.repo)
    return path.is_absolute() and not path.is_relative_to(_PACKAGE)


def read_saved(path: Path) -> Saved:
    """The content of a collection file; opens nothing else.

    Raises:
        UnreadableFile: missing, too large, no such file, or of a later format; the message names the place in it.
    """
    try:
        if path.stat().st_size > LONGEST:
            raise UnreadableFile(f"{path}: a collection file has at most {LONGEST:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: no collection file: {error}") from error
    try:
        return parse_saved(text, beside=path.absolute().parent)
    except UnreadableFile as error:
        raise UnreadableFile(f"{path}: {error}") from error


def parse_saved(text: str, *, beside: Path) -> Saved:
    """The content of a collection file from its text; relative paths start at the folder `beside`.

    Raises:
        UnreadableFile: it is not one; the message names the place.
    """
    try:
        content = tomllib.loads(text)
    # Brackets nested thousands deep end in RecursionError, a number of thousands of digits in a plain ValueError.
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"no TOML: {str(error)[:200]}") from error
    version = content.get("format")
    if version != FORMAT:
        raise UnreadableFile(f"format is {_brief(version, 20)}, expected {FORMAT}; a later version may have made it")
    rows = _rows(content, "model")
    models = {
        _string(row, "label", f"model {i + 1}"): _ref(row, beside, f"model {i + 1}") for i, row in enumerate(rows)
    }
    if len(models) != len(rows) or not rows:
        raise UnreadableFile(f"{len(rows)} models with {len(models)} different labels; expected one label a model")
    base = content.get("base")
    columns = content.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise UnreadableFile("columns is no list of texts")
    known = [row.get("attributes", {}) for row in rows]
    for i, cells in enumerate(known):
        # TOML's whole numbers have 64 bits.
        if not isinstance(cells, dict) or not all(
            isinstance(value, str | float) or (isinstance(value, int) and -(2**63) <= value < 2**63)
            for value in cells.values()
        ):
            raise UnreadableFile(f"model {i + 1}: attributes are texts, numbers, true and false by name")
    names = dict.fromkeys([*columns, *(name for cells in known for name in cells)])
    return Saved(
        name=_string(content, "name", "the file"),
        models=models,
        table={name: tuple(cells.get(name) for cells in known) for name in names},
        base=_ref(base, beside, "base") if isinstance(base, dict) else None,
        query=_string(content, "query", "the file", default=""),
        fingerprint=_string(content, "fingerprint", "the file", default=""),
        left_out=tuple(
            LeftOut(_string(row, "what", "left_out"), _string(row, "reason", "left_out"))
            for row in _rows(content, "left_out")
        ),
        common_rows=content.get("common_rows") is True,
    )


# --- writing


def _written(saved: Saved, beside: Path | None) -> str:
    lines = [
        f"# {len(saved.models)} models of one architecture; no weights. Open it with uws_core.collect, or on the page.",
        f"format = {FORMAT}",
        f"name = {_text(saved.name)}",
        f"fingerprint = {_text(saved.fingerprint)}",
        *([f"query = {_text(saved.query)}"] if saved.query else []),
        *(["common_rows = true"] if saved.common_rows else []),
        f"columns = [{', '.join(_text(name) for name in saved.table)}]",
    ]
    if saved.base:
        lines += ["", "[base]", *_location(saved.base, beside)]
    for i, (label, ref) in enumerate(saved.models.items()):
        known = {name: column[i] for name, column in saved.table.items() if column[i] is not None}
        lines += ["", "[[model]]", f"label = {_text(label)}", *_location(ref, beside)]
        if known:
            lines.append("attributes = { " + ", ".join(f"{_text(k)} = {_value(v)}" for k, v in known.items()) + " }")
    for note in saved.left_out:
        lines += ["", "[[left_out]]", f"what = {_text(note.what)}", f"reason = {_text(note.reason)}"]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's, except for one character and for halves of a pair."""
    whole = text.encode("utf-8", "replace").decode()
    return json.dumps(whole, ensure_ascii=False).replace(_DELETE, "\\u007f")


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{'-' if value < 0 else ''}inf"
    return _text(value) if isinstance(value, str) else repr(value)


def _location(ref: ModelRef, beside: Path | None) -> list[str]:
    """The lines that say where a model is: on the Hub, in the package, or on a disk."""
    path = Path(ref.repo)
    if not path.is_absolute():
        where = f"hub = {_text(ref.repo)}"
    elif path.is_relative_to(_PACKAGE):
        where = f"shipped = {_text(path.relative_to(_PACKAGE).as_posix())}"
    elif beside and path.is_relative_to(beside):
        where = f"path = {_text(path.relative_to(beside).as_posix())}"
    else:
        where = f"path = {_text(str(path))}"
    return [where, f"commit = {_text(ref.commit)}", *([f"part = {_text(ref.part)}"] if ref.part else [])]


# --- reading


def _rows(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = content.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnreadableFile(f"{key} is no list of tables")
    return rows


def _string(row: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str):
        raise UnreadableFile(f"{where}: expected a text {key!r}, found {_brief(value, 40)}")
    return value


def _brief(value: object, length: int) -> str:
    """The beginning of a value as a quoted text."""
    try:
        return repr(str(value)[:length])
    # Hexadecimal numbers have no limit to their digits, decimal ones do.
    except ValueError:
        return "a number of thousands of digits"


def _ref(row: Mapping[str, Any], beside: Path, where: str) -> ModelRef:
    kinds = [kind for kind in ("hub", "shipped", "path") if kind in row]
    if len(kinds) != 1:
        raise UnreadableFile(f"{where}: expected one of hub, shipped and path, found {kinds or 'none'}")
    path, commit = _string(row, kinds[0], where), _string(row, "commit", where)
    if not _COMMIT.fullmatch(commit):
        raise UnreadableFile(f"{where}: expected a commit of 40 hexadecimal digits, found {commit[:60]!r}")
    part = _string(row, "part", where, default="")
    if kinds[0] == "hub":
        if Path(path).is_absolute():
            raise UnreadableFile(f"{where}: {path[:60]!r} is no repository name")
        return ModelRef(path, commit, part)
    return ModelRef(_path(path, beside, shipped=kinds[0] == "shipped", where=where), commit, part)


def _path(text: str, beside: Path, *, shipped: bool, where: str) -> str:
    """An absolute path without `..`: what lies beside the file, in the package, or where it says."""
    home = _PACKAGE if shipped else beside
    path = Path(os.path.normpath(home / text))
    if "\0" in text or (shipped and not path.is_relative_to(_PACKAGE)):
        raise UnreadableFile(f"{where}: {text[:60]!r} is no path of a model")
    return str(path)
