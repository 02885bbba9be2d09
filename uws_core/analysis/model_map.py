"""Models as points along their leading components, and who is next to whom."""

from __future__ import annotations

import numpy as np

from uws_core.analysis.spectrum import inner_products
from uws_core.analysis.subspace import leading
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram, Members
from uws_core.nouns.lineage import Lineage, ModelMap


def model_map(
    gram: Gram, *, kept: int = 4, members: Members = None, about: str = "mean", unit: bool = False
) -> ModelMap:
    """The chosen models' coordinates along the `kept` leading components about a centre; fewer where there are fewer.

    `unit` scales each centred model to norm 1 first, so that no strong model takes a component for itself.

    Raises:
        NotEnoughModels: fewer than two usable models.
        LayerError: an unknown centre.

    Source: classical scaling, Gower 1966.
    """
    rows = gram.chosen(members)
    inner, labels = inner_products(gram, members=rows, about=about)
    total = float(np.trace(inner))
    if unit:
        squares = np.diag(inner)
        alive = squares > gram.floor
        scale = np.where(alive, 1 / np.sqrt(np.where(alive, squares, 1.0)), 0.0)
        inner, total = inner * np.outer(scale, scale), float(alive.sum())
    values, vectors, _ = leading(inner, kept=kept, floor=0.0 if unit else gram.floor)
    return ModelMap(
        labels=labels,
        members=rows,
        coordinates=vectors * np.sqrt(values),
        shares=values / total if total > 0 else values,
    )


def neighbours(family: Lineage, model: str, *, count: int = 5) -> tuple[tuple[str, float], ...]:
    """The models most like one of a lineage, with their cosines, nearest first; none where it has no direction.

    Raises:
        ValueError: no model of the lineage bears that name.
    """
    if model not in family.labels:
        raise ValueError(f"No model of this lineage is called {model!r}; choose one of the {family.s} there are")
    place = family.labels.index(model)
    row: Floats = np.delete(family.cosines[place], place)
    names = [label for label in family.labels if label != model]
    order = [int(i) for i in np.argsort(-row, kind="stable") if not np.isnan(row[i])]
    return tuple((names[i], float(row[i])) for i in order[:count])
