"""The one count of shared directions: planted truths, profiles that share nothing, and the two nulls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma

from tests.block_grams import gram_of
from tests.nothing_shared import KINDS, M, N, P
from uws_core.analysis import shared_directions as counting
from uws_core.analysis.nulls import null_band
from uws_core.analysis.shared_directions import shared_directions
from uws_core.errors import LayerError
from uws_core.nouns.gram import Gram


def planted(seed: int, strength: float, *, norms: np.ndarray | None = None, profile: bool = False) -> np.ndarray:
    """Noise with one shared direction of `strength` times the detection limit (1 + sqrt(n/d) in noise units)."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((N, M, P))
    direction = rng.standard_normal((M, P))
    direction /= np.linalg.norm(direction)
    coordinates = rng.standard_normal(N)
    coordinates *= np.sqrt(strength * np.sqrt(N * M * P)) / np.linalg.norm(coordinates)
    weights += coordinates[:, None, None] * direction
    if profile:
        weights *= np.exp(0.5 * rng.standard_normal((1, M, 1)))
    return weights if norms is None else weights * norms[:, None, None]


def strong_first(size: float) -> np.ndarray:
    norms = np.ones(N)
    norms[0] = size
    return norms


@pytest.mark.parametrize("kind", ["profile", "strength"])
def test_a_direction_behind_a_five_times_stronger_model_is_counted_once(kind: str):
    counts = [
        shared_directions(gram_of(planted(seed, 10, norms=strong_first(5))), kind=kind, seed=seed).count
        for seed in range(6)
    ]
    assert sorted(counts)[1:] in ([1] * 5, [1] * 4 + [2])


def test_a_profile_without_sharing_is_counted_as_none():
    gram = gram_of(KINDS["row scales e^1 shared"](np.random.default_rng(1)))
    assert shared_directions(gram, kind="strength").count > 1
    profile = shared_directions(gram)
    assert profile.count == 0
    assert profile.kind == "profile"
    assert profile.p[0] > 0.05


def test_one_direction_on_top_of_a_profile_is_counted_once():
    counts = [shared_directions(gram_of(planted(seed, 20, profile=True)), seed=seed).count for seed in range(6)]
    assert counts.count(1) >= 5


def test_the_models_that_carry_a_direction_are_named():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((N, M, P))
    weights[3:6] += 12 * np.linalg.qr(rng.standard_normal((M, P)))[0] / np.sqrt(P) * np.sqrt(P)
    result = shared_directions(gram_of(weights))
    assert result.count == 1
    assert set(result.carriers(0)) == {3, 4, 5}
    np.testing.assert_allclose(np.square(result.loadings).sum(axis=1), 1)


def test_norms_do_not_change_the_count():
    weights = planted(3, 8)
    scaled = weights * np.exp(np.random.default_rng(0).standard_normal(N))[:, None, None]
    plain, uneven = (shared_directions(gram_of(each)) for each in (weights, scaled))
    assert plain.count == uneven.count == 1
    assert uneven.noise.max() / uneven.noise.min() > 5


def test_no_p_is_below_what_the_draws_allow_and_the_tail_goes_on():
    result = shared_directions(gram_of(planted(0, 40)), draws=99)
    assert result.p[0] >= 1 / 100
    assert result.tail[0] < 1e-6
    assert result.z[0] > 10


def test_the_count_is_the_weaker_of_rows_and_columns():
    # Inputs that are correlated alike agree between rows of no model, but between columns of all.
    gram = gram_of(KINDS["inputs correlated (1/k), shared"](np.random.default_rng(0)))
    assert shared_directions(gram).count == 0
    assert shared_directions(gram).view == "rows"


def test_what_flipped_blocks_do_not_cover_is_named_and_equal_noise_alone_too():
    for seed in range(3):
        one_sign = shared_directions(gram_of(KINDS["positive, own means"](np.random.default_rng(seed))))
        assert one_sign.count >= 1
        assert "one sign" in one_sign.doubt
    scales = shared_directions(gram_of(KINDS["row scales e^1 shared"](np.random.default_rng(0))))
    assert (scales.count, scales.beyond_equal_noise, scales.doubt) == (0, True, "")
    plain = shared_directions(gram_of(KINDS["iid normal"](np.random.default_rng(1))))
    assert (plain.count, plain.beyond_equal_noise, plain.doubt) == (0, False, "")
    assert shared_directions(gram_of(planted(0, 20))).doubt == ""


def test_a_direction_behind_a_strong_model_is_marked_where_it_stands():
    band = null_band(gram_of(planted(0, 10, norms=strong_first(5))))
    assert band.places == (1,)
    assert band.beyond.nonzero()[0].tolist() == [1]
    assert null_band(gram_of(planted(0, 10))).places == (0,)


def test_about_the_base_a_common_shift_counts():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((N, M, P)) + 3 * rng.standard_normal((M, P)) / np.sqrt(48)
    gram = gram_of(weights)
    assert shared_directions(gram).count == 0
    assert shared_directions(gram, about="zero").count == 1


def test_members_and_order_do_not_matter():
    weights = planted(5, 15)
    few = shared_directions(gram_of(weights), members=range(12))
    alone = shared_directions(gram_of(weights[:12]))
    assert few.count == alone.count
    backwards = shared_directions(gram_of(weights[::-1].copy()))
    assert backwards.count == shared_directions(gram_of(weights)).count == 1


def test_too_few_models_give_a_reason_instead_of_a_count():
    result = shared_directions(gram_of(planted(0, 40)[:4]))
    assert not result.known
    assert "at least 5" in result.reason


def test_identical_models_give_a_reason_instead_of_a_crash():
    result = shared_directions(gram_of(np.ones((N, M, P))))
    assert not result.known


def test_a_gram_without_blocks_falls_back_to_the_strength_null():
    gram = gram_of(planted(0, 10))
    bare = Gram(**{name: getattr(gram, name) for name in gram.__dataclass_fields__} | {"blocks": None})
    assert shared_directions(bare).kind == null_band(bare).kind == "strength"
    assert null_band(gram).kind == "profile"


def test_the_band_carries_the_same_count():
    gram = gram_of(planted(0, 10, norms=strong_first(5)))
    for unit in (False, True):
        band = null_band(gram, unit=unit, seed=3)
        assert band.above == shared_directions(gram, seed=3).count == 1


def test_the_profile_band_holds_where_the_strength_band_alarms():
    gram = gram_of(KINDS["row scales e^1 shared"](np.random.default_rng(4)))
    assert null_band(gram, kind="strength").p[0] < 0.01
    assert null_band(gram).p[0] > 0.05


def test_block_grams_about_a_centre_are_those_of_the_arrays():
    weights = planted(2, 3)[:6]
    gram = gram_of(weights)
    assert gram.blocks is not None
    centres = {"mean": weights[1:5].mean(axis=0), "zero": np.zeros((M, P)), "m2": weights[2]}
    for name, centre in centres.items():
        away = weights[1:5] - centre
        expected = np.einsum("ibp,jbp->bij", away, away)
        turned = gram.combinations(name, members=range(1, 5))
        np.testing.assert_allclose(gram.blocks.about(turned), expected, atol=1e-9)
        np.testing.assert_allclose(
            gram.blocks.about(turned).sum(axis=0), gram.about(name, members=range(1, 5)), atol=1e-9
        )


def test_unknown_centres_and_missing_blocks_are_said():
    gram = gram_of(planted(0, 1)[:6])
    with pytest.raises(LayerError, match="no model is called"):
        gram.combinations("nobody")


def test_flips_keep_every_norm_and_destroy_agreement():
    gram = gram_of(planted(0, 40))
    assert gram.blocks is not None
    blocks = gram.blocks.about(gram.combinations("mean"))
    draws = counting.flipped(blocks, np.random.default_rng(0), 400)
    np.testing.assert_allclose(np.einsum("dii->di", draws), np.tile(np.diag(gram.values), (400, 1)), rtol=1e-9)
    apart = ~np.eye(N, dtype=bool)
    spread = np.sqrt((np.square(blocks)).sum(axis=0))
    assert np.abs(draws.mean(axis=0)[apart] / spread[apart]).max() < 5 / np.sqrt(400)


def test_lanczos_finds_numpys_largest_eigenvalue():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((5, 120, 600))
    matrices = noise @ noise.transpose(0, 2, 1)
    np.testing.assert_allclose(counting.largest_eigenvalues(matrices), np.linalg.eigvalsh(matrices)[:, -1], rtol=2e-3)


def test_noise_strengths_are_recovered_from_unequal_models():
    rng = np.random.default_rng(0)
    truth = np.exp(0.7 * rng.standard_normal(N))
    weights = rng.standard_normal((N, 20000)) * truth[:, None] + 7
    away = weights - weights.mean(axis=0)
    found = np.sqrt(counting.noise_strengths(away @ away.T) / 20000)
    np.testing.assert_allclose(found, truth, rtol=0.05)


def test_the_fitted_tail_is_the_shifted_gamma_law():
    samples = np.array([-1.0, 0.0, 1.0])
    assert counting.tail_p(0.0, samples) == pytest.approx(gamma.sf(-1.2065 + 9.84801, 46.446, scale=0.186054))
    assert counting.tail_p(30.0, samples) < 1e-12


def alarm(kind: str, repetitions: int, *, null: str) -> float:
    rng = np.random.default_rng(7)
    counts = [shared_directions(gram_of(KINDS[kind](rng)), kind=null, seed=seed).count for seed in range(repetitions)]
    return float(np.mean(np.array(counts) > 0))


@pytest.mark.parametrize(
    "kind", ["iid normal", "row scales e^.5 shared", "embedding: Zipf row strengths", "mask 90 % shared"]
)
def test_profiles_do_not_alarm(kind: str):
    assert alarm(kind, 12, null="profile") <= 0.25


def test_the_strength_null_alarms_on_profiles():
    assert alarm("row scales e^.5 shared", 6, null="strength") == 1
