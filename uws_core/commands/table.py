"""A frame on the terminal, and rows as JSON lines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence

import polars as pl


def print_table(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    """The columns as aligned text; numbers to the right, three digits."""
    cells = [[_text(value) for value in frame[name].to_list()] for name in columns]
    widths = [max(map(len, (name, *column))) for name, column in zip(columns, cells, strict=True)]
    numeric = [frame[name].dtype.is_numeric() for name in columns]
    for row in [tuple(columns), *zip(*cells, strict=True)]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        print("  ".join(padded).rstrip())


def print_json(row: Mapping[str, object]) -> None:
    """One object on a line of its own, at once; what JSON has no number for is null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    print(json.dumps(plain, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """A line for people, beside the results."""
    print(text, file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Text from outside on one line: what would move a terminal's cursor or colours is written as its escape."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else plain(str(value))
