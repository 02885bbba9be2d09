"""Sentences on the count: why there is none, what stands in, which side differs, what else may be behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.block_grams import gram_of
from tests.nothing_shared import KINDS
from uws_core.analysis.nulls import null_band
from uws_core.analysis.shared_directions import shared_directions
from uws_core.analysis.spectrum import spectrum
from uws_core.answers.shared_directions import STANDS_IN, notes, p_text
from uws_core.answers.spectrum import answer
from uws_core.frames.spectrum import shared as frame_of
from uws_core.nouns.spectrum import LayerSpectrum


def weights(kind: str, seed: int = 0) -> np.ndarray:
    return KINDS[kind](np.random.default_rng(seed))


def test_too_few_models_and_too_few_blocks_are_said() -> None:
    few = shared_directions(gram_of(weights("iid normal")[:4]))
    assert notes(few, null="profile") == (
        "No count of shared directions: 4 models differ here; a count needs at least 5",
    )
    wide = shared_directions(gram_of(weights("iid normal"), most=4))
    assert notes(wide, null="profile") == (STANDS_IN,)
    assert notes(wide, null="strength") == ()
    assert notes(None, null="profile") == ()


def test_different_counts_of_the_sides_are_said() -> None:
    shared = shared_directions(gram_of(weights("inputs correlated (1/k), shared")))
    (said,) = notes(shared, null="profile")
    assert f"0 by rows and {dict(shared.by_view)['columns']} by columns" in said


def test_a_common_scale_is_no_shared_direction_and_no_plain_chance() -> None:
    gram = gram_of(weights("row scales e^1 shared"))
    item = LayerSpectrum(gram.layer, spectrum(gram), null_band(gram))
    assert answer([item]).startswith("Beyond equal noise, not beyond the common scale of rows: in `layer`, ")
    assert answer([item, item]).startswith("Beyond equal noise, not beyond the common scale of rows, in every layer: ")


def test_p_is_that_of_the_weakest_found_and_never_below_what_the_draws_allow() -> None:
    rng = np.random.default_rng(0)
    models = rng.standard_normal((24, 48, 48))
    models[3:6] += 12 * np.linalg.qr(rng.standard_normal((48, 48)))[0]
    shared = shared_directions(gram_of(models))
    assert p_text(shared) == f"p = {1 / 41:.2g}"
    assert p_text(replace(shared, count=2, p=np.array([0.005, 0.02, 0.4]))) == "p at most 0.02"
    assert p_text(replace(shared, count=0, p=np.array([0.31]))) == "p = 0.31"
    row = frame_of(shared, [f"m{i}" for i in range(24)]).row(0, named=True)
    assert row["p"] == 1 / 41
    assert row["tail"] < 1e-6
    assert set(row["carried_by"].split(", ")) == {"m3", "m4", "m5"}
