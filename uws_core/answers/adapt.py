"""The answers of coefficient training: before it from one gradient, after it from paired scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.answers.wording import share_text
from uws_core.nouns.adapting import GradientShare, Judged, Row, pooled

# Of layers without anything shared 5 % lie above the 95 % line by chance; a third is far from that.
_CLEARLY = 1 / 3
# Less than this times what the better of both rivals holds is no reason to train another way.
_MORE = 1.5


def answer(judged: Judged) -> str:
    """Returns the verdict in one sentence: the shared basis against a random one of the same size."""
    comparison, where = judged.comparison, _where(judged)
    if not comparison.runs:
        return "Nothing has been trained yet."
    difference = judged.difference(Row.SHARED, Row.RANDOM)
    if difference is None:
        if {Row.SHARED, Row.RANDOM} <= set(comparison.rows) and comparison.complete:
            return f"One cannot tell{where}: no seed has a score of both the shared and the random basis."
        if not comparison.complete:
            return f"One cannot tell yet{where}: the shared and the random basis are still to be trained."
        return f"One cannot tell{where}: there is no random basis beside the shared one."
    shared, random = (judged.mean(row) for row in (Row.SHARED, Row.RANDOM))
    against = f"{_score(shared)} against {_score(random)}"
    if not np.isfinite(difference.low):
        return f"One cannot tell{where}: {against} of a random basis is a single pair; train more seeds."
    count = difference.differences.size
    pairs = f"over {count} {'tasks' if not difference.task else 'seeds'}"
    verdict = {"better": "better", "worse": "worse"}.get(difference.verdict, "no better")
    begins = verdict.capitalize() if comparison.complete else f"So far {verdict}"
    return f"{begins} than a random basis{where}: the shared basis scores {against}, {pairs}."


def before(shares: Sequence[GradientShare], task: str) -> str:
    """Returns whether one batch's gradient gives a reason to share, before anything is trained."""
    if not shares:
        return f"One cannot tell on `{task}`: no gradient was taken."
    shared, base, chance = pooled(shares)
    above = sum(share.shared > share.chance_high for share in shares)
    numbers = (
        f"the shared subspace holds {share_text(shared)} of the gradient, a random one {share_text(chance)}, the "
        f"base's own {share_text(base)}"
    )
    if above >= _CLEARLY * len(shares):
        worth = "Worth a try" if shared >= _MORE * max(base, chance) else "Hardly worth a try"
        return f"{worth} on `{task}`: {numbers}."
    return f"No reason to share on `{task}`: {numbers}."


def _where(judged: Judged) -> str:
    tasks = judged.comparison.tasks
    if judged.task or len(tasks) == 1:
        return f" on `{judged.task or tasks[0]}`"
    return " on these tasks"


def _score(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
