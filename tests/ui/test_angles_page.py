"""The angles page answers what is chosen, keeps it in the address, and survives what cannot be compared."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.ui.conftest import Open, drawn
from tests.ui.test_pages import answer, told
from uws_core.export import Provenance
from uws_core.nouns.angles import BASE
from uws_core.nouns.query import AnglesQuery
from uws_core.ui import figures
from uws_core.ui.angles import controls, data, reads
from uws_core.ui.catalogue import catalogue

LAYER = "blocks.1.attn.q.weight"


def shown(open_page: Open, **params: str | list[str]) -> AppTest:
    return open_page("angles", **{"c": "demo:finetuned", "layer": LAYER, "k": "8"} | params)


def box(app: AppTest, label: str) -> str:
    return next(each.value for each in app.main.selectbox if each.label == label)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "in `1.attn.q`, the 8 leading input directions of two models"),
        ({"axis": "out"}, "8 leading output directions"),
        ({"k": "3"}, "the 3 leading"),
        ({"view": "groups", "group": "task"}, "two values of `task`"),
        ({"view": "groups", "group": "task", "axis": "in"}, "8 leading shared input directions"),
        ({"view": "halves"}, "directions of two random halves overlap by"),
        ({"view": "halves", "group": "task"}, "each task in one half"),
        ({"view": "halves", "group": "task", "axis": "out"}, "8 output directions of two random halves"),
        ({"view": "layers", "l": ["blocks.0.*"]}, "of two layers overlap by"),
        ({"about": "base"}, "in `1.attn.q`"),
        ({"m": ["task=prime", "task=parity"]}, "of two models overlap by"),
    ],
)
def test_what_is_chosen_is_answered(open_page: Open, change: dict[str, str | list[str]], says: str) -> None:
    app = shown(open_page, **change)
    assert says in answer(app)
    assert len(drawn(app)) == (1 if change.get("view") == "halves" else 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "leading input directions about their mean overlap with its own by"),
        ({"about": "base"}, "leading input directions about the base overlap"),
        ({"axis": "out", "order": "group", "group": "task"}, "their 8 leading output directions"),
        ({"c": "demo:lora", "k": "4", "about": "base"}, "more than random directions"),
    ],
)
def test_every_model_is_compared_with_the_base(open_page: Open, change: dict[str, str], says: str) -> None:
    app = shown(open_page, view="base", **change)
    assert not app.exception
    assert says in answer(app)
    assert len(drawn(app)) == 3
    assert "and the base: mean angle" in told(app)
    assert ("with the base as the centre" in told(app)) == ("about" not in change)
    app.main.selectbox(key=next(box.key for box in app.main.selectbox if box.label == "Model")).set_value(
        "parity-1"
    ).run()
    assert "parity-1 and the base: mean angle" in told(app)
    assert app.query_params["pair"] == ["parity-1", "the base"]


def test_without_a_base_there_is_nothing_to_compare_with_and_an_old_address_still_opens(open_page: Open) -> None:
    app = shown(open_page, c="demo:scratch", view="base")
    assert not app.exception
    assert "pairs of models overlap" in answer(app)
    assert "base" not in app.main.segmented_control(key="view").options


def test_untrained_networks_are_at_chance_and_siblings_are_not(open_page: Open) -> None:
    assert "no more than chance" in answer(shown(open_page, c="demo:untrained")).lower()
    assert "bove chance: " in answer(shown(open_page))


def test_the_pair_that_overlaps_most_comes_first_and_an_address_chooses_another(open_page: Open) -> None:
    nearest = shown(open_page)
    first = {box(nearest, "First"), box(nearest, "Second")}
    assert len(first) == 2
    assert any(f"{name} and" in told(nearest) for name in first)
    asked = shown(open_page, pair=["prime-0", "shuffled-2"])
    assert (box(asked, "First"), box(asked, "Second")) == ("prime-0", "shuffled-2")
    assert "prime-0 and shuffled-2: mean angle" in told(asked)
    unknown = shown(open_page, pair=["<b>", "prime-0"])
    assert {box(unknown, "First"), box(unknown, "Second")} == first


def test_choosing_in_a_box_changes_the_pair_and_the_address(open_page: Open) -> None:
    app = shown(open_page, pair=["prime-0", "shuffled-2"])
    next(each for each in app.main.selectbox if each.label == "Second").set_value("parity-1").run()
    assert "prime-0 and parity-1: mean angle" in told(app)
    assert app.query_params["pair"] == ["prime-0", "parity-1"]
    again = shown(open_page, pair=app.query_params["pair"])
    assert "prime-0 and parity-1: mean angle" in told(again)


def test_another_measure_and_order_stay_in_the_address(open_page: Open) -> None:
    app = shown(open_page, measure="overlap", order="group", group="task")
    assert "Models by models: overlap" in told(app)
    assert app.query_params["measure"] == "overlap"
    assert not app.exception


def test_more_directions_than_there_are_is_said(open_page: Open) -> None:
    app = shown(open_page, k="500")
    assert "500 directions were asked for; 40 of 40 models have fewer directions of their own" in told(app)
    assert "all the directions there are" in answer(app)


def test_groups_of_single_models_or_of_none_are_said_and_got_out_of(open_page: Open) -> None:
    lonely = shown(open_page, view="groups", group="task", m=["task=prime"])
    assert "at least two values" in told(lonely).replace("\\", "")
    none = shown(open_page, view="groups")
    assert "Group by in the sidebar" in told(none).replace("\\", "")


def test_the_layer_chosen_elsewhere_stays_chosen_there(open_page: Open) -> None:
    app = open_page("angles", c="demo:finetuned", layer="sum", axis="models")
    assert answer(app)
    assert app.query_params["layer"] == "sum"
    app.switch_page("pages/spectrum.py").run()
    assert "these layers together" in answer(app)


def test_own_folders_are_compared_too(open_page: Open, models: object) -> None:
    app = open_page("angles", c=catalogue().add(str(models)), k="2")
    assert "2 leading input directions of two models overlap by" in answer(app)


def widths(folder: Path, *shapes: tuple[int, int]) -> str:
    """A collection of four models whose layers have these shapes."""
    folder.mkdir()
    rng = np.random.default_rng(7)
    for i in range(4):
        layers = {f"blocks.{j}.up.weight": rng.standard_normal(shape, np.float32) for j, shape in enumerate(shapes)}
        save_file(layers, folder / f"m{i}.safetensors")
    return catalogue().add(str(folder))


def test_two_layers_of_different_width_are_said_to_have_no_angles_and_the_rest_stays(open_page: Open) -> None:
    app = shown(open_page, view="layers", pair=["0.attn.q", "0.mlp.down"])
    assert "equally wide" in told(app).replace("\\", "")
    assert "of two layers overlap by" in answer(app)
    assert len(drawn(app)) == 1
    assert (box(app, "First"), box(app, "Second")) == ("0.attn.q", "0.mlp.down")


@pytest.mark.parametrize(
    ("shapes", "says"), [(((12, 6), (12, 5)), "equally wide"), (((12, 6),), "at least two layers")]
)
def test_layers_that_nothing_can_be_compared_with_are_said(
    open_page: Open, tmp_path: Path, shapes: tuple[tuple[int, int], ...], says: str
) -> None:
    app = open_page("angles", c=widths(tmp_path / "widths", *shapes), view="layers", k="2")
    assert says in told(app).replace("\\", "")
    assert len(drawn(app)) == len(shapes) - 1


@pytest.mark.parametrize("about", ["zero", "base", "prime-0"])
def test_the_centre_chosen_on_the_spectrum_page_stays_chosen_here(open_page: Open, about: str) -> None:
    app = open_page("spectrum", c="demo:finetuned", layer=LAYER, about=about)
    assert box(app, "Centre") == about
    app.switch_page("pages/angles.py").run()
    assert box(app, "Centre") == about
    assert about in app.query_params["about"]
    assert app.query_params["about"] in (about, [about])
    again = shown(open_page, about=about)
    assert box(again, "Centre") == about
    assert answer(again) == answer(shown(open_page, about=about))
    app.switch_page("pages/spectrum.py").run()
    assert box(app, "Centre") == about


def test_of_very_many_models_a_part_is_compared_and_the_page_says_so(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "MOST_MODELS", 15)
    app = shown(open_page)
    assert "One in 3 of the 40 models is compared, 14 in all" in told(app)
    assert {each.label: each.value for each in app.metric}["Pairs"] == str(14 * 13 // 2)
    assert "One in" not in told(shown(open_page, view="groups", group="task"))


def test_the_floor_is_printed_where_a_figure_shows_it(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of these models' own directions it is 1e-5 degrees, of their groups some hundredths: no eye sees that.
    assert "are rounding" not in told(shown(open_page, view="models", axis="in", k="3"))
    monkeypatch.setattr("uws_core.ui.angles.view.SEEN", 1e-3)
    for view, times in (("models", 0), ("groups", 2), ("halves", 1)):
        app = shown(open_page, view=view, axis="in" if view == "models" else "models", group="task", k="3")
        found = [float(one) for one in re.findall(r"Angles below ([\d.e+-]+)° are rounding", told(app))]
        assert len(found) == times, view
        assert all(1e-2 < one < 90 for one in found)


def test_fitted_colours_are_in_the_address_of_an_export(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[Provenance] = []
    plain = figures.figure

    def noted(title: str, draw: object, frame: object, source: Provenance, **told: object) -> None:
        sources.append(source)
        plain(title, draw, frame, source, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(figures, "figure", noted)
    shown(open_page, colours="fitted")
    mine = [source for source in sources if source.address.startswith("/angles")]
    assert len(mine) == 3
    for source in mine:
        assert source.settings["colours"] == "fitted"
        assert "colours=fitted" in source.address


@pytest.mark.parametrize("axis", ["in", "out"])
def test_groups_on_a_side_say_why_there_is_no_shuffling_and_what_to_use(open_page: Open, axis: str) -> None:
    app = shown(open_page, view="groups", group="task", axis=axis)
    assert "Shuffled labels are not drawn" in told(app)
    assert "halves" in told(app)
    assert "Shuffled labels are not drawn" not in told(shown(open_page, view="groups", group="task", axis="models"))


def test_a_model_that_is_called_the_base_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, random = tmp_path / "named", np.random.default_rng(0)
    folder.mkdir()
    for path in (*(folder / f"{name}.safetensors" for name in ("a", "the base", "z")), tmp_path / "start.safetensors"):
        save_file({"w.weight": random.normal(size=(12, 8)).astype(np.float32)}, path)
    collection = uws.collect(str(folder), base=str(tmp_path / "start.safetensors"))
    assert collection.labels == ("a", "the base", "z")
    monkeypatch.setattr(reads, "collection_of", lambda query: collection)
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "own"))
    query = AnglesQuery("c", collection.fingerprint, (0, 1, 2), ("w.weight",), view="base", axis="in", k=2)
    found, _ = data.pair(query, "a", BASE)
    own = uws.factors(collection, "w.weight", with_base=True).right[:, :, :2]
    expected = np.linalg.svd(own[0].T @ own[3], compute_uv=False)
    np.testing.assert_allclose(np.cos(found.radians), expected, atol=1e-5)
