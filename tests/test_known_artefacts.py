"""Artefacts from published disputes: each is named where it is present and not where it is absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.planted import gram_of
from uws_core.analysis.evidence import evidence
from uws_core.answers.factors import gauge_notes
from uws_core.collection import collect
from uws_core.nouns.evidence import Evidence, Verdict
from uws_core.nouns.models import LayerKey
from uws_core.reporting.build import report
from uws_core.run import scan
from uws_core.store.results import Store
from uws_core.zoo import folders, synthetic
from uws_core.zoo.synthetic import SyntheticCollection

UP = "blocks.0.mlp.up.weight"


def judge(made: SyntheticCollection, groups: Sequence[object] | None = None) -> Evidence:
    rows = made.layers[UP]
    gram = gram_of(rows.reshape(len(rows), -1), shape=rows.shape[1:])
    return evidence(gram, groups=None if groups is None else [str(one) for one in groups], draws=39)


def test_equal_cosines_are_not_sound_and_siblings_are() -> None:
    sound = judge(synthetic.equal_cosines())["sound"]
    assert sound.verdict is Verdict.CHANCE
    assert "all cosines are 0.35" in sound.reason
    assert judge(synthetic.reinitialised(fraction=0.0))["sound"].verdict is Verdict.HOLDS


def test_a_mean_alone_is_told_from_directions() -> None:
    alone, nothing, spike = (
        judge(synthetic.mean_only()),
        judge(synthetic.mean_only(strength=0.0)),
        judge(synthetic.spike()),
    )
    assert alone["mean"].value == pytest.approx(0.5, abs=0.03)
    assert "what is left is no more than noise" in alone["mean"].reason
    assert alone["concentrated"].verdict is alone["unseen"].verdict is Verdict.CHANCE
    assert nothing["mean"].value == pytest.approx(1 / 40, abs=0.01)
    assert "no shared mean" in nothing["mean"].reason
    assert spike["concentrated"].verdict is not Verdict.CHANCE


def test_directions_of_one_author_hold_for_her_models_and_not_for_authors() -> None:
    made, control = synthetic.one_author(), synthetic.one_author(everyone=True)
    assert made.table["author"] == control.table["author"]
    assert made.table["author"].count("author-0") == 24
    hers, all_of_us = judge(made, made.table["author"]), judge(control, control.table["author"])
    assert hers["unseen"].p <= 0.05
    assert hers["unseen-groups"].verdict is Verdict.CHANCE
    assert all_of_us["unseen"].p <= 0.05
    assert all_of_us["unseen-groups"].p <= 0.05


def test_a_slow_decay_is_real_and_saves_next_to_nothing() -> None:
    slow, steep = judge(synthetic.slow_decay()), judge(synthetic.slow_decay(power=4.0))
    assert slow["concentrated"].verdict is steep["concentrated"].verdict is Verdict.HOLDS
    assert slow["space"].value < 1.3
    assert slow["space"].verdict is not Verdict.HOLDS
    assert steep["space"].value > 10
    assert steep["space"].verdict is Verdict.HOLDS


def test_a_gauge_changes_factors_and_no_update(tmp_path: Path) -> None:
    grams = {}
    for mix in (0.0, 1.0):
        models = collect(folders.write(synthetic.regauged(mix=mix), tmp_path / str(mix)))
        grams[mix] = {one.layer.name: one for one in scan(models, [UP, f"{UP}:A"], store=Store(tmp_path / "store"))}
    plain, turned = grams[0.0], grams[1.0]
    # Files hold float32, and some turns have a condition number of 1,000.
    np.testing.assert_allclose(turned[UP].cosines(), plain[UP].cosines(), atol=5e-4)
    off = np.triu_indices(40, 1)
    assert plain[f"{UP}:A"].cosines()[off].min() > 0.9
    assert np.median(np.abs(turned[f"{UP}:A"].cosines()[off])) < 0.6


def test_a_factor_is_shown_with_a_warning_and_an_update_is_not(tmp_path: Path) -> None:
    keys = [LayerKey(name, (4, 32)) for name in (UP, f"{UP}:A", f"{UP}:B")]
    assert gauge_notes(keys[:1]) == ()
    (note,) = gauge_notes(keys)
    assert note.startswith("0.mlp.up:A, 0.mlp.up:B: the factors of an adapter are defined only up to")
    models = collect(folders.write(synthetic.regauged(n=8), tmp_path / "models"))
    for name, warned in ((f"{UP}:A", True), (UP, False)):
        into = tmp_path / f"{warned}.html"
        report(models, into=into, layers=[name], draws=19, store=Store(tmp_path / "store"))
        assert ("up to an invertible matrix" in into.read_text()) is warned
