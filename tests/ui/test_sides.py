"""The spectrum page on its other axes: inputs, outputs, and all three together."""

from __future__ import annotations

import pytest

from tests.ui.conftest import Open
from tests.ui.test_pages import answer, told


@pytest.mark.parametrize(("axis", "words"), [("in", "seen by their inputs"), ("out", "seen by their outputs")])
@pytest.mark.parametrize("null", ["strength", "gaussian", "none"])
def test_a_layer_is_seen_by_either_side_against_either_noise(open_page: Open, axis: str, words: str, null: str) -> None:
    app = open_page("spectrum", c="demo:finetuned", axis=axis, null=null, layer="blocks.0.mlp.up.weight")
    assert words in answer(app)
    ranks = {one.label: one.value for one in app.metric}
    assert 0 < int(ranks["Rank at 90 %"]) <= (32 if axis == "in" else 64)


def test_untrained_networks_are_no_more_than_chance_on_the_input_axis(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:untrained", axis="in", layer="blocks.1.attn.q.weight")
    assert "chance" in answer(app)


def test_layers_do_not_add_up_on_a_side(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:finetuned", axis="in", layer="sum")
    assert "sum" not in str(app.query_params["layer"])
    assert "sum" not in next(box for box in app.main.selectbox if box.label == "Layer").options


def test_all_three_axes_of_a_layer(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:planted", layer="blocks.0.attn.q.weight")
    next(one for one in app.toggle if "three axes" in one.label).set_value(True).run()
    assert "directions of models" in told(app)
    assert "times fewer" in told(app)
