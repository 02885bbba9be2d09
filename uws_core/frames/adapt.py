"""Tables of coefficient training: rows with their scores, paired differences, captured gradients, curves."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from uws_core.nouns.adapting import Comparison, CurvePoint, GradientShare, Judged

HELP = {
    "task": "The task that was trained.",
    "row": "What is trained beside the head, which every row trains alike.",
    "other": "The row it is compared with.",
    "trainables": "Trained numbers without the head.",
    "rate": "The row's own learning rate, chosen on validation data from one grid.",
    "note": "Whether the best rate is the smallest or largest that was tried; a better one may lie outside.",
    "score": "Mean test score over the seeds; higher is better.",
    "lowest": "The lowest test score of a seed.",
    "highest": "The highest test score of a seed.",
    "seeds": "Seeds at the chosen rate.",
    "difference": "Mean of the paired differences in score, row minus other.",
    "low": "Lower end of the 95 % interval of the mean difference, Student's t over the pairs.",
    "high": "Upper end of the 95 % interval of the mean difference.",
    "pairs": "Pairs: seeds of one task, or tasks with their seeds averaged.",
    "verdict": "Better or worse where the interval leaves out zero.",
    "layer": "The layer's short name.",
    "k": "Directions of the outputs and of the inputs.",
    "shared": "Share of the gradient's squared norm in the shared subspace.",
    "base": "Share in as many leading singular directions of the base's own weight.",
    "chance": "Mean share of a random subspace of that size: k_out k_in / (m p).",
    "chance_high": "Share that 5 % of random subspaces exceed.",
    "members_low": "Smallest share of a member's own update that the shared basis holds.",
    "members_middle": "Median share of a member's own update.",
    "members_high": "Largest share of a member's own update.",
    "seed": "Fixes head, order of the batches, random basis and LoRA's start.",
    "validation": "Score on validation data.",
    "steps": "Steps of the optimiser.",
    "seconds": "Seconds of training, without an interrupted part.",
    "resumed_at": "Steps at which an interrupted training went on.",
    "diverged": "The loss became NaN or infinite.",
}


def rows(judged: Judged) -> pl.DataFrame:
    """One row a task and way of training, at its own best rate."""
    scores = judged.scores
    return pl.DataFrame(
        {
            "task": [score.task for score in scores],
            "row": [str(score.row) for score in scores],
            "trainables": [score.trainables for score in scores],
            "score": [score.mean for score in scores],
            "lowest": [float(score.scores.min()) for score in scores],
            "highest": [float(score.scores.max()) for score in scores],
            "seeds": [len(score.seeds) for score in scores],
            "rate": [score.rate for score in scores],
            "note": ["at the end of the grid" if score.at_edge else "" for score in scores],
        },
        schema={
            "task": pl.String,
            "row": pl.String,
            "trainables": pl.Int64,
            "score": pl.Float64,
            "lowest": pl.Float64,
            "highest": pl.Float64,
            "seeds": pl.Int64,
            "rate": pl.Float64,
            "note": pl.String,
        },
    )


def averaged(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of one task as they are; of several each way of training once: mean score, lowest and highest task."""
    if rows["task"].n_unique() < 2:
        return rows
    return rows.group_by("row", maintain_order=True).agg(
        pl.lit("all").alias("task"),
        pl.col("trainables").median().cast(pl.Int64),
        pl.col("score").mean().alias("score"),
        pl.col("score").min().alias("lowest"),
        pl.col("score").max().alias("highest"),
        pl.col("rate").median(),
    )


def differences(judged: Judged) -> pl.DataFrame:
    """One row a rival of the shared basis; the diagonals are compared with each other."""
    found = judged.differences
    return pl.DataFrame(
        {
            "row": [str(each.row) for each in found],
            "other": [str(each.other) for each in found],
            "difference": [each.mean for each in found],
            "low": [each.low for each in found],
            "high": [each.high for each in found],
            "pairs": [each.differences.size for each in found],
            "verdict": [each.verdict for each in found],
        },
        schema={
            "row": pl.String,
            "other": pl.String,
            "difference": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "pairs": pl.Int64,
            "verdict": pl.String,
        },
    )


def gradient(shares: Sequence[GradientShare]) -> pl.DataFrame:
    """One row a layer: the captured shares of the gradient, chance, and the members' own shares."""
    return pl.DataFrame(
        {
            "layer": [share.layer for share in shares],
            "k": [f"{share.k[0]} x {share.k[1]}" for share in shares],
            "shared": [share.shared for share in shares],
            "chance": [share.chance for share in shares],
            "chance_high": [share.chance_high for share in shares],
            "base": [share.base for share in shares],
            "members_low": [share.members[0] for share in shares],
            "members_middle": [share.members[1] for share in shares],
            "members_high": [share.members[2] for share in shares],
        }
    )


def runs(comparison: Comparison, task: str = "") -> pl.DataFrame:
    """One row a training."""
    chosen = [run for run in comparison.runs if not task or run.task == task]
    return pl.DataFrame(
        {
            "task": [run.task for run in chosen],
            "row": [str(run.row) for run in chosen],
            "seed": [run.seed for run in chosen],
            "rate": [run.rate for run in chosen],
            "trainables": [run.trainables for run in chosen],
            "validation": [run.validation for run in chosen],
            "score": [run.score for run in chosen],
            "steps": [run.steps for run in chosen],
            "seconds": [run.seconds for run in chosen],
            "resumed_at": [", ".join(map(str, run.resumed_at)) for run in chosen],
            "diverged": [run.diverged for run in chosen],
        }
    )


def curves(judged: Judged, points: Sequence[CurvePoint]) -> pl.DataFrame:
    """Training losses in one task: each row at its best rate so far, seeds averaged, and the training under way."""
    task, runs_of_task = judged.task, [run for run in judged.comparison.runs if run.task == judged.task]
    best = {
        run.name: str(run.row)
        for score in judged.scores
        for run in runs_of_task
        if run.row is score.row and run.rate == score.rate
    }
    finished = {run.name for run in runs_of_task}
    own = [point for point in points if point.task == task]
    names = [best.get(point.run, "" if point.run in finished else f"now: {point.run}") for point in own]
    frame = pl.DataFrame(
        {"line": names, "step": [point.step for point in own], "loss": [point.loss for point in own]},
        schema={"line": pl.String, "step": pl.Int64, "loss": pl.Float64},
    )
    kept = frame.filter(pl.col("line") != "")
    return (
        kept.group_by("line", "step", maintain_order=True).agg(pl.col("loss").mean()).sort("step", maintain_order=True)
    )
