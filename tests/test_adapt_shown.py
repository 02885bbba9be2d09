"""The words, tables and figures of coefficient training, and its command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.wording import measured
from uws_core.analysis.adapt import judged
from uws_core.answers import adapt as answers
from uws_core.charts import adapt as charts
from uws_core.cli.main import main
from uws_core.frames import adapt as frames
from uws_core.nouns.adapting import Comparison, CurvePoint, GradientShare, Row, TrainedRun


def comparison(shared: list[list[float]], random: list[list[float]], *, missing: int = 0) -> Comparison:
    """Scores by task and seed of both bases, and a head and a LoRA row beside them."""
    rows = {Row.HEAD: [[0.5] * 3] * len(shared), Row.SHARED: shared, Row.RANDOM: random, Row.LORA: shared}
    numbers = {Row.HEAD: 0, Row.LORA: 1344}
    runs = tuple(
        TrainedRun(f"t{task}", row, seed, 0.1, numbers.get(row, 648), score, score)
        for row, tasks in rows.items()
        for task, scores in enumerate(tasks)
        for seed, score in enumerate(scores)
    )
    return Comparison(runs, "accuracy", len(runs) + missing)


BETTER = comparison([[0.94, 0.95, 0.93]], [[0.80, 0.82, 0.79]])
SAME = comparison([[0.80, 0.83, 0.79]], [[0.81, 0.80, 0.82]])
WORSE = comparison([[0.70, 0.71, 0.70]], [[0.80, 0.82, 0.81]])
TASKS = comparison([[0.94, 0.95, 0.93], [0.9, 0.9, 0.9], [0.8, 0.8, 0.8]], [[0.7] * 3, [0.65] * 3, [0.6] * 3])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (BETTER, "Better than a random basis on `t0`: the shared basis scores 0.940 against 0.803, over 3 seeds."),
        (SAME, "No better than a random basis on `t0`: the shared basis scores 0.807 against 0.810, over 3 seeds."),
        (WORSE, "Worse than a random basis on `t0`: the shared basis scores 0.703 against 0.810, over 3 seeds."),
        (
            TASKS,
            "Better than a random basis on these tasks: the shared basis scores 0.880 against 0.650, over 3 tasks.",
        ),
        (Comparison(()), "Nothing has been trained yet."),
        (
            Comparison(tuple(run for run in SAME.runs if run.row is not Row.RANDOM), "accuracy", 9),
            "One cannot tell on `t0`: there is no random basis beside the shared one.",
        ),
        (
            Comparison(
                tuple(replace(run, diverged=True) if run.row is Row.RANDOM else run for run in SAME.runs), "accuracy"
            ),
            "One cannot tell on `t0`: no seed has a score of both the shared and the random basis.",
        ),
        (
            comparison([[0.9]], [[0.5]]),
            "One cannot tell on `t0`: 0.900 against 0.500 of a random basis is a single pair; train more seeds.",
        ),
        (
            Comparison(SAME.runs, "accuracy", 40),
            "So far no better than a random basis on `t0`: the shared basis scores 0.807 against 0.810, over 3 seeds.",
        ),
    ],
)
def test_the_answer_says_better_no_better_and_worse_alike(given: Comparison, line: str):
    assert answers.answer(judged(given)) == line
    assert measured(line).short


def shares(shared: float, layers: int = 6) -> list[GradientShare]:
    return [GradientShare(f"{i}.q", (6, 6), shared, 0.05, 0.035, 0.06, (0.1, 0.3, 0.6), 2.0) for i in range(layers)]


def test_a_gradient_gives_a_reason_or_none():
    line = answers.before(shares(0.3), "rotated")
    assert line.startswith(
        "Worth a try on `rotated`: the shared subspace holds 30 % of the gradient, a random one 3.5 %"
    )
    assert measured(line).short
    assert answers.before(shares(0.05), "rotated").startswith("No reason to share on `rotated`")
    # One layer of twenty above the 95 % line is what chance gives.
    few = [*shares(0.02, 19), *shares(0.3, 1)]
    assert answers.before(few, "rotated").startswith("No reason to share")


def test_figures_show_every_row_its_range_and_zero():
    rows = frames.rows(judged(TASKS, "t0"))
    drawn = charts.scores(rows, metric="accuracy")
    by_name = {trace.name: trace for trace in drawn.data}
    shared = by_name["shared"]
    assert np.asarray(shared.y) == pytest.approx([0.94])
    assert list(shared.error_y.array) == pytest.approx([0.01])
    # Equal numbers are set apart, so that the two ranges show.
    assert by_name["random"].x[0] == pytest.approx(648 * 1.08)
    assert drawn.layout.shapes[0].y0 == 0.5
    different = charts.differences(frames.differences(judged(TASKS)), metric="accuracy")
    assert list(different.data[0].y) == ["shared − head only", "shared − random", "shared − LoRA"]
    narrow = charts.scores(rows.filter(pl.col("trainables") < 2000), metric="accuracy")
    assert [tick for tick in narrow.layout.xaxis.tickvals if 600 < tick < 1400] == [1000]
    assert {500, 2000} <= set(narrow.layout.xaxis.tickvals)
    assert different.data[0].error_x.array[1] == pytest.approx(0.0, abs=0.2)
    assert list(different.data[0].marker.symbol)[1:] == ["circle", "circle-open"]
    gradient = charts.gradient(frames.gradient(shares(0.3)))
    assert np.asarray({trace.name: trace for trace in gradient.data}["shared basis"].y) == pytest.approx([0.3] * 6)


def test_a_curve_is_the_mean_over_seeds_and_the_training_under_way_its_own():
    names = [run.name for run in SAME.runs if run.row is Row.SHARED]
    points = [CurvePoint("t0", name, 8, loss) for name, loss in zip(names, (1.0, 2.0, 3.0), strict=True)]
    points.append(CurvePoint("t0", "random rate 0.3 seed 0", 8, 9.0))
    frame = frames.curves(judged(SAME, "t0"), points)
    assert dict(frame.select("line", "loss").iter_rows()) == {"shared": 2.0, "now: random rate 0.3 seed 0": 9.0}
    assert [trace.line.dash for trace in charts.curves(frame).data] == ["solid", "dot"]


def test_the_command_trains_goes_on_reads_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = tmp_path / "log"
    words = ["adapt", "demo:lora", "--task", "inverted", "--steps", "6", "--rates", "0.1", "--quiet", "--json"]
    words += ["--rows", "head only,shared,random", "--rank", "3", "--out", str(log)]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["complete"]
    assert {row["row"]: row["trainables"] for row in first["rows"]} == {"head only": 0, "shared": 162, "random": 162}
    assert "a random basis on `inverted`" in first["answer"]
    assert main(words) == 0
    again = json.loads(capsys.readouterr().out)
    # Nothing was trained again: the seconds are those of the first time.
    assert again == first
    assert main(["adapt", str(log), "--export", str(tmp_path / "adapter"), "--row", "random"]) == 0
    assert "head only" in capsys.readouterr().out
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    assert main([*words[:-1], str(log), "--seeds", "4"]) == 1
    assert "holds a comparison with another seeds" in capsys.readouterr().err


def test_a_dry_run_prints_counts_and_gradients(capsys: pytest.CaptureFixture[str]):
    assert main(["adapt", "demo:lora", "--task", "shuffled", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trainings"] == 6 * (6 + 2)
    assert told["trainables"]["LoRA"] == 1344
    assert len(told["gradient"]["shuffled"]) == 18
    assert main(["adapt", "demo:planted"]) == 1
    assert "demo:lora and demo:finetuned have tasks" in capsys.readouterr().err
