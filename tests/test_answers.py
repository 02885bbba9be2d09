"""The answer lines: what they say for structure, for noise, and where nothing can be told."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.planted import gram_of, noise, side_gram_of, spiked
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import spectrum
from uws_core.answers.spectrum import answer
from uws_core.nouns.gram import Axis
from uws_core.nouns.spectrum import LayerSpectrum

SHARED = spiked(40, 2000, strengths=[5000, 4000, 3000, 3000], seed=0)


def item(rows: np.ndarray, *, kind: str = "strength", **options: object) -> LayerSpectrum:
    gram = gram_of(rows, base=np.zeros(rows.shape[1]), name="blocks.2.attn.q.weight")
    seen = spectrum(gram, **options)  # type: ignore[arg-type]
    return LayerSpectrum(gram.layer, seen, null_band(gram, kind=kind, **options))  # type: ignore[arg-type]


def test_structure_is_told_with_its_chance_level() -> None:
    assert re.fullmatch(
        r"4 directions are shared beyond noise of the same strengths in `2\.attn\.q`; they carry 85 % of what "
        r"distinguishes these models\.",
        answer([item(SHARED)], share=0.85),
    )


def test_fewer_directions_than_are_shared_are_some_of_them_and_more_hold_noise() -> None:
    structure = item(SHARED)
    assert "; 3 of them carry 60 % of" in answer([structure], share=0.6)
    assert re.search(r"; \d+, noise included, carry 99 % of", answer([structure], share=0.99))


def test_a_band_without_a_count_is_judged_by_its_share() -> None:
    structure = item(SHARED)
    assert structure.band is not None
    line = answer([replace(structure, band=replace(structure.band, shared=None))], share=0.85)
    assert re.fullmatch(
        r"Beyond chance: in `2\.attn\.q`, 4 directions carry 85 % of what distinguishes these models; "
        r"noise of the same strengths needs 2\d\.",
        line,
    )


def test_noise_is_no_more_than_chance() -> None:
    said = answer([item(noise(40, 2000, seed=1))])
    assert re.fullmatch(r"No more than chance: in .*, 35 directions carry 90 % of .*; noise .* needs 35\.", said)


def test_few_models_cannot_tell() -> None:
    said = answer([item(spiked(5, 200, strengths=[1000], seed=0))])
    assert said == "One cannot tell: in `2.attn.q`, 5 models give at most 4 directions."
    assert "at most 1 direction." in answer([item(noise(2, 50, seed=0))])


def test_identical_models_and_no_layer_are_told() -> None:
    assert "do not differ at all" in answer([item(np.ones((8, 30)))])
    assert "No layer is chosen" in answer([])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"about": "zero"}, "these models' weights with their mean"),
        ({"about": "base"}, "what these models changed in their base"),
        ({"about": "model-3"}, "what sets these models apart from `model-3`"),
        ({"unit": True}, "what distinguishes these models at equal norms"),
        ({"kind": "gaussian"}, "4 directions are shared beyond noise of equal strengths in "),
    ],
)
def test_the_sentence_names_centre_scaling_and_null(options: dict[str, object], words: str) -> None:
    assert words in answer([item(SHARED, **options)])  # type: ignore[arg-type]


def test_side_axes_are_named() -> None:
    gram = side_gram_of(SHARED[:8].reshape(8, 40, 50), axis=Axis.IN)
    assert "input directions carry 90 % of" in answer([LayerSpectrum(gram.layer, spectrum(gram))])


def test_without_a_band_nothing_is_claimed_about_chance() -> None:
    one = item(SHARED)
    said = answer([LayerSpectrum(one.layer, one.spectrum)], share=0.3)
    assert said == "In `2.attn.q`, 1 direction carries 30 % of what distinguishes these models."


def test_several_layers_give_a_span_and_count_what_passes() -> None:
    noises = [item(noise(40, 2000, seed=seed)) for seed in (1, 2, 3)]
    said = answer([item(SHARED), *noises], share=0.85)
    assert said == "Beyond noise of the same strengths in 1 of 4 layers: the median one of these shares 4 directions."
    assert answer(noises).startswith("No more than chance in any layer: a median of 35 directions carries 90 % of")
    assert answer([item(SHARED), item(SHARED)], share=0.85) == (
        "Beyond noise of the same strengths in every layer: the median layer shares 4 directions; they carry 85 % of "
        "what distinguishes these models."
    )
    bare = [replace(layer, band=replace(layer.band, shared=None)) for layer in (item(SHARED), *noises) if layer.band]
    assert answer(bare, share=0.85) == (
        "Beyond chance in 1 of 4 layers: there, fewer directions than noise of the same strengths needs carry 85 % of "
        "what distinguishes these models."
    )
    assert answer(bare[:1] * 2).startswith("Beyond chance in every layer: a median of ")


def test_a_layer_without_differences_is_counted_beside_the_others() -> None:
    assert answer([item(SHARED), item(np.ones((40, 30)))]).endswith("Some layers show no difference.")


def test_a_sum_of_layers_is_named_as_one() -> None:
    one = item(SHARED)
    assert answer([LayerSpectrum(one.layer, one.spectrum, one.band, layers=18)]).startswith(
        "4 directions are shared beyond noise of the same strengths in these layers together; "
    )
