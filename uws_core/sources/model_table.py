"""The table of attributes beside a folder's models: `models.csv`, first column `model`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from unicodedata import normalize

from uws_core.nouns.models import LeftOut, Value

MODEL_TABLE: Final = "models.csv"
KEY: Final = "model"
# A million models with a dozen attributes.
LONGEST: Final = 100_000_000
# 007 is a name, 7 is a number; `1_000`, `nan` and `inf` are left as texts.
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_TRUTH: Final = {"true": True, "false": False}


@dataclass(frozen=True)
class ModelTable:
    """Attributes by model, in the order of the file, and what of the file was not used."""

    columns: tuple[str, ...] = ()
    rows: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


def read_table(folder: Path) -> ModelTable:
    """The attributes in `folder/models.csv`; empty when there is none. A damaged file becomes a note, not an error."""
    path = folder / MODEL_TABLE
    if not path.is_file():
        return ModelTable()
    try:
        if path.stat().st_size > LONGEST:
            return _unused(f"it is larger than {LONGEST:,} bytes")
        return parse_table(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return _unused(f"it cannot be read as UTF-8 text with commas: {error}")


def parse_table(text: str) -> ModelTable:
    """The attributes written in `text`: a column of whole numbers, numbers, true and false, or texts; empty is None.

    Raises:
        csv.Error: no table with commas.
    """
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline="")) if any(line)]
    if not lines:
        return _unused("it is empty; expected a first line that begins with 'model'")
    head, body = lines[0], lines[1:]
    if head[0].casefold() != KEY:
        return _unused(f"its first column is called {head[0][:40]!r}, expected 'model'")
    names = tuple(head[1:])
    if "" in names or len(set(names)) < len(names) or KEY in names:
        return _unused("a column has no name, or two have the same")
    width = len(names)
    keys: list[str] = []
    cells: list[list[str]] = []
    left_out: list[LeftOut] = []
    known: set[str] = set()
    for line in body:
        key, rest = line[0], line[1:]
        if key in known:
            left_out.append(LeftOut(f"{MODEL_TABLE}: {key}", "a second row for this model; the first is used"))
            continue
        if any(rest[width:]):
            left_out.append(LeftOut(f"{MODEL_TABLE}: {key}", f"cells beyond the {width} named columns are not used"))
        known.add(key)
        keys.append(key)
        cells.append((rest + [""] * width)[:width])
    typed = [_typed([row[i] for row in cells]) for i in range(len(names))]
    return ModelTable(names, {key: tuple(column[i] for column in typed) for i, key in enumerate(keys)}, tuple(left_out))


def matched(
    table: ModelTable, names: Sequence[Sequence[str]], *, known: Sequence[str] = ()
) -> tuple[dict[str, tuple[Value, ...]], tuple[LeftOut, ...]]:
    """The columns for models that may each be called by several `names`, and the rows that are of no model.

    `known` are further names that are no surprise, such as models that were left out for reasons of their own.
    """
    # A disk may keep accented letters in two characters where the table has them in one.
    by_name = {normalize("NFC", key): row for key, row in table.rows.items()}
    spelled = [[normalize("NFC", name) for name in own] for own in names]
    rows = [next((by_name[name] for name in own if name in by_name), None) for own in spelled]
    empty = (None,) * len(table.columns)
    columns = {name: tuple((row or empty)[i] for row in rows) for i, name in enumerate(table.columns)}
    used = {name for own in spelled for name in own} | {normalize("NFC", name) for name in known}
    unknown = [key for key in table.rows if normalize("NFC", key) not in used]
    notes = (LeftOut(f"{MODEL_TABLE}: {key}", "no model of that name is in the folder") for key in unknown)
    return columns, (*table.left_out, *notes)


def _typed(cells: list[str]) -> list[Value]:
    """A column with one type, so that it sorts and colours as one."""
    filled = [cell for cell in cells if cell]
    if all(_WHOLE.fullmatch(cell) for cell in filled):
        return [int(cell) if cell else None for cell in cells]
    if all(_NUMBER.fullmatch(cell) and not re.match(r"[+-]?0\d", cell) for cell in filled):
        return [float(cell) if cell else None for cell in cells]
    if all(cell.casefold() in _TRUTH for cell in filled):
        return [_TRUTH[cell.casefold()] if cell else None for cell in cells]
    return [cell or None for cell in cells]


def _unused(reason: str) -> ModelTable:
    return ModelTable(left_out=(LeftOut(MODEL_TABLE, f"not used: {reason}"),))
