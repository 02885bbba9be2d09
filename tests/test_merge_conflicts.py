"""Who may be merged: planted copies, foreign bases, long updates and opposed layers are found, clean sets are not."""

from __future__ import annotations

import numpy as np
import pytest

import uws_core as uws
from tests.block_grams import gram_of as blocked_gram_of
from tests.planted import gram_of
from uws_core.analysis.merge_conflicts import Measured, compatibility, layer_conflicts
from uws_core.errors import NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.merge_preview import SignConflict
from uws_core.nouns.models import LeftOut

D = 4000
RNG = np.random.default_rng(0)
BASE = RNG.normal(size=D)


def grams(updates: Floats, *, base: Floats | None = BASE) -> list[Gram]:
    """Two layers with these updates (s, d), the second turned over so that it is another one."""
    about = np.zeros(D) if base is None else base
    layers = [updates + about, updates[:, ::-1] + about]
    return [gram_of(rows, base=base, name=f"blocks.{place}.q.weight") for place, rows in enumerate(layers)]


def independent(s: int = 6) -> Floats:
    """Updates that share nothing."""
    return 0.1 * np.random.default_rng(1).normal(size=(s, D))


def kinds(updates: Floats, **measured: object) -> list[str]:
    """The kinds of warnings of these updates about one base."""
    return [one.kind for one in compatibility(grams(updates), measured=Measured(**measured)).warnings]


def test_independent_updates_of_one_base_are_fine() -> None:
    found = compatibility(grams(independent()))
    assert found.warnings == ()
    assert not any(layer.collides for layer in found.layers)
    assert found.layers[0].survives == pytest.approx(1 / 6, rel=0.1)


def test_a_near_copy_is_named_and_the_way_out_keeps_one_of_each() -> None:
    updates = independent()
    updates[4] = updates[1] + 1e-4 * updates[0]
    (warning,) = compatibility(grams(updates)).warnings
    assert warning.kind == "copies"
    assert "model-1, model-4 are near copies" in warning.text
    assert warning.members == (0, 1, 2, 3, 5)


def test_models_of_another_base_are_told_from_the_family() -> None:
    updates = independent()
    updates[[2, 5]] += np.random.default_rng(2).normal(size=D) - BASE
    warnings = {one.kind: one for one in compatibility(grams(updates)).warnings}
    assert "model-2, model-5 start from another base" in warnings["base"].text
    assert warnings["base"].members == (0, 1, 3, 4)
    # Adapters are updates: theirs are about zero, so nothing is said of their base here.
    assert "base" not in kinds(updates, low_rank=True)


def test_unrelated_networks_are_told_that_their_mean_is_none() -> None:
    found = compatibility(grams(np.random.default_rng(3).normal(size=(4, D)), base=None))
    assert "No two of these 4 models share a base" in found.warnings[0].text


@pytest.mark.parametrize(("times", "warned"), [(9.0, False), (12.0, True)])
def test_norms_more_than_ten_apart_are_told(times: float, warned: bool) -> None:
    updates = independent()
    updates[3] *= times * np.linalg.norm(updates[0]) / np.linalg.norm(updates[3])
    updates /= np.linalg.norm(updates, axis=1, keepdims=True) / np.where(np.arange(6) == 3, times, 1.0)[:, None]
    found = {one.kind: one for one in compatibility(grams(updates)).warnings}
    assert ("norms" in found) is warned
    if warned:
        assert "model-3 is 12 times as long" in found["norms"].text
        assert found["norms"].members == (0, 1, 2, 4, 5)


def test_a_member_that_is_the_base_only_dilutes() -> None:
    updates = independent()
    updates[0] = 0.0
    found = {one.kind: one for one in compatibility(grams(updates)).warnings}
    assert "model-0 does not differ from the base" in found["unmoved"].text
    assert found["unmoved"].members == (1, 2, 3, 4, 5)


def test_a_member_with_nan_is_named_and_left_out() -> None:
    updates = independent()
    updates[2, 7] = np.nan
    (warning,) = compatibility(grams(updates)).warnings
    assert "model-2 holds NaN" in warning.text
    assert warning.members == (0, 1, 3, 4, 5)
    with pytest.raises(NotEnoughModels, match="at least two"):
        compatibility(grams(updates), members=[1, 2])


def test_only_the_layer_with_opposed_updates_collides() -> None:
    first, second = independent(3), independent(3)
    second[2] = -0.5 * second[0] + second[2]
    every = [
        gram_of(rows + BASE, base=BASE, name=f"blocks.{place}.q.weight") for place, rows in enumerate((first, second))
    ]
    assert [layer.collides for layer in layer_conflicts(every)] == [False, True]
    assert layer_conflicts(every)[1].least_cosine < -0.3
    (warning,) = compatibility(every).warnings
    assert warning.text.startswith("In 1.q, two updates are opposed beyond chance: their cosine is -0.4")


def test_signs_beyond_their_cosine_make_a_layer_collide_only_beyond_chance() -> None:
    every = grams(independent(3))
    zero, names = np.zeros((3, 3)), every[0].labels

    def conflict(excess: float, error: float) -> dict[str, SignConflict]:
        share, reflected = np.full((3, 3), 0.5 + excess), np.full((3, 3), 0.5 - excess)
        return {every[0].layer.name: SignConflict(every[0].layer, names, share, reflected, zero + error, zero + 100)}

    def collides(excess: float, error: float) -> bool:
        return compatibility(every, measured=Measured(signs=conflict(excess, error))).layers[0].collides

    assert collides(0.05, 0.01)
    assert not collides(0.05, 0.03)
    assert not collides(0.005, 0.0001)
    found = compatibility(every, measured=Measured(signs=conflict(0.05, 0.01)))
    assert "5 % more entries than their cosine predicts" in found.warnings[0].text


def test_chance_alone_makes_one_set_in_twenty_collide() -> None:
    rng = np.random.default_rng(5)
    scales = np.exp(rng.normal(size=(40, 1)))
    hits = sum(
        layer_conflicts([blocked_gram_of(scales * rng.normal(size=(5, 40, 30)))])[0].collides for _ in range(200)
    )
    # The level is two-sided and only opposed pairs count: 5 of 200 expected.
    assert hits <= 14


def test_ranks_beyond_the_layer_and_other_shapes_are_told() -> None:
    every = [gram_of(independent(), shape=(40, 100), name="blocks.0.q.weight")]
    ranks = {"blocks.0.q.weight": (8,) * 6}
    found = compatibility(every, measured=Measured(ranks=ranks, low_rank=True)).warnings
    assert "add up to 48 in 0.q, whose rank is at most 40" in found[0].text
    assert compatibility(every, measured=Measured(ranks={"blocks.0.q.weight": (4,) * 6}, low_rank=True)).warnings == ()
    shapes = (LeftOut("embed_tokens.weight", "32000 x 64 in 3 of 4 models; 32001 x 64 in m3"),)
    text = compatibility(every, measured=Measured(left_out=shapes, low_rank=True)).warnings[0].text
    assert "embed_tokens.weight has another shape" in text
    assert "The vocabularies differ" in text


def test_leading_directions_of_built_in_adapters_overlap_beyond_chance() -> None:
    models, members = uws.collect("demo:lora"), [0, 4, 8, 12]
    name = models.layers[0].name
    factors = uws.factors(models, name, kept=4, about="base", members=members)
    (layer,) = layer_conflicts([uws.gram(models, name)], members=members, measured=Measured(directions={name: factors}))
    assert layer.overlap_chance == pytest.approx(4 / 32, abs=0.01)
    assert layer.overlap > 2 * layer.overlap_chance
