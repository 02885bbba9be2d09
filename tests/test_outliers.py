"""What looks odd is named for what it is: made collections with a known artefact, and their controls."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planted import gram_of, spiked
from uws_core.analysis.lineage import lineage
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import COLLECTION, LAYER, Lineage
from uws_core.zoo import synthetic
from uws_core.zoo.synthetic import SyntheticCollection

UP = "blocks.0.mlp.up.weight"


def of(made: SyntheticCollection, layer: str = UP) -> Gram:
    rows = made.layers[layer]
    base = None if made.base is None else made.base[layer]
    return gram_of(rows.reshape(len(rows), -1), shape=rows.shape[1:], name=layer, base=base)


def kinds(family: Lineage) -> set[str]:
    return {one.kind for one in family.outliers}


def alike(likeness: float, *, n: int = 40, seed: int = 0) -> Gram:
    """Equal norms and equal cosines: a common part, and normal numbers in each model."""
    rng = np.random.default_rng(seed)
    rows = np.sqrt(likeness) * rng.standard_normal(2048) + np.sqrt(1 - likeness) * rng.standard_normal((n, 2048))
    return gram_of(rows / np.linalg.norm(rows, axis=1)[:, None])


def test_equal_cosines_of_fresh_numbers_are_named_and_those_of_siblings_are_not() -> None:
    for likeness in (0.05, 0.359, 0.9):
        odd = lineage(alike(likeness)).outliers
        assert [(one.model, one.kind) for one in odd] == [(LAYER, "equal cosines")]
    assert "all cosines are 0.3" in lineage(alike(0.359)).outliers[0].reason
    for control in (
        synthetic.reinitialised(fraction=0.0),
        synthetic.two_lineages(fraction=0.0),
        synthetic.shared_start(),
    ):
        assert "equal cosines" not in kinds(lineage(of(control)))
    # The same likeness with what they learned in common directions: cosines differ.
    assert not kinds(lineage(gram_of(np.ones(2000) + spiked(40, 2000, strengths=[90.0, 60.0], seed=1))))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.4, 0.5, 0.6, 0.8])
def test_strangers_are_named_for_what_they_are_at_every_fraction(fraction: float) -> None:
    made = synthetic.reinitialised(fraction=fraction)
    found = lineage(of(made)).outliers
    assert {one.kind for one in found} == {"never trained"}
    assert {one.model for one in found} == {f"model-{i}" for i in np.flatnonzero(made.truth["reinitialised"])}
    made = synthetic.permuted(fraction=fraction)
    found = lineage(of(made)).outliers
    assert {one.kind for one in found} == {"reordered" if fraction >= 0.3 else "no relative"}
    assert {one.model for one in found} == {f"model-{i}" for i in np.flatnonzero(made.truth["permuted"])}


@pytest.mark.parametrize("fraction", [0.2, 0.3, 0.5])
def test_a_small_lineage_is_not_odd_for_being_far_from_the_others_mean(fraction: float) -> None:
    assert not lineage(of(synthetic.two_lineages(fraction=fraction))).outliers


def test_several_layers_say_what_each_of_them_says() -> None:
    def both(made: SyntheticCollection) -> Lineage:
        layers = [of(made, name) for name in made.layers]
        return lineage(sum(layers[1:], layers[0]), layers=layers)

    for made, kind in ((synthetic.noise(), "as if never trained"), (synthetic.permuted(), "reordered")):
        odd = both(made).outliers
        assert [(one.model, one.kind) for one in odd] == [(COLLECTION, kind)]
        assert "of 4 layers" in odd[0].reason
    made = synthetic.reinitialised(fraction=0.1)
    names = [f"model-{i}" for i in np.flatnonzero(made.truth["reinitialised"])]
    assert sorted((one.model, one.kind) for one in both(made).outliers) == [
        (one, "never trained") for one in sorted(names)
    ]
    for control in (synthetic.reinitialised(fraction=0.0), synthetic.permuted(fraction=0.0), synthetic.two_lineages()):
        assert not both(control).outliers


def test_one_fresh_layer_of_several_is_not_the_whole_collection() -> None:
    trained, fresh = synthetic.two_lineages(), synthetic.noise()
    layers = [of(trained), of(trained, "blocks.0.mlp.down.weight"), of(fresh, "blocks.1.mlp.up.weight")]
    (odd,) = lineage(sum(layers[1:], layers[0]), layers=layers).outliers
    assert (odd.kind, odd.model) == ("as if never trained", "1 of 3 layers (all models)")
    assert odd.together
    assert not odd.everywhere


def test_layers_that_training_hardly_moved_are_not_called_untrained() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.91, 0.956, 1.04):
        rows = scale * rng.standard_normal((40, 1024)) / np.sqrt(32)
        assert not lineage(gram_of(rows, shape=(32, 32))).outliers
    fresh = lineage(gram_of(rng.standard_normal((40, 1024)) / np.sqrt(32), shape=(32, 32))).outliers
    assert "1 / sqrt(inputs)" in fresh[0].reason
