"""The order of models that are steps of one training run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from uws_core.nouns.models import Value

# A label that ends in the number of a step: `run/checkpoint-400`, `global_step25`, `epoch 3`.
_STEP = re.compile(r"(.*(?:checkpoint|step|epoch|iter(?:ation)?)[-_ .=]?)(\d+)(.*)", re.IGNORECASE | re.DOTALL)
_COLUMNS = ("step", "epoch", "checkpoint", "iteration")
# Two models have no path.
_FEWEST = 3


def training_steps(labels: Sequence[str], table: Mapping[str, Sequence[Value]] | None = None) -> tuple[float, ...]:
    """The step of each model; empty where these are not at least three steps of one training run.

    Either the labels differ only in the number behind a word like `checkpoint` or `step`, or a column of that name has
    another number for each model while every other column has one value.
    """
    if len(labels) < _FEWEST:
        return ()
    found = [_STEP.fullmatch(label) for label in labels]
    parts = [match.groups() for match in found if match]
    if len(parts) == len(labels) and len({(before, after) for before, _, after in parts}) == 1:
        return _different([int(step) for _, step, _ in parts])
    columns = {name.casefold(): values for name, values in (table or {}).items()}
    name = next((name for name in _COLUMNS if name in columns), "")
    if not name or any(len(set(values)) > 1 for other, values in columns.items() if other != name):
        return ()
    return _different(columns[name])


def _different(steps: Sequence[Value]) -> tuple[float, ...]:
    numbers = [float(step) for step in steps if isinstance(step, int | float) and not isinstance(step, bool)]
    return tuple(numbers) if len(set(numbers)) == len(steps) else ()
