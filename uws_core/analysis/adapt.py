"""Judging coefficient training: each row's own rate, paired differences with intervals, captured gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from uws_core.nouns.adapting import Comparison, Judged, PairedDifference, Row, RowScore, TrainedRun
from uws_core.nouns.arrays import Floats

CONFIDENCE = 0.95


def judged(comparison: Comparison, task: str = "") -> Judged:
    """Returns the rows at their best rates and the paired differences of the shared basis, in one task or in all."""
    scores = tuple(score for name in ((task,) if task else comparison.tasks) for score in row_scores(comparison, name))
    pairs: list[tuple[Row, Row]] = [
        (Row.SHARED, row) for row in comparison.rows if row not in (Row.SHARED, Row.DIAGONAL, Row.RANDOM_DIAGONAL)
    ]
    pairs.append((Row.DIAGONAL, Row.RANDOM_DIAGONAL))
    differences = (paired(comparison, row, other, task) for row, other in pairs)
    return Judged(comparison, task, scores, tuple(each for each in differences if each is not None))


def row_scores(comparison: Comparison, task: str) -> tuple[RowScore, ...]:
    """Returns the rows of a task, each at the rate with the best mean validation score over its seeds.

    A rate at which a training diverged, or that lacks a seed that another rate of the row has, is not chosen.
    """
    result = []
    for row in comparison.rows:
        runs = [run for run in comparison.runs if run.row is row and run.task == task]
        chosen = _best(runs)
        if not chosen:
            continue
        tried = sorted({run.rate for run in runs})
        result.append(
            RowScore(
                task,
                row,
                chosen[0].trainables,
                chosen[0].rate,
                tuple(run.seed for run in chosen),
                np.array([run.score for run in chosen]),
                at_edge=len(tried) > 2 and chosen[0].rate in (tried[0], tried[-1]),
            )
        )
    return tuple(result)


def best_rate(runs: Sequence[TrainedRun]) -> float | None:
    """Returns the rate with the best mean validation score among the trainings of one row; None where all diverged."""
    chosen = _best(runs)
    return chosen[0].rate if chosen else None


def paired(comparison: Comparison, row: Row, other: Row, task: str = "") -> PairedDifference | None:
    """Returns the paired difference of two rows in a task, or over all tasks; None where they share no seed.

    Over tasks a pair is a task, its seeds averaged: seeds of one task say nothing about the next task.
    """
    tasks = (task,) if task else comparison.tasks
    by_task = [pair for name in tasks if (pair := _pairs(comparison, row, other, name)).size]
    if not by_task:
        return None
    differences = by_task[0] if len(by_task) == 1 else np.array([float(pair.mean()) for pair in by_task])
    low, high = _interval(differences)
    return PairedDifference(row, other, task or (tasks[0] if len(by_task) == 1 else ""), differences, low, high)


def gradient_share(gradient: Floats, left: Floats, right: Floats) -> float:
    """Returns `|U^T G V|^2 / |G|^2` for orthonormal U (m, k_out), V (p, k_in); 0 for a gradient of zero."""
    norm2 = float(np.square(gradient).sum())
    return float(np.square(left.T @ gradient @ right).sum()) / norm2 if norm2 > 0 else 0.0


def random_shares(gradient: Floats, k: tuple[int, int], *, draws: int, generator: np.random.Generator) -> Floats:
    """Returns the shares (draws,) that random subspaces of the same size hold; their mean is k_out k_in / (m p)."""
    (m, p), shares = gradient.shape, []
    for _ in range(draws):
        left = np.linalg.qr(generator.standard_normal((m, k[0])))[0]
        right = np.linalg.qr(generator.standard_normal((p, k[1])))[0]
        shares.append(gradient_share(gradient, left, right))
    return np.array(shares)


def _best(runs: Sequence[TrainedRun]) -> list[TrainedRun]:
    """The trainings at the best rate, by seed."""
    seeds = {run.seed for run in runs}
    by_rate: dict[float, list[TrainedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_rate.setdefault(run.rate, []).append(run)
    whole = [
        group
        for group in by_rate.values()
        if {run.seed for run in group} == seeds and not any(run.diverged for run in group)
    ]
    return max(whole, key=lambda group: float(np.mean([run.validation for run in group])), default=[])


def _pairs(comparison: Comparison, row: Row, other: Row, task: str) -> Floats:
    scores = {score.row: dict(zip(score.seeds, score.scores, strict=True)) for score in row_scores(comparison, task)}
    if row not in scores or other not in scores:
        return np.zeros(0)
    common = [seed for seed in scores[row] if seed in scores[other]]
    return np.array([scores[row][seed] - scores[other][seed] for seed in common])


def _interval(differences: Floats) -> tuple[float, float]:
    n = differences.size
    if n < 2:
        return float("nan"), float("nan")
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(differences.std(ddof=1)) / np.sqrt(n)
    return float(differences.mean() - half), float(differences.mean() + half)
