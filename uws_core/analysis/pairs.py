"""Two models side by side, layer by layer: cosine, size of the difference, and its effective rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from uws_core.errors import LayerError
from uws_core.nouns.angles import Factors
from uws_core.nouns.chance import effective_rank
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.lineage import PairLayer


def pair_layers(
    grams: Sequence[Gram],
    left: int,
    right: int,
    *,
    differences: Mapping[str, Factors] | None = None,
    changed: Mapping[str, float] | None = None,
) -> tuple[PairLayer, ...]:
    """Every layer of the models with these indices, in the order of the Grams; no weight is read.

    `differences` holds factors of the difference by layer name: those of one model about the other, as
    `factors(collection, layer, members=[left], about=label)` gives them. Without them ranks are NaN. `changed` holds
    the share of changed entries by layer name, as `passes.changed.changed_share` counts it.
    `|W_l - W_r|^2 = u' G u` with `u = e_l - e_r`, which loses nothing to the common part of both.

    Raises:
        LayerError: a Gram of another axis, or an index that it does not have.
    """
    items = (_pair(gram, left, right, (differences or {}).get(gram.layer.name)) for gram in grams)
    return tuple(replace(item, changed=(changed or {}).get(item.layer.name, float("nan"))) for item in items)


def only_differing(items: Sequence[PairLayer]) -> tuple[PairLayer, ...]:
    """The layers in which the two models differ by more than rounding, the largest difference first."""
    return tuple(sorted((item for item in items if item.differs), key=lambda item: -item.difference))


def rank_of_difference(difference: Factors) -> tuple[float, bool]:
    """The effective rank of one difference, and True where it is a lower bound.

    Where only the leading singular values are known, the remaining energy counts as one more direction, which no
    distribution of it over several directions can undercut. NaN for no difference.

    Source: Roy and Vetterli 2007.
    """
    energy = float(difference.norm2[0])
    if not difference.usable[0] or energy <= 0:
        return float("nan"), False
    shares = np.square(difference.singular[0]) / energy
    tail = max(0.0, 1.0 - float(shares.sum()))
    censored = not difference.complete and tail > difference.floor
    if censored:
        shares = np.append(shares, tail)
    return float(effective_rank(shares / shares.sum())), censored


def _pair(gram: Gram, left: int, right: int, difference: Factors | None) -> PairLayer:
    if gram.axis is not Axis.MODELS:
        raise LayerError(f"{gram.layer.name}: two models are compared on the models axis; found {gram.axis}")
    if not (0 <= left < gram.n and 0 <= right < gram.n):
        raise LayerError(f"{gram.layer.name}: models {left} and {right} of {gram.n} do not exist")
    if not (gram.usable[left] and gram.usable[right]):
        return PairLayer(gram.layer, float("nan"), float("nan"), differs=True)
    values = gram.values
    distance2 = max(float(values[left, left] + values[right, right] - 2 * values[left, right]), 0.0)
    raw = gram.about("zero", members=[left, right])
    norms = np.sqrt(np.maximum(np.diag(raw), 0.0))
    mean = float(norms.mean())
    differs = distance2 > float(np.sum(np.square(gram.blur[[left, right]])))
    rank, at_least = rank_of_difference(difference) if difference is not None and differs else (float("nan"), False)
    return PairLayer(
        layer=gram.layer,
        cosine=float(gram.cosines(members=[left, right])[0, 1]),
        difference=np.sqrt(distance2) / mean if mean > 0 else float("nan"),
        differs=differs,
        effective_rank=rank,
        at_least=at_least,
    )
