"""The figures of the benches as JSON, a file a commit in `.bench/`, and what moved between two of them.

python -m tests.bench.record            the newest file beside the one before it
python -m tests.bench.record OLD NEW    two files, or the commits they are called after
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
# The same row varies by a tenth to a quarter from run to run on a shared machine.
NOTABLE = 1.25
_NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


def keep(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, folder: Path = FOLDER) -> Path:
    """Writes a table into the file of the checked-out commit, in the place of an older run of it; returns the file."""
    commit = _git("rev-parse", "--short=10", "HEAD") + ("-changed" if _git("status", "--porcelain", "-uno") else "")
    folder.mkdir(exist_ok=True)
    path = folder / f"{commit}.json"
    known = json.loads(path.read_text()) if path.exists() else {"commit": commit, "tables": {}}
    known |= {"machine": _machine(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
    cells = [[cell if isinstance(cell, int | float) else str(cell) for cell in row] for row in rows]
    known["tables"][title] = {"columns": list(columns), "rows": cells}
    path.write_text(json.dumps(known, indent=1) + "\n")
    return path


def figures(record: dict[str, Any]) -> dict[str, float]:
    """Every number of a record by table, row and column; a row is named by its cells before the first number."""
    found: dict[str, float] = {}
    for title, table in record["tables"].items():
        for row in table["rows"]:
            numbers = [_number(cell) for cell in row]
            # A first cell is a name even where it is a number: so many models, so many workers.
            names = next((i for i in range(1, len(row)) if numbers[i] is not None), len(row))
            name = ", ".join(str(cell) for cell in row[:names])
            for column, value in list(zip(table["columns"], numbers, strict=False))[names:]:
                if value is not None:
                    found.setdefault(f"{title} | {name} | {column}", value)
    return found


def moved(before: dict[str, Any], after: dict[str, Any], *, notable: float = NOTABLE) -> list[str]:
    """Returns a line for each figure that changed by the factor `notable` or more, the largest change first."""
    old, new = figures(before), figures(after)
    changed = [(new[name] / old[name], name) for name in old.keys() & new.keys() if old[name] > 0 and new[name] > 0]
    changed = [(ratio, name) for ratio, name in changed if max(ratio, 1 / ratio) >= notable]
    changed.sort(key=lambda each: (-max(each[0], 1 / each[0]), each[1]))
    lines = [f"{ratio:5.2f} times  {old[name]:.4g} -> {new[name]:.4g}  {name}" for ratio, name in changed]
    only = [f"only before: {name}" for name in sorted(old.keys() - new.keys())]
    return lines + only + [f"only after: {name}" for name in sorted(new.keys() - old.keys())]


def main(given: Sequence[str], *, folder: Path = FOLDER) -> int:
    """Prints what moved; returns the exit status."""
    if len(given) not in (0, 2):
        print("usage: python -m tests.bench.record [OLD NEW], each a file or a commit", file=sys.stderr)
        return 2
    if given:
        paths = [path if (path := Path(each)).is_file() else folder / f"{each}.json" for each in given]
    else:
        paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        print(f"no such record: {', '.join(missing)}", file=sys.stderr)
        return 1
    records = [json.loads(path.read_text()) for path in paths]
    if len(records) < 2:
        print(f"{len(records)} records in {folder}: run `make bench` at two commits first", file=sys.stderr)
        return 1
    before, after = records[-2:]
    for record in (before, after):
        print(f"{record['commit']}, {record['when']}, {record['machine']}")
    if before["machine"] != after["machine"]:
        print("Two machines: only ratios within a table may be compared.")
    lines = moved(before, after)
    print("\n".join(lines) or f"Nothing moved by {NOTABLE:g} times or more.")
    return 0


def _number(cell: object) -> float | None:
    if isinstance(cell, int | float):
        return float(cell)
    found = _NUMBER.match(str(cell))
    return float(found[0].replace(",", "")) if found else None


def _git(*words: str) -> str:
    asked = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or ("unknown" if words[0] == "rev-parse" else "")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"{len(os.sched_getaffinity(0))} cores of {model}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
