"""What a bench measured is kept a commit, and what moved between two commits is said."""

import json
from pathlib import Path

import pytest

from tests.bench.record import keep, main, moved

COLUMNS = ("route", "where", "seconds", "ratio")


def record(seconds: float, verdict: str = "1.50 (target 2: met)") -> dict:
    rows = [["gram", "files", seconds, verdict], ["gram", "memory", 0.5, "1,000 MiB"], [100, "x", 3.0, ""]]
    return {"tables": {"gram of 100 models": {"columns": list(COLUMNS), "rows": rows}}}


def test_what_moved_is_said_and_noise_is_not():
    assert moved(record(1.0), record(1.2)) == []
    (line,) = moved(record(1.0), record(0.5))
    assert line == " 0.50 times  1 -> 0.5  gram of 100 models | gram, files | seconds"
    twice = moved(record(1.0), record(2.0, "6.00 (target 2: MISSED)"))
    assert ["ratio" in line for line in twice] == [True, False], "the larger change stands first"


def test_a_figure_of_one_side_only_is_named():
    assert moved({"tables": {}}, record(1.0))[0].startswith("only after: gram of 100 models | 100, x | seconds")


def test_tables_of_a_commit_are_kept_together_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "bench"
    path = keep("one", COLUMNS, [("gram", "files", 1.0, "2.5")], folder=folder)
    assert keep("two", COLUMNS, [("scan", "files", 1.0, None)], folder=folder) == path
    assert main([], folder=folder) == 1
    older = json.loads(path.read_text())
    assert set(older["tables"]) == {"one", "two"}
    assert older["commit"] == path.stem
    older["tables"]["one"]["rows"][0][2] = 4.0
    (folder / "older.json").write_text(json.dumps(older | {"commit": "older"}))
    capsys.readouterr()
    assert main(["older", path.stem], folder=folder) == 0
    assert " 0.25 times  4 -> 1  one | gram, files | seconds" in capsys.readouterr().out
    assert main(["older", "nowhere"], folder=folder) == 1
    assert "nowhere.json" in capsys.readouterr().err
