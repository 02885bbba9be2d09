"""Held-out models of one profile that share nothing: chance holds them, and a planted direction stands beyond it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.block_grams import gram_of
from tests.nothing_shared import KINDS, N
from tests.test_shared_directions import planted
from uws_core.analysis.heldout import held_out
from uws_core.analysis.heldout_chance import held_out_chance
from uws_core.answers.reconstruction import PROFILE_ONLY, answer
from uws_core.frames import reconstruction as frames
from uws_core.nouns.gram import Gram
from uws_core.nouns.heldout import HeldOutChance

KEPT = (0, 1, 2, 4)
GROUPS = [i % 6 for i in range(N)]


def chance_of(gram: Gram, *, seed: int = 0) -> HeldOutChance:
    chance = held_out_chance(gram, groups=GROUPS, kept=KEPT, seed=seed)
    assert chance is not None
    return chance


def found(gram: Gram, place: int) -> float:
    """The median share of the distance to the others' mean that the others' directions find."""
    items = held_out(gram, groups=GROUPS, kept=KEPT)
    return float(np.median([1 - one.subspace2[place] / one.mean2 for one in items]))


@pytest.mark.parametrize("kind", ["iid normal", "row scales e^1 shared", "embedding: Zipf row strengths"])
def test_models_that_share_nothing_lie_inside(kind: str) -> None:
    rng, beyond = np.random.default_rng(11), 0
    for seed in range(12):
        gram = gram_of(KINDS[kind](rng))
        beyond += found(gram, 2) > np.quantile(chance_of(gram, seed=seed).captured[:, 2], 0.975)
    # 12 collections at 2.5 % exceed it at most twice (99.7 %).
    assert beyond <= 2


def test_a_profile_alone_is_called_scales_and_a_planted_direction_is_not() -> None:
    scales = gram_of(KINDS["embedding: Zipf row strengths"](np.random.default_rng(3)))
    said = answer(held_out(scales, groups=GROUPS, kept=KEPT), k=2, location="`0.q`", chance=chance_of(scales))
    assert said.startswith(f"{PROFILE_ONLY} in `0.q`: ")
    assert "% of an unseen model beyond the mean, noise of the same profile" in said
    shared = gram_of(planted(0, 60, profile=True))
    items, chance = held_out(shared, groups=GROUPS, kept=KEPT), chance_of(shared)
    said = answer(items, k=2, location="`0.q`", by="task", chance=chance)
    assert said.startswith("The subspace helps a little in `0.q`: 2 shared directions rebuild ")


def test_no_direction_finds_nothing_and_layers_add() -> None:
    chance = chance_of(gram_of(planted(0, 10)))
    np.testing.assert_allclose(chance.captured[:, 0], 0, atol=1e-12)
    assert (np.diff(chance.captured, axis=1) >= -1e-12).all()
    both = chance + chance
    np.testing.assert_allclose(both.captured, chance.captured)
    with pytest.raises(ValueError, match="same models add"):
        _ = chance + HeldOutChance(chance.kept, chance.residual2[:5], chance.start2[:5], 0)


def test_where_nothing_can_be_flipped_there_is_none() -> None:
    weights = KINDS["iid normal"](np.random.default_rng(0))
    assert held_out_chance(gram_of(weights, most=4), groups=GROUPS, kept=KEPT) is None


def test_the_curve_has_the_line_with_the_range_of_its_draws() -> None:
    gram = gram_of(planted(0, 10))
    items, chance = held_out(gram, groups=GROUPS, kept=KEPT), chance_of(gram)
    line = frames.curve(items, chance).filter(line="profile")
    assert line["k"].to_list() == list(KEPT)
    mean_only = float(np.median([one.mean_only for one in items]))
    np.testing.assert_allclose(line["middle"], mean_only * np.median(1 - chance.captured, axis=0))
    assert (line["low"] <= line["high"]).all()
    assert "profile" not in set(frames.curve(items)["line"])
