"""How much of held-out models the others find when all share nothing but their scales: flipped blocks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from uws_core.analysis.cores import on_every_core
from uws_core.analysis.group_angles import grouped
from uws_core.analysis.nulls import flippable
from uws_core.analysis.residuals import Fit, rebuilt
from uws_core.analysis.shared_directions import flipped
from uws_core.analysis.steps import reported
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Axis, Gram, Members
from uws_core.nouns.heldout import HeldOutChance

# Draws of rows and of columns that tell which of the two lets more be found.
_PILOT = 5
MOST_FOLDS = 6


def held_out_chance(
    gram: Gram,
    *,
    groups: Sequence[Hashable],
    kept: Sequence[int],
    members: Members = None,
    about: str = "mean",
    draws: int = 39,
    seed: int = 0,
) -> HeldOutChance | None:
    """Returns what the others' directions find of held-out models when every model's part in every block is flipped.

    None where there is nothing to flip: a side axis, or a layer with fewer than eight blocks. Rows or columns are
    flipped, whichever lets more be found. At most six groups are held out, drawn with `seed`; the others of a group are
    all models outside it, as in `held_out`. Price: `draws * 6` decompositions of s models.

    Raises:
        NotEnoughModels: another number of labels than models, or fewer than two groups among the chosen.
        LayerError: an unknown centre.

    Source: Hong, Sheng and Dobriban 2020 (the null).
    """
    rows = gram.chosen(members)
    folds = list(grouped(gram, groups, rows).values())
    views = flippable(gram, members=members, about=about) if gram.axis is Axis.MODELS else []
    if not views:
        return None
    rng = np.random.default_rng(seed)
    picked = sorted(rng.permutation(len(folds))[:MOST_FOLDS].tolist())
    chosen = [np.flatnonzero(np.isin(rows, folds[place])) for place in picked]
    ks = np.asarray(kept, dtype=np.intp)
    floor = gram.rounding(about, members=members)

    def held(blocks: Floats, count: int) -> tuple[Floats, Floats]:
        """Squared residuals (count, t, q) and distances to the others' mean (count, t) of the held-out models."""
        everyone = np.arange(rows.size)

        def of_draw(draw: Floats) -> list[Fit]:
            return [rebuilt(draw, np.setdiff1d(everyone, fold), fold, ks, about=about, floor=floor) for fold in chosen]

        fits = list(on_every_core(of_draw, flipped(blocks, rng, count), what="draw"))
        return (
            np.array([np.concatenate([fit.residual2 for fit in draw]) for draw in fits]),
            np.array([np.concatenate([fit.start2 for fit in draw]) for draw in fits]),
        )

    with reported(None):
        pilots = [held(blocks, min(_PILOT, draws)) for blocks in views]
    wider = int(np.argmin([residual2.mean() / max(start2.mean(), 1e-300) for residual2, start2 in pilots]))
    residual2, start2 = held(views[wider], draws)
    return HeldOutChance(ks, residual2, start2, seed)
