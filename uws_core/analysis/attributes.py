"""What a column of the models table explains: groups, or the components along which the models differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uws_core.analysis.partitions import Indices, adjusted_rand, codes
from uws_core.nouns.arrays import Floats
from uws_core.nouns.lineage import Explained, ModelMap, Overlap
from uws_core.nouns.models import Value

NAN = float("nan")
# Numbers with more different values than this are taken as a quantity, not as names of groups.
MOST_NAMES = 12


def overlaps(
    groups: Indices, table: Mapping[str, Sequence[Value]], *, draws: int = 999, seed: int = 0
) -> tuple[Overlap, ...]:
    """How well each column explains a grouping (s,), the best first; columns have one value for each grouped model."""
    found = [overlap(groups, column, name=name, draws=draws, seed=seed) for name, column in table.items()]
    return tuple(sorted(found, key=lambda one: (bool(one.reason), -one.agreement)))


def overlap(groups: Indices, column: Sequence[Value], *, name: str, draws: int = 999, seed: int = 0) -> Overlap:
    """How well one column explains a grouping, against the column shuffled among the models.

    Raises:
        ValueError: the column has another length than the grouping.
    """
    if len(column) != len(groups):
        raise ValueError(f"{name}: {len(groups)} models need one value each; found {len(column)}")
    numbers = codes(column)
    values = int(numbers.max(initial=-1)) + 1
    reason = _cannot_group(values, len(groups)) or _one_group(groups)
    if reason:
        return Overlap(name, NAN, NAN, values, reason)
    seen = adjusted_rand(numbers, groups)
    rng = np.random.default_rng(seed)
    hits = sum(adjusted_rand(rng.permutation(numbers), groups) >= seen - 1e-12 for _ in range(draws))
    return Overlap(name, seen, (1 + hits) / (1 + draws), values)


def explained(points: ModelMap, column: Sequence[Value], *, name: str, draws: int = 999, seed: int = 0) -> Explained:
    """The share of each component's variance that lies between the values of a column (ANOVA ratio), against shuffles.

    A column of many different numbers is a quantity: then it is the squared correlation. `chance` is what any column of
    as many values explains on average, `(g - 1) / (s - 1)`. Models without a value are left out.

    Raises:
        ValueError: the column has another length than the map.

    Source: Fisher 1925 (correlation ratio).
    """
    if len(column) != len(points.labels):
        raise ValueError(f"{name}: {len(points.labels)} models need one value each; found {len(column)}")
    known = np.array([value is not None and value == value for value in column], dtype=np.bool_)
    kept = [value for value, there in zip(column, known, strict=True) if there]
    values = len(set(kept))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in kept)
    quantity = numbers and values > MOST_NAMES
    reason = "" if quantity and values > 1 else _cannot_group(values, len(kept))
    if reason:
        nothing = np.full(points.shares.size, NAN)
        return Explained(name, nothing, NAN, nothing, values, reason)
    ratio_of = _ratio_of(np.asarray(kept, dtype=np.float64) if quantity else codes(kept), quantity=quantity)
    heights = points.coordinates[known]
    seen = ratio_of(heights)
    rng = np.random.default_rng(seed)
    hits = sum((ratio_of(heights[rng.permutation(len(heights))]) >= seen - 1e-12).astype(int) for _ in range(draws))
    free = 1 if quantity else values - 1
    return Explained(name, seen, free / (len(kept) - 1), (1 + np.asarray(hits)) / (1 + draws), values)


def _cannot_group(values: int, models: int) -> str:
    if values < 2:
        return "it has one value only, so it divides nothing"
    return "every model has a value of its own, so it names models and groups none" if values == models else ""


def _one_group(groups: Indices) -> str:
    count = int(groups.max(initial=-1)) + 1
    if count == 1:
        return "all models are in one group at this threshold"
    return "every model is alone at this threshold" if count == len(groups) else ""


def _ratio_of(column: Floats | Indices, *, quantity: bool) -> Callable[[Floats], Floats]:
    """The function from coordinates (s, k) to the share of each component that the column explains (k,)."""
    if quantity:
        away = column - column.mean()
        onto = (away / np.linalg.norm(away))[:, None]
    else:
        member = np.eye(int(column.max()) + 1)[column]
        onto = member / np.sqrt(member.sum(axis=0))

    def ratio(heights: Floats) -> Floats:
        centred = heights - heights.mean(axis=0)
        total = np.sum(centred**2, axis=0)
        between = np.sum((onto.T @ centred) ** 2, axis=0)
        return np.asarray(np.divide(between, total, out=np.zeros_like(total), where=total > 0))

    return ratio
