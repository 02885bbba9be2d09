"""Every artefact that has misled people is named on a collection made to have it, and not on its control."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.planted import families, gram_of, noise, side_gram_of, spiked
from uws_core.analysis.caveats import unequal_norms
from uws_core.analysis.evidence import evidence
from uws_core.analysis.judging import excess, verdict_of
from uws_core.analysis.over_layers import over_layers
from uws_core.errors import Cancelled, LayerError, NotEnoughModels
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.evidence import Evidence, Finding, Pooled, Verdict
from uws_core.nouns.gram import Axis, Gram
from uws_core.zoo import synthetic
from uws_core.zoo.synthetic import SyntheticCollection

UP = "blocks.0.mlp.up.weight"
TESTED = [claim for claim in CLAIMS if claim not in ("sound", *KIN.values())]


def of(made: SyntheticCollection, layer: str = UP) -> Gram:
    rows = made.layers[layer]
    base = None if made.base is None else made.base[layer]
    return gram_of(rows.reshape(len(rows), -1), shape=rows.shape[1:], name=layer, base=base)


def judged(made: SyntheticCollection, **options: object) -> Evidence:
    return evidence(of(made), **{"draws": 59, **options})  # type: ignore[arg-type]


def says(found: Evidence, verdict: Verdict) -> set[str]:
    return {one.claim for one in found.findings if one.verdict is verdict}


def test_noise_is_chance_in_every_test_and_looks_never_trained() -> None:
    found = judged(synthetic.noise(seed=1), groups=[i % 8 for i in range(40)])
    # Twelve tests at 5 %: one or two alarms are to be expected somewhere, and none that is not weak.
    verdicts = [found[claim].verdict for claim in TESTED]
    assert verdicts.count(Verdict.CHANCE) >= 11
    assert set(verdicts) <= {Verdict.CHANCE, Verdict.WEAK}
    assert "as if never trained" in found["sound"].reason
    assert found["mean"].verdict is Verdict.CHANCE
    assert found["mean"].reason.endswith("there is no shared mean; nothing is shared beyond chance")


def test_planted_directions_are_counted_shared_and_hold_for_unseen_models() -> None:
    rows = spiked(60, 1000, strengths=[900, 800, 700, 600, 500, 400], seed=1)
    found = evidence(gram_of(rows), kept=6, draws=59)
    assert found["components"].value == 6
    assert "0 % (and" in found["unseen"].reason
    assert "6 random directions 0.6 %" in found["unseen"].reason
    expected = {"concentrated", "concentrated-unit", "components", "halves", "unseen", "space"}
    assert expected <= says(found, Verdict.HOLDS)
    assert found["unseen"].value > 0.6
    assert found["halves"].value > 0.7


def test_few_strong_directions_settle_and_are_determined() -> None:
    rows = spiked(240, 400, strengths=[90_000, 80_000], seed=1)
    found = evidence(gram_of(rows), kept=2, draws=19)
    assert found["saturates"].verdict is Verdict.HOLDS
    assert found["saturates"].value < 0.1
    assert found["determined"].verdict is Verdict.HOLDS
    assert found["determined"].value == 2
    assert found.determined is not None
    assert found.determined.k == 2


def test_a_spike_that_theory_can_see_is_seen_and_one_it_cannot_is_not() -> None:
    visible, hidden = judged(synthetic.spike(strength=4.0)), judged(synthetic.spike(strength=0.5))
    assert visible["components"].value == 3
    assert visible["components"].p < 0.05
    assert hidden["components"].value == 0
    assert hidden["concentrated"].verdict is Verdict.CHANCE


def test_unequal_norms_are_named_as_the_cause_and_equal_ones_are_not() -> None:
    found = judged(synthetic.unequal(spread=1.0))
    assert found["concentrated"].verdict is Verdict.CHANCE
    assert "unequal norms alone give this decay" in found["concentrated"].reason
    assert found["concentrated"].value > 0.8
    assert "unequal" not in judged(synthetic.unequal(spread=0.0))["concentrated"].reason


@pytest.mark.parametrize("make", [synthetic.shared_start, synthetic.two_lineages])
def test_ancestry_is_told_from_shared_structure(make: Callable[..., SyntheticCollection]) -> None:
    found = judged(make())
    assert found.grouped_by.startswith("lineage at a cosine of")
    assert {"concentrated", "unseen", "relatives"} <= says(found, Verdict.HOLDS)
    assert found["within"].verdict is Verdict.CHANCE
    assert found["halves"].verdict is Verdict.CHANCE
    for claim in ("unseen-groups", "one-each"):
        assert found[claim].verdict in (Verdict.CHANCE, Verdict.UNKNOWN)
    # The control has no relatives at all.
    assert judged(make(fraction=0.0))["relatives"].verdict in (Verdict.UNKNOWN, Verdict.CHANCE)


def test_growth_that_is_only_slowed_is_weak() -> None:
    found = judged(synthetic.shared_start())
    assert 0.6 < found["saturates"].value < 0.9
    assert found["saturates"].verdict is Verdict.WEAK


def test_noise_about_group_means_is_as_strong_as_the_models_are_about_theirs() -> None:
    """Unequal pairs of equal models: about their own means they are as unequal, which the noise must be too."""
    norms, groups = np.repeat(np.geomspace(1, 8, 10), 2), np.repeat(np.arange(10), 2)
    found = [
        evidence(gram_of(noise(20, 800, seed=seed, norms=norms)), groups=groups.tolist(), draws=39, seed=seed)["within"]
        for seed in range(6)
    ]
    assert abs(np.mean([one.z for one in found])) < 1.5
    assert np.mean([one.verdict is Verdict.CHANCE for one in found]) >= 0.5


def test_structure_beyond_groups_is_told_from_ancestry() -> None:
    groups = np.repeat(np.arange(10), 4)
    shared = spiked(40, 1500, strengths=[3000, 2500, 2000], seed=2)
    parents = noise(10, 1500, seed=3)[groups]
    found = evidence(gram_of(shared + 1.5 * parents), groups=groups.tolist(), kept=3, draws=59)
    assert {"relatives", "within", "unseen-groups", "halves"} <= says(found, Verdict.HOLDS)
    alone = evidence(gram_of(noise(40, 1500, seed=4) + 1.5 * parents), groups=groups.tolist(), kept=3, draws=59)
    assert {"within", "unseen-groups", "halves", "one-each"} <= says(alone, Verdict.CHANCE)
    assert {"relatives", "concentrated"} <= says(alone, Verdict.HOLDS)


def test_a_mean_that_is_all_there_is_is_told_from_one_with_structure_about_it() -> None:
    common = 3 * noise(1, 1500, seed=5)
    only = evidence(gram_of(noise(30, 1500, seed=6) + common), draws=59)
    assert only["mean"].verdict is Verdict.CHANCE
    assert "what is left is no more than noise" in only["mean"].reason
    assert only["mean"].value > 0.8
    # The mean is far beyond chance, and the claim is that there is more.
    assert only["mean"].value > only["mean"].high
    assert (only["mean"].z, only["mean"].p) == (only["concentrated"].z, only["concentrated"].p)
    assert pooled([only] * 6, "mean").verdict is Verdict.CHANCE
    assert pooled([only] * 6, "mean").discoveries == 0
    more = evidence(gram_of(spiked(30, 1500, strengths=[900, 800], seed=7) + common), draws=59)
    assert more["mean"].verdict is Verdict.HOLDS
    assert "what is left concentrates" in more["mean"].reason
    assert more["mean"].p < 0.05
    assert pooled([more] * 6, "mean").discoveries == 6


def test_the_mean_is_about_the_base_where_there_is_one() -> None:
    rows, base = noise(20, 800, seed=8), 5 * noise(1, 800, seed=9)[0]
    found = evidence(gram_of(rows + base, base=base), draws=39)
    assert found["mean"].value == pytest.approx(1 / 20, rel=0.2)
    assert "changes from the base" in found["mean"].reason


def test_reinitialised_and_shuffled_members_are_named_and_controls_are_sound() -> None:
    assert "never trained: model-" in judged(synthetic.reinitialised())["sound"].reason
    assert "reordered" in judged(synthetic.permuted())["sound"].reason
    for control in (synthetic.reinitialised(fraction=0.0), synthetic.permuted(fraction=0.0), synthetic.two_lineages()):
        assert judged(control)["sound"].verdict is Verdict.HOLDS


def test_copies_are_named() -> None:
    rows = noise(12, 500, seed=10)
    rows[7] = rows[3]
    assert "nearly the same: model-3 and model-7" in evidence(gram_of(rows), draws=19)["sound"].reason


@pytest.mark.parametrize(("cosine", "verdict"), [(0.98, Verdict.WEAK), (0.9, Verdict.HOLDS)])
def test_near_copies_are_in_the_collection_twice(cosine: float, verdict: Verdict) -> None:
    # Two snapshots of one run among independent models; relatives at 0.9 are two models.
    rows = noise(13, 2000, seed=5)
    rows[7] = cosine * rows[3] + np.sqrt(1 - cosine**2) * rows[12]
    found = evidence(gram_of(rows[:12]), draws=19)["sound"]
    assert found.verdict is verdict
    assert ("nearly the same: model-3 and model-7 (cosine 0.98" in found.reason) is (cosine == 0.98)


def test_models_scaled_to_one_norm_are_judged_apart_from_strong_ones() -> None:
    rows = noise(30, 1500, seed=11)
    # Opposite, so that the mean stays where it is: else all others would lie on one side of it.
    rows[:2] += np.array([[40.0], [-40.0]]) * noise(1, 1500, seed=12)
    found = evidence(gram_of(rows), draws=59, kept=1)
    assert found["concentrated"].verdict is Verdict.HOLDS
    assert found["concentrated-unit"].value < 0.15 < found["concentrated"].value


def test_same_seed_same_table_and_each_setting_changes_it() -> None:
    gram = gram_of(spiked(16, 300, strengths=[200], seed=13))
    first = evidence(gram, draws=39, seed=5)
    assert first.findings[1].samples.tolist() == evidence(gram, draws=39, seed=5).findings[1].samples.tolist()
    assert first["concentrated"].middle != evidence(gram, draws=39, seed=6)["concentrated"].middle
    assert first["concentrated"].samples.size == 39
    assert evidence(gram, draws=39, kept=1)["concentrated"].value < first["concentrated"].value
    assert evidence(gram, draws=39, share=0.5)["space"].value > first["space"].value
    assert "whole checkpoints" in evidence(gram, draws=39, whole=600)["space"].reason
    assert "whole checkpoints" not in first["space"].reason
    part = evidence(gram, draws=39, members=list(range(12)))
    assert (part.n, first.n) == (12, 16)


def test_layers_summed_are_judged_as_one() -> None:
    made = synthetic.spike(strength=8.0)
    total = of(made) + of(made, "blocks.0.mlp.down.weight")
    assert evidence(total, draws=39)["components"].value == 3


@pytest.mark.parametrize("models", [2, 3, 5])
def test_few_models_cannot_tell(models: int) -> None:
    found = evidence(gram_of(noise(models, 200, seed=14)), draws=19, groups=[0, 0, 1, 1, 2][:models])
    unknown = says(found, Verdict.UNKNOWN)
    assert {"concentrated", "components", "halves", "unseen", "within", "saturates", "determined", "space"} <= unknown
    assert f"{models} models give at most {models - 1} direction" in found["concentrated"].reason


def test_equal_models_cannot_tell() -> None:
    found = evidence(gram_of(np.ones((8, 40))), draws=19)
    assert says(found, Verdict.UNKNOWN) == set(CLAIMS) - set(KIN.values())
    assert "do not differ" in found["sound"].reason


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (["one"] * 12, "no groups are known"),
        (list(range(12)), "no groups are known"),
        ([None] * 12, "no groups are known"),
        ([0] * 6 + [1] * 6, "2 groups: to hold some out"),
    ],
)
def test_groups_that_divide_nothing_cannot_tell(groups: Sequence[object], reason: str) -> None:
    found = evidence(gram_of(noise(12, 300, seed=15)), groups=groups, draws=19)  # type: ignore[arg-type]
    assert found["unseen-groups"].verdict is Verdict.UNKNOWN
    assert reason in found["unseen-groups"].reason


def test_models_without_a_label_are_nobodys_relatives() -> None:
    groups = ["a", "a", "b", "b", None, None]
    assert evidence(gram_of(noise(6, 300, seed=16)), groups=groups, draws=19).groups == 4


def test_bad_input_is_told() -> None:
    gram = gram_of(noise(8, 50, seed=17))
    with pytest.raises(NotEnoughModels, match="One group label for each of 8 models was expected, 3 were given"):
        evidence(gram, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="at least 19 draws; found 18"):
        evidence(gram, draws=18)
    with pytest.raises(LayerError, match="found a Gram on the in axis"):
        evidence(side_gram_of(noise(4, 20, seed=0).reshape(4, 4, 5), axis=Axis.IN))
    with pytest.raises(ValueError, match="No claim is called 'x'"):
        Finding("x", "layer", Verdict.HOLDS, "")


def test_progress_is_told_and_stopping_stops() -> None:
    told: list[float] = []

    def report(fraction: float, message: str) -> None:
        told.append(fraction)
        if len(told) == 5:
            raise Cancelled(message)

    with pytest.raises(Cancelled, match="noise 32 of 39"):
        evidence(gram_of(noise(10, 100, seed=18)), draws=39, report=report)
    assert told == sorted(told)


def test_verdicts_need_both_a_test_and_an_effect() -> None:
    assert [verdict_of(*one) for one in ((0.01, 0.5), (0.01, 0.05), (0.06, 0.5), (float("nan"), 1.0))] == [
        Verdict.HOLDS,
        Verdict.WEAK,
        Verdict.CHANCE,
        Verdict.CHANCE,
    ]
    assert excess(0.6, 0.2, 1.0) == pytest.approx(0.5)
    assert excess(0.2, 0.4, 0.0) == pytest.approx(0.5)
    assert excess(1.0, 1.0, 1.0) == 0


def pooled(layers: Sequence[Evidence], claim: str) -> Pooled:
    return next(one for one in over_layers(layers) if one.claim == claim)


def test_families_without_a_table_get_their_groups_from_the_lineage() -> None:
    found = evidence(gram_of(families([5] * 6, 800, likeness=0.6, seed=24)), draws=39)
    assert found.groups == 6
    assert {"relatives", "concentrated"} <= says(found, Verdict.HOLDS)
    assert not {"within", "unseen-groups", "halves"} & says(found, Verdict.HOLDS)


def test_nearly_equal_norms_are_not_blamed() -> None:
    rows = noise(30, 1500, seed=26, norms=np.linspace(1, 1.1, 30))
    assert unequal_norms(gram_of(rows).about("mean")) == ""
    assert "unequal norms alone" in unequal_norms(
        gram_of(noise(30, 1500, seed=26, norms=np.geomspace(1, 4, 30))).about()
    )


def test_a_profile_of_variances_in_all_models_is_named_and_even_noise_is_not() -> None:
    found = judged(synthetic.profile())
    assert found["concentrated"].p <= 0.05
    assert "if all models have a profile of variances in common, noise gives" in found["concentrated"].reason
    for control in (synthetic.profile(spread=0.0), synthetic.spike(strength=40.0), synthetic.two_lineages()):
        assert "profile" not in judged(control)["concentrated"].reason
