"""Two models side by side: the numbers are those of the weights, equal layers are equal, and bounds are bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.planted import gram_of, noise
from tests.test_angles import factors_of
from tests.wording import measured
from uws_core.analysis.pairs import only_differing, pair_layers, rank_of_difference
from uws_core.answers.pairs import answer
from uws_core.charts import pairs as charts
from uws_core.charts.style import DARK, LIGHT
from uws_core.errors import LayerError
from uws_core.frames import pairs as frames
from uws_core.nouns.lineage import PairLayer

SHAPE = (12, 10)
NAMES = ("blocks.0.q.weight", "blocks.1.q.weight", "blocks.2.q.weight")


def stacks() -> list[np.ndarray]:
    """Three layers of four models: unrelated, the second and third equal, and apart by one direction."""
    base = noise(1, 120, seed=3)
    apart = np.repeat(base, 4, axis=0)
    apart[2] += 1e-3 * np.outer(noise(1, 12, seed=4)[0], noise(1, 10, seed=5)[0]).ravel()
    equal = noise(4, 120, seed=2)
    equal[2] = equal[1]
    return [noise(4, 120, seed=1), equal, apart]


def items(**options: object) -> tuple[PairLayer, ...]:
    grams = [gram_of(rows, shape=SHAPE, name=name) for rows, name in zip(stacks(), NAMES, strict=True)]
    return pair_layers(grams, 1, 2, **options)  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_weights() -> None:
    for item, rows in zip(items(), stacks(), strict=True):
        left, right = rows[1], rows[2]
        norms = np.linalg.norm(left), np.linalg.norm(right)
        assert item.cosine == pytest.approx(left @ right / (norms[0] * norms[1]), abs=1e-9)
        assert item.difference == pytest.approx(np.linalg.norm(left - right) / np.mean(norms), rel=1e-6, abs=1e-7)
    assert [item.differs for item in items()] == [True, False, True]
    assert np.isnan(items()[0].effective_rank)


def test_only_differing_layers_are_kept_with_the_largest_first() -> None:
    kept = only_differing(tuple(reversed(items())))
    assert [item.layer.name for item in kept] == [NAMES[0], NAMES[2]]


def test_the_effective_rank_is_that_of_the_difference() -> None:
    differences = {
        name: factors_of((rows[1] - rows[2]).reshape(1, *SHAPE), kept=10)
        for rows, name in zip(stacks(), NAMES, strict=True)
    }
    found = items(differences=differences)
    values = np.linalg.svd((stacks()[0][1] - stacks()[0][2]).reshape(SHAPE), compute_uv=False) ** 2
    shares = values / values.sum()
    assert found[0].effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)
    assert not found[0].at_least
    assert np.isnan(found[1].effective_rank)
    assert found[2].effective_rank == pytest.approx(1.0, abs=1e-3)


def test_a_truncated_decomposition_gives_a_lower_bound() -> None:
    difference = factors_of(noise(1, 120, seed=6).reshape(1, *SHAPE), kept=10)
    whole, censored = rank_of_difference(difference)
    assert not censored
    bounds = []
    for kept in (1, 3, 6):
        part = replace(difference, singular=difference.singular[:, :kept], complete=False)
        bound, at_least = rank_of_difference(part)
        assert at_least
        bounds.append(bound)
    assert bounds == sorted(bounds)
    assert bounds[-1] < whole


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(LayerError, match="models 1 and 9 of 4"):
        pair_layers([gram_of(noise(4, 20, seed=0))], 1, 9)


def test_frame_and_figure_show_every_layer() -> None:
    difference = factors_of((stacks()[0][1] - stacks()[0][2]).reshape(1, *SHAPE), kept=10)
    frame = frames.layers(items(differences={NAMES[0]: difference}))
    assert set(frame.columns) == set(frames.HELP)
    assert frame["effective_rank"].null_count() == 2
    assert frame["most"].to_list() == [10, 10, 10]
    for theme in (LIGHT, DARK):
        bars, marks = charts.layers(frame, theme=theme).data
        assert list(bars.customdata) == list(NAMES)
        assert bars.marker.color[1] == "rgba(0,0,0,0)" != bars.marker.color[0]
        assert list(marks.marker.symbol) == ["diamond"] * 3
    assert len(charts.layers(frames.layers(items())).data) == 1
    assert not frames.layers(()).height


def test_the_answer_names_the_largest_difference() -> None:
    line = answer(items(), left="a", right="b")
    assert line.startswith("`a` and `b` differ in 2 of 3 layers, most in `0.q`, by 1")
    assert measured(line).short
    assert "equal in every layer" in answer(items()[1:2], left="a", right="b")
    assert "cannot tell" in answer((), left="a", right="b")
