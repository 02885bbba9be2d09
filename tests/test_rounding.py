"""Where rounding hides what distinguishes models: said so, never counted; and double precision is the way out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.planted import gram_of, noise
from tests.test_gram import written
from uws_core.analysis.evidence import evidence
from uws_core.analysis.heldout import held_out
from uws_core.analysis.lineage import lineage
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import pooled, spectrum
from uws_core.answers.spectrum import answer
from uws_core.errors import NotEnoughModels
from uws_core.frames import spectrum as frames
from uws_core.nouns.evidence import Verdict
from uws_core.nouns.gram import Gram
from uws_core.nouns.spectrum import LayerSpectrum, Spectrum
from uws_core.passes.gram import gram

N, SHAPE = 20, (40, 100)
NEAR = list(range(N))


def seen(found: Gram, members: list[int] | None = None, *, unit: bool = False) -> LayerSpectrum:
    one = spectrum(found, members=members, unit=unit)
    return LayerSpectrum(found.layer, one, null_band(found, members=members, unit=unit) if one.total > 0 else None)


def beside_an_outlier(folder: Path, *, apart: float = 1e-4) -> dict[str, Gram]:
    """Noise of `apart` times the norm about one common model, and after it an unrelated one, in both precisions."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    common = rng.standard_normal(SHAPE)
    arrays = [(common + apart * rng.standard_normal(SHAPE)).astype(np.float32) for _ in NEAR]
    models = written(folder, [*arrays, rng.standard_normal(SHAPE).astype(np.float32)], torch.float32)
    return {kind: gram(models, models.layers[0], precision=kind) for kind in ("single", "double")}


def test_a_subset_beside_an_outlier_cannot_be_told_in_single_and_is_noise_in_double(tmp_path: Path) -> None:
    both = beside_an_outlier(tmp_path)
    single, double = (seen(both[kind], NEAR) for kind in ("single", "double"))
    assert single.spectrum.resolved == 0
    assert single.spectrum.rank_for(0.9).censored
    assert answer([single]) == (
        "One cannot tell: in `0.w`, what distinguishes these models is below the rounding of single precision. "
        "Compute it in double precision."
    )
    assert single.band is not None
    assert np.isnan([single.band.concentration(0.9).z, single.band.concentration(0.9).p]).all()
    assert np.isnan(single.band.z).all()
    assert single.band.above == 0
    assert double.spectrum.resolved == double.spectrum.ceiling == N - 1
    expected = r"No more than chance: in `0\.w`, 17 directions carry 90 % of .*; noise .* needs 17"
    assert re.match(expected, answer([double]))


def test_the_outlier_itself_and_farther_models_are_still_told_in_single(tmp_path: Path) -> None:
    assert "1 of them carries 90 %" in answer([seen(beside_an_outlier(tmp_path / "a")["single"])])
    # Siblings at 1e-3 beside an unrelated model: the rounding of their own products is small enough.
    both = beside_an_outlier(tmp_path / "b", apart=1e-3)
    single, double = (seen(both[kind], NEAR) for kind in ("single", "double"))
    assert single.spectrum.resolved == N - 1
    np.testing.assert_allclose(single.spectrum.ratio, double.spectrum.ratio, atol=2e-3)
    assert "No more than chance" in answer([single])


def test_frames_and_pools_hold_no_number_made_of_rounding(tmp_path: Path) -> None:
    found = beside_an_outlier(tmp_path)["single"]
    below_precision = seen(found, NEAR)
    scree = frames.scree(below_precision.spectrum, below_precision.band)
    assert not scree["above_floor"].any()
    assert not scree["above_band"].any()
    row = frames.overview([below_precision]).to_dicts()[0]
    assert (row["censored"], row["z"], row["p"], row["above"]) == (True, None, None, 0)
    clear = seen(gram_of(noise(N, 4000, seed=1)))
    assert pooled([below_precision.spectrum, clear.spectrum]).empty == 1
    said = answer([clear, clear, below_precision])
    assert said.startswith("No more than chance in any layer: a median of 17 directions")
    assert said.endswith("Some layers show no difference.")


def test_evidence_lineage_and_held_out_do_not_judge_rounding(tmp_path: Path) -> None:
    both = beside_an_outlier(tmp_path)
    single = evidence(both["single"], members=NEAR, draws=19)
    assert {one.verdict for one in single.findings} == {Verdict.UNKNOWN}
    assert "below the rounding of single precision" in single["concentrated"].reason
    assert evidence(both["double"], members=NEAR, draws=19)["concentrated"].verdict is not Verdict.UNKNOWN
    assert not lineage(both["double"]).duplicates
    assert not lineage(both["single"]).duplicates
    errors = held_out(both["single"], groups=list(range(N + 1)), kept=[1, 4], members=NEAR)
    assert all(np.isnan(one.subspace).all() for one in errors)


def test_copies_beside_an_outlier_are_still_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(8)]
    models = written(tmp_path, [*arrays, arrays[3], 100 * arrays[0]], torch.float32)
    pairs = {(one.left, one.right) for one in lineage(gram(models, models.layers[0])).duplicates}
    assert pairs == {("m3", "m8")}


def test_a_rank_that_needs_directions_below_rounding_is_censored() -> None:
    one = Spectrum(variances=np.array([50.0, *[1.0] * 20]), total=70, floor=1.5, ceiling=21, n=22, d=99)
    assert one.resolved == 1
    assert str(one.rank_for(0.7)) == "1"
    assert str(one.rank_for(0.9)) == "more than 1"


def test_a_rank_beyond_rounding_gets_no_z_and_the_answer_says_why() -> None:
    rows = np.vstack([noise(10, 400, seed=2), 30 * noise(2, 400, seed=3)])
    found = gram_of(rows)
    found = replace(found, floor=float(np.sort(np.linalg.eigvalsh(found.values))[-3] * 1.1))
    one = seen(found)
    assert one.spectrum.resolved == 2
    said = answer([one], share=0.999)
    assert "more than 2 directions carry 99.9 %" in said
    assert "the others are below rounding" in said
    assert "2 directions carry 90 %" in answer([one])


def test_a_unit_spectrum_leaves_out_who_has_no_direction_above_rounding(tmp_path: Path) -> None:
    found = beside_an_outlier(tmp_path)["single"]
    with pytest.raises(NotEnoughModels, match="2 models away from the centre"):
        spectrum(found, members=NEAR, unit=True)


@pytest.mark.parametrize("size", [1e-25, 1e-23, 1e-21])
def test_tiny_weights_are_not_called_equal(tmp_path: Path, size: float) -> None:
    arrays = [(size * one.reshape(SHAPE)).astype(np.float32) for one in noise(12, 4000, seed=4)]
    models = written(tmp_path, arrays, torch.float32)
    single = seen(gram(models, models.layers[0]))
    assert answer([single]) == (
        "One cannot tell: in `0.w`, what distinguishes these models is below the rounding of single precision. "
        "Compute it in double precision."
    )
    assert evidence(gram(models, models.layers[0]), draws=19)["concentrated"].reason.startswith("what distinguishes")
    assert "No more than chance" in answer([seen(gram(models, models.layers[0], precision="double"))])


@pytest.mark.parametrize("n", [3, 7, 10])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-25])
def test_equal_models_are_still_called_equal_or_not_judged(tmp_path: Path, n: int, value: float) -> None:
    one = (value * noise(1, 4000, seed=5)).reshape(SHAPE).astype(np.float32)
    models = written(tmp_path, [one] * max(n, 6), torch.float32)
    said = answer([seen(gram(models, models.layers[0]))])
    assert "do not differ at all" in said or "One cannot tell" in said
    if value != 1e-25:
        assert "do not differ at all" in said


def test_a_model_counts_once() -> None:
    found = gram_of(noise(5, 30, seed=0))
    with pytest.raises(NotEnoughModels, match=r"Each model counts once; model-0 \(3 times\) was chosen again"):
        spectrum(found, members=[0, 0, 0, 1, 2])
    with pytest.raises(NotEnoughModels, match="Each model counts once"):
        found.chosen([4, -1])
