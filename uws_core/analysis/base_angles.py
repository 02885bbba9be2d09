"""Whether models move along the directions their base is strongest in: each one's own directions against the base's.

Source: Hu et al. 2021 (arXiv 2106.09685), section 7.3; Shuttleworth et al. 2024 (arXiv 2410.21228).
"""

from __future__ import annotations

from collections.abc import Sequence

from uws_core.analysis.angles import level_of, pair_angles
from uws_core.errors import LayerError
from uws_core.nouns.angles import BASE, Angles, ChanceLevel, Factors, Side


def base_angles(factors: Factors, *, side: Side | str, kept: int) -> tuple[Angles, ...]:
    """The angles between each model's `kept` leading directions and those of the base, in the models' order.

    `factors` are those of a pass `with_base`. A model of lower rank brings the directions it has; one without any has
    no angles.

    Raises:
        LayerError: the factors hold no base.
    """
    n = factors.n - 1
    if n < 0 or factors.labels[-1] != BASE:
        raise LayerError(f"{factors.layer.name}: these factors hold no base; ask for them with_base=True")
    return tuple(pair_angles(factors, row, n, side=side, kept=kept) for row in range(n))


def base_levels(angles: Sequence[Angles]) -> tuple[ChanceLevel, ...]:
    """What random directions of the same numbers show, model by model; NaN for one without an angle."""
    dimensions = {one.cosines.shape: one.dimension for one in angles if one.k}
    known = {(k, other): level_of(k, other, dimension) for (k, other), dimension in dimensions.items()}
    return tuple(known.get(one.cosines.shape, ChanceLevel(*[float("nan")] * 5)) for one in angles)
