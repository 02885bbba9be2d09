"""The spectrum page on its other axes: inputs, outputs, and all three together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.ui.conftest import Open, drawn
from tests.ui.test_pages import answer, told
from uws_core.passes import factors as room
from uws_core.ui.catalogue import catalogue


@pytest.mark.parametrize(("axis", "words"), [("in", " input directions carry "), ("out", " output directions carry ")])
@pytest.mark.parametrize("null", ["strength", "none"])
def test_a_layer_is_seen_by_either_side_with_and_without_noise(
    open_page: Open, axis: str, words: str, null: str
) -> None:
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
    assert "leaves an error of" in told(app)
    assert "times fewer" in told(app)
    # The browser writes the switch into the address; who gets the link sees the same.
    again = open_page("spectrum", c="demo:planted", layer="blocks.0.attn.q.weight", hosvd="true")
    assert "Truncating all axes" in told(again)


def folder_of(place: Path, *shapes: tuple[int, int]) -> str:
    """A collection of five models whose layers have these shapes."""
    place.mkdir()
    rng = np.random.default_rng(11)
    for i in range(5):
        layers = {f"blocks.{j}.up.weight": rng.standard_normal(shape, np.float32) for j, shape in enumerate(shapes)}
        save_file(layers, place / f"m{i}.safetensors")
    return catalogue().add(str(place))


def test_a_layer_too_large_for_all_singular_values_is_shown_without_its_band(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "EXACT_SIDE", 16)
    found = folder_of(tmp_path / "large", (24, 20), (24, 12))
    app = open_page("spectrum", c=found, axis="in", layer="blocks.0.up.weight")
    assert " input directions carry " in answer(app)
    said = told(app).replace("\\", "")
    assert "too many to work out" in said
    assert "internal" not in said
    assert {one.label for one in app.metric} >= {"Rank at 90 %", "Ceiling"}
    small = open_page("spectrum", c=found, axis="in", layer="blocks.1.up.weight")
    assert "Above noise" in {one.label for one in small.metric}
    # Noise of equal entries, which an old link may ask for, takes every decay for sharing.
    gaussian = open_page("spectrum", c=found, axis="in", layer="blocks.1.up.weight", null="gaussian")
    assert "same spectra" in next(box for box in gaussian.main.selectbox if box.label == "Noise").options
    assert answer(gaussian) == answer(small)
    every = open_page("spectrum", c=found, axis="in", layer="each")
    assert answer(every)
    assert "too many to work out" in told(every).replace("\\", "")


def test_one_layer_that_cannot_be_read_does_not_stop_the_others(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uws_core import run
    from uws_core.errors import LayerError

    plain = run.cached_side_gram

    def side(collection: object, layer: str, **told: object) -> object:
        if layer == "blocks.0.up.weight":
            raise LayerError("blocks.0.up.weight: broken on purpose")
        return plain(collection, layer, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "cached_side_gram", side)
    app = open_page("spectrum", c=folder_of(tmp_path / "broken", (9, 8), (9, 7), (9, 6)), axis="in", layer="each")
    assert len(drawn(app)) == 3
    assert "blocks.0.up.weight" in str([frame.value for frame in app.dataframe])
