"""The best scale of each merge: chosen on one part of the data, judged on the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from uws_core.nouns.merge_preview import BestScale, MergeScore

OWN, BASE = "own", "base"


def best_scales(points: Sequence[MergeScore]) -> tuple[BestScale, ...]:
    """Every method at its best scale, best kept score first; the base among them, at scale 0.

    Members without a finite own score take no part. Of equally good scales the one nearest to 1 is taken.
    """
    own = {point.model: point for point in points if point.method == OWN and min(point.choose, point.judge) > 0}
    table: dict[str, dict[float, list[MergeScore]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if point.method != OWN and point.model in own:
            table[point.method][point.scale].append(point)
    found = []
    for method, by_scale in table.items():
        whole = {scale: rows for scale, rows in by_scale.items() if len(rows) == len(own)}
        if not whole:
            continue
        # Rounded, so that the nearest to 1 of equal ones is no matter of the last bit.
        chosen = {
            scale: round(float(np.mean([kept(row.choose, own[row.model].choose) for row in rows])), 9)
            for scale, rows in whole.items()
        }
        scale = max(chosen, key=lambda one: (chosen[one], -abs(one - 1)))
        judged = [(kept(row.judge, own[row.model].judge), row.model) for row in whole[scale]]
        worst = min(judged)
        found.append(BestScale(method, scale, float(np.mean([value for value, _ in judged])), *worst))
    return tuple(sorted(found, key=lambda one: -one.kept))


def kept(score: float, own: float) -> float:
    """The share of a member's own score that is left, clipped to 0 to 1; 0 for a score that is NaN."""
    return float(np.clip(score / own, 0.0, 1.0)) if np.isfinite(score) and own > 0 else 0.0
