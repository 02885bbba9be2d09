"""The tables of docs/chance.md as Markdown, from the results of tests/chance_run.py, and what in them is wrong.

`python -m tests.chance_tables FOLDER` prints them from the files of a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.nothing_shared import KINDS, NOT_COVERED
from tests.planted_directions import MORE, NORMS

# Columns of the table of claims that would be too wide under their own names.
SHORT = {
    "concentrated": "variance",
    "concentrated-unit": "unit norm",
    "components": "**count**",
    "unseen": "held out",
    "unseen-groups": "groups",
    "count, rows": "rows",
    "count, columns": "columns",
    "count, equal noise": "equal noise",
}
Results = Mapping[str, Mapping[str, float]]
# At most so many alarms at 5 %; 200 collections of a right test exceed it once in 150 tests.
LEAST_ALARMS, MOST_ALARMS, LEAST_POWER, MOST_AWAY = 0.02, 0.09, 0.95, 0.15
# Groups whose models' noise differs sevenfold and more (log-normal e^1) are counted 5.25 instead of 5 under the
# strength null: the noise of some hides the points of others.
HIDDEN = "strength/six groups/log-normal 1"


def tables(results: Results) -> str:
    """Markdown tables of all results: claims, power, mean counts and side axes."""
    parts = [
        _table("models", _claims(results)),
        *(_table(f"norms, {null}", _rows(results, f"power/{null}/")) for null in ("profile", "strength")),
        *(_table(f"planted, {null}", _means(results, f"mean/{null}/")) for null in ("profile", "strength")),
        _table("side axes", _sides(results)),
    ]
    return "\n\n".join(part for part in parts if part)


def wrong(results: Results) -> dict[str, float]:
    """The numbers that are not as they must be, by the job and the column."""
    found = {}
    for kind, row in results.items():
        group, _, rest = kind.partition("/")
        if group == "claims" and rest not in NOT_COVERED:
            # The count takes the weaker of rows and columns; each alone, and equal noise, may alarm.
            found |= {f"{kind}: {name}": rate for name, rate in row.items() if rate > MOST_ALARMS and "," not in name}
        elif group == "power":
            found |= {} if LEAST_ALARMS <= row["0"] <= MOST_ALARMS else {f"{kind}: none": row["0"]}
            found |= {f"{kind}: {at}": row[at] for at in ("5", "10", "40") if row[at] < LEAST_POWER}
        elif group == "mean" and rest != HIDDEN and abs(row["mean"] - row["truth"]) > MOST_AWAY:
            found[kind] = row["mean"]
        elif group == "side":
            found |= {f"{kind}: {axis}": rate for axis, rate in row.items() if rate > MOST_ALARMS}
    return found


def read(folder: Path) -> Results:
    """The results in the files of a folder."""
    loaded = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return {one["kind"]: one["result"] for one in loaded}


def _under(results: Results, start: str) -> dict[str, Mapping[str, float]]:
    return {kind.removeprefix(start): row for kind, row in results.items() if kind.startswith(start)}


def _claims(results: Results) -> dict[str, dict[str, str]]:
    rows = _under(results, "claims/")
    named = {kind: f"*{kind}*" if kind in NOT_COVERED else kind for kind in KINDS if kind in rows}
    return {
        label: {SHORT.get(name, name): f"{100 * rate:.0f}" for name, rate in rows[kind].items()}
        for kind, label in named.items()
    }


def _rows(results: Results, start: str) -> dict[str, dict[str, str]]:
    rows = _under(results, start)
    return {name: _percent(rows[name]) for name in NORMS if name in rows}


def _means(results: Results, start: str) -> dict[str, dict[str, str]]:
    rows = _under(results, start)
    found = {
        planted: {norms: rows[f"{planted}/{norms}"] for norms in NORMS if f"{planted}/{norms}" in rows}
        for planted in MORE
    }
    return {
        planted: {norms: f"{row['mean']:.2f} of {row['truth']:.0f}" for norms, row in means.items()}
        for planted, means in found.items()
        if means
    }


def _sides(results: Results) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for name, row in _under(results, "side/").items():
        models, decay, norms = name.split("/", 1)[0], *name.split("/", 1)[1].rsplit("/", 1)
        rates = _percent(row)
        rows.setdefault(f"{models}, {decay}", {})[norms] = f"{rates['in']}, {rates['out']}"
    return rows


def _percent(row: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{100 * rate:.3g}" for name, rate in row.items()}


def _table(title: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(row.get(column, "") for column in columns) + " |" for name, row in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    found = read(Path(sys.argv[1]))
    print(tables(found), "\n", wrong(found))
