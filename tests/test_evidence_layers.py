"""Each claim over many layers: corrected together, with few draws and many, and no louder on noise than asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.planted import gram_of, noise, spiked
from uws_core.analysis.evidence import evidence
from uws_core.analysis.over_layers import corrected_p, over_layers
from uws_core.nouns.evidence import Evidence, Finding, Pooled, Verdict
from uws_core.zoo import synthetic


def pooled(layers: Sequence[Evidence], claim: str) -> Pooled:
    return next(one for one in over_layers(layers) if one.claim == claim)


def test_tests_of_layers_are_corrected_together() -> None:
    chance = [evidence(gram_of(noise(10, 200, seed=seed)), draws=19, seed=seed) for seed in range(6)]
    real = evidence(gram_of(spiked(10, 200, strengths=[900], seed=1)), draws=199)
    some = pooled([real, *chance], "concentrated")
    assert (some.verdict, some.discoveries, some.tested, some.layers) == (Verdict.WEAK, 1, 7, 7)
    assert pooled([real, real], "concentrated").verdict is Verdict.HOLDS
    assert pooled(chance, "relatives").verdict is Verdict.UNKNOWN
    assert pooled(chance, "concentrated").verdict is Verdict.CHANCE
    assert over_layers([]) == ()
    assert "within-kin" not in {one.claim for one in over_layers(chance)}


def test_few_draws_do_not_hide_what_is_far_beyond_all_of_them() -> None:
    """With 19 draws p is never below 0.05, and a correction over layers would pass only if all of them were there."""
    rows = [spiked(10, 200, strengths=[900], seed=seed) for seed in range(10)]
    strong = [evidence(gram_of(one), draws=19, seed=seed) for seed, one in enumerate(rows)]
    silent = [evidence(gram_of(noise(10, 200, seed=seed)), draws=19, seed=seed) for seed in range(5)]
    assert {one["concentrated"].p for one in strong} == {0.05}
    found = pooled([*strong, *silent], "concentrated")
    assert found.verdict is Verdict.HOLDS
    assert 10 <= found.discoveries <= 11
    assert found.z > 5
    assert pooled([strong[0], *silent], "concentrated").verdict is Verdict.WEAK


def test_a_p_at_its_floor_follows_z_and_any_other_is_left_alone() -> None:
    def one(z: float, p: float, verdict: Verdict = Verdict.HOLDS) -> Finding:
        return Finding("halves", "layer", verdict, "", z=z, p=p, effect=1.0, draws=19)

    assert corrected_p(one(40.0, 0.05)) < 1e-6
    assert corrected_p(one(2.0, 0.05)) == pytest.approx(0.05)
    assert corrected_p(one(40.0, 0.1, Verdict.CHANCE)) == 0.1
    assert corrected_p(one(float("inf"), 0.05)) == 0.05
    # Chance by its number, whatever p says.
    assert corrected_p(one(40.0, 0.05, Verdict.CHANCE)) == 1


def test_draws_that_do_not_vary_cannot_be_corrected_and_that_is_said() -> None:
    stuck = Finding("halves", "l", Verdict.HOLDS, "", value=1.0, z=float("inf"), p=0.05, effect=1.0, draws=19)
    silent = Finding("halves", "l", Verdict.CHANCE, "", value=0.0, z=0.0, p=0.5, effect=0.0, draws=19)
    layers = [Evidence("l", (one,), 9, 0, "", 2, 0.9, 19, 0) for one in (*[stuck] * 6, silent)]
    found = pooled(layers, "halves")
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason.startswith("too few draws to survive the correction of 7 layers")
    assert pooled([*layers[:1], *[layers[-1]] * 6], "halves").verdict is Verdict.CHANCE


def test_the_reason_is_one_of_those_with_the_verdict() -> None:
    def odd(i: int) -> Evidence:
        made = synthetic.reinitialised(seed=i)
        rows = made.layers["blocks.0.mlp.up.weight"]
        return evidence(gram_of(rows.reshape(len(rows), -1)), draws=19)

    sound = evidence(gram_of(synthetic.two_lineages().layers["blocks.0.mlp.up.weight"].reshape(40, -1)), draws=19)
    found = pooled([sound, sound, odd(0), odd(1), odd(2)], "sound")
    assert sound["sound"].verdict is Verdict.HOLDS
    assert found.verdict is not Verdict.HOLDS
    assert "nothing odd" not in found.reason
    assert found.reason.endswith("(in 3 of 5 layers)")


def test_what_is_not_determined_and_what_saves_nothing_is_chance_whatever_p_says() -> None:
    # Two directions of nearly the same strength, beyond noise, and no gap that halves agree on.
    found = evidence(gram_of(spiked(12, 2000, strengths=[600, 550, 500, 450], seed=3)), draws=39)
    known = found["determined"]
    assert known.p < 0.05
    assert known.value == 0
    assert known.verdict is Verdict.CHANCE
    assert known.reason.startswith("not determined")
    assert pooled([found] * 4, "determined").verdict is Verdict.CHANCE
    space = evidence(gram_of(spiked(12, 20, strengths=[2.0], seed=7)), draws=39, share=0.99)["space"]
    assert space.value <= 1
    assert space.verdict is Verdict.CHANCE
    assert space.reason.startswith("sharing saves nothing")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("draws", [19, 39])
def test_noise_over_twenty_layers_passes_no_oftener_than_asked_for(draws: int) -> None:
    """Layers that pass at a false discovery rate of 5 % on noise alone: in at most one network in twenty, or so."""
    networks, layers, alarms = 20, 20, {}
    for network in range(networks):
        seeds = range(20_000 + network * layers, 20_000 + (network + 1) * layers)
        found = [evidence(gram_of(noise(16, 400, seed=seed)), draws=draws, seed=seed) for seed in seeds]
        for one in over_layers(found):
            if one.tested:
                alarms.setdefault(one.claim, []).append(one.discoveries > 0)
    rates = {claim: float(np.mean(one)) for claim, one in alarms.items()}
    # Ten claims that are not independent: at 5 %, all of them together alarm 10 times in 200, and 3 in 20 is rare.
    assert np.mean(list(rates.values())) <= 0.06, rates
    assert max(rates.values()) <= 0.15, rates
