"""Tables, JSON lines and notes on the terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence

import polars as pl


def print_table(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    """Prints columns as aligned text; numbers are right-aligned with three digits."""
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
    """Prints one JSON object a line and flushes; NaN and infinity become null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    print(json.dumps(plain, ensure_ascii=False), flush=True)


def print_note(text: str) -> None:
    """Prints a line for people on the error stream."""
    print(text, file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Returns foreign text on one line, with control characters escaped, so that it cannot drive the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else plain(str(value))
