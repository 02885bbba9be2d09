"""The figure of strengths says what the frame says: ascending norms, the range of most, odd ones apart."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planted import gram_of, spiked
from uws_core.analysis.lineage import lineage
from uws_core.charts import style
from uws_core.charts.norms import norm_strips as draw_norms
from uws_core.frames import lineage as frames

ROWS = spiked(12, 400, strengths=(40.0, 25.0), seed=1)


def test_norms_ascend_over_their_range() -> None:
    drawn = draw_norms(frames.models(lineage(gram_of(ROWS))), axis_name="length")
    norms = np.sort(np.linalg.norm(ROWS, axis=1))
    (marks,) = drawn.data
    np.testing.assert_allclose(np.asarray(marks.y), norms, rtol=1e-6)
    (band,) = drawn.layout.shapes
    np.testing.assert_allclose([band.y0, band.y1], np.quantile(norms, [0.1, 0.9]), rtol=1e-6)
    assert drawn.layout.yaxis.type == "linear"
    assert drawn.layout.yaxis.title.text == "length"


@pytest.mark.parametrize("times", [10, 1000])
def test_a_model_far_stronger_is_a_cross_and_a_wide_range_is_logarithmic(times: int) -> None:
    rows = np.concatenate([ROWS[:-1], times * ROWS[-1:]])
    drawn = draw_norms(frames.models(lineage(gram_of(rows))), theme=style.DARK)
    plain, odd = drawn.data
    assert len(plain.x) == 11
    assert (list(odd.customdata), list(odd.x), odd.marker.symbol) == (["model-11"], [12], "x")
    assert drawn.layout.yaxis.type == ("log" if times == 1000 else "linear")
    assert drawn.layout.showlegend


def test_models_of_no_norm_stay_on_a_linear_scale() -> None:
    rows = np.concatenate([ROWS, 1000 * ROWS[:1], np.zeros((1, 400))])
    drawn = draw_norms(frames.models(lineage(gram_of(rows))))
    assert drawn.layout.yaxis.type == "linear"
