"""The reconstruction page answers what is held out, on every axis, at every size, and takes models from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.ui.conftest import Open, drawn
from tests.ui.test_pages import answer, told
from uws_core.export import Draw, Provenance
from uws_core.ui import figures
from uws_core.ui.catalogue import catalogue

LAYER = "blocks.1.attn.q.weight"
# More than one layer and three of ten tasks: sums over layers on the sides take their time.
SEVERAL: dict[str, str | list[str]] = {
    "layer": "sum",
    "l": ["blocks.0.attn.q.weight", "blocks.0.attn.k.weight"],
    "m": ["task=prime", "task=parity", "task=inverted"],
}


def shown(open_page: Open, **params: str | list[str]) -> AppTest:
    return open_page("reconstruction", **{"c": "demo:finetuned", "layer": LAYER, "k": "8"} | params)


def number(app: AppTest, label: str) -> float:
    """One of the numbers beside the answer, without its unit."""
    return float({each.label: each.value for each in app.metric}[label].split()[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "8 shared directions rebuild 4.1 % of an unseen task's model"),
        ({"hold": "model"}, "of an unseen model beyond"),
        ({"group": "seed"}, "of an unseen seed's model"),
        ({"axis": "in"}, "8 shared input directions"),
        ({"axis": "out"}, "8 shared output directions"),
        ({"relative": "zero"}, "of an unseen task's model beyond the mean"),
        ({"relative": "mean"}, "of an unseen task's model beyond the mean"),
        ({"own": "false"}, "noise of the same profile"),
        ({"k": "3"}, "3 shared directions"),
        (SEVERAL, "in these layers"),
        ({"c": "demo:planted"}, "of an unseen model beyond"),
    ],
)
def test_what_is_chosen_is_answered(open_page: Open, change: dict[str, str | list[str]], says: str) -> None:
    app = shown(open_page, **change)
    assert says in answer(app)
    assert len(drawn(app)) >= 3


def test_siblings_are_found_again_and_whole_tasks_are_not(open_page: Open) -> None:
    alone = number(shown(open_page, hold="model"), "Error, unseen")
    whole = number(shown(open_page), "Error, unseen")
    assert alone < whole
    assert number(shown(open_page), "Error, in sample") < alone


def test_untrained_networks_share_nothing(open_page: Open) -> None:
    said = answer(shown(open_page, c="demo:untrained"))
    assert "hardly helps" in said or "does not help" in said


def test_a_planted_subspace_rebuilds_unseen_models(open_page: Open) -> None:
    app = shown(open_page, c="demo:planted", k="6")
    assert number(app, "Error, unseen") < 70
    assert number(app, "Error, mean") > 95


def test_one_group_among_the_chosen_falls_back_to_single_models(open_page: Open) -> None:
    assert "of an unseen model beyond" in answer(shown(open_page, m=["task=prime", "task=prime"]))


def test_whole_checkpoints_count_what_is_not_shared(open_page: Open) -> None:
    app = shown(open_page, count="whole checkpoints")
    assert answer(app)
    assert app.query_params["count"] == "whole checkpoints"


def test_too_few_models_are_said_and_got_out_of(open_page: Open) -> None:
    app = shown(open_page, m=["task=prime", "seed=0"])
    assert "needs at least two models; 1 are chosen" in told(app).replace("\\", "")
    app.button(key="way.Choose all models").click().run()
    assert "of an unseen task's model" in answer(app)


def test_networks_are_rebuilt_and_scored_on_demand(open_page: Open) -> None:
    app = shown(open_page, m=["task=prime", "task=parity"], l=["blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight"])
    before = len(drawn(app))
    next(each for each in app.button if each.label == "Compute").click().run()
    _wait_for_jobs()
    app.run()
    assert not app.exception
    assert len(drawn(app)) == before + 2
    assert not [each for each in app.button if each.label == "Compute"]


def _wait_for_jobs() -> None:
    from uws_core.ui.grams import jobs

    for job in jobs().jobs():
        if job.status.active:
            jobs().wait(job.key, seconds=60)


def test_a_model_from_outside_is_projected(open_page: Open, tmp_path: Path) -> None:
    collection = uws.collect("demo:finetuned")
    state = load_file(collection.refs[0].repo)
    folder = tmp_path / "new model"
    folder.mkdir()
    save_file({name: (value * 1.01).contiguous() for name, value in state.items()}, folder / "model.safetensors")
    app = shown(open_page)
    app.text_input(key="newcomer.folder").set_value(str(folder)).run()
    said = told(app)
    assert "directions of the collection rebuild" in said
    assert "`new model`" in said


def test_a_model_that_does_not_fit_is_refused_in_words(open_page: Open, models: Path, tmp_path: Path) -> None:
    app = shown(open_page)
    app.text_input(key="newcomer.folder").set_value("/etc").run()
    assert "outside the folders this app may read" in told(app).replace("\\", "")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (models / "m0.safetensors").rename(foreign / "model.safetensors")
    app.text_input(key="newcomer.folder").set_value(str(foreign)).run()
    assert "has none of the 1 chosen layers in the same shape" in told(app).replace("\\", "")
    assert "of an unseen task's model" in answer(app)


def test_folds_follow_an_edited_table(open_page: Open, models: Path, restart: Callable[[], None]) -> None:
    table = models / "models.csv"
    for axis in ("in", "out", "models"):
        seen = []
        for halves in (4, 2):
            table.write_text("model,colour\n" + "".join(f"m{i},{'red' if i < halves else 'blue'}\n" for i in range(8)))
            restart()
            app = open_page("reconstruction", c=catalogue().add(str(models)), axis=axis, k="1")
            assert "of an unseen colour's model" in answer(app)
            frame = next(each.value for each in app.dataframe if "trained_on" in each.value)
            seen.append(dict(zip(frame["model"], frame["trained_on"], strict=True)))
        assert set(seen[0].values()) == {4}
        assert (seen[1]["m0"], seen[1]["m7"]) == (6, 2)


def test_what_is_kept_follows_the_names_of_the_models(open_page: Open, models: Path, tmp_path: Path) -> None:
    first = open_page("reconstruction", c=catalogue().add(str(models)), axis="in", k="1", hold="model")
    other = tmp_path / "renamed"
    other.mkdir()
    for path in models.glob("*.safetensors"):
        (other / path.name.replace("m", "x", 1)).write_bytes(path.read_bytes())
    again = open_page("reconstruction", c=catalogue().add(str(other)), axis="in", k="1", hold="model")
    frames = [next(each.value for each in app.dataframe if "trained_on" in each.value) for app in (first, again)]
    assert list(frames[1]["model"]) == [name.replace("m", "x", 1) for name in frames[0]["model"]]


@pytest.mark.parametrize(
    ("chosen", "k", "most"), [({}, "39", 35), ({"m": ["task=prime", "task=parity"]}, "7", 3)], ids=["ten tasks", "two"]
)
def test_more_directions_than_the_others_have_are_clipped_and_said(
    open_page: Open, chosen: dict[str, list[str]], k: str, most: int
) -> None:
    app = shown(open_page, k=k, **chosen)
    assert f": {most} shared directions rebuild" in answer(app)
    said = told(app).replace("\\", "")
    assert f"{k} directions were asked for, the models that are not held out have at most {most}" in said
    assert app.query_params["k"] == k


def test_the_own_svd_of_few_numbers_is_the_reference(open_page: Open) -> None:
    app = shown(open_page, k="1", relative="mean")
    assert {each.label: each.value for each in app.metric}["Error, own SVD"].startswith("100")


@pytest.mark.parametrize("axis", ["in", "out", "models"])
def test_all_layers_are_in_the_address_on_every_axis(open_page: Open, axis: str) -> None:
    app = shown(open_page, **SEVERAL)
    assert "in these layers" in answer(app)
    next(each for each in app.button_group if each.label == "Axis").set_value(axis).run()
    assert "in these layers" in answer(app)
    params = {name: app.query_params[name] for name in app.query_params}
    assert params.get("axis", "models") == axis
    again = open_page("reconstruction", **params)
    assert "in these layers" in answer(again)
    assert {name: again.query_params[name] for name in again.query_params} == params


@pytest.mark.parametrize("about", ["zero", "base"])
def test_sizes_on_the_sides_are_those_about_their_only_centre(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, about: str
) -> None:
    seen: dict[str, pl.DataFrame] = {}
    plain = figures.figure

    def figure(title: str, draw: Draw, frame: pl.DataFrame, source: Provenance, **rest: Any) -> None:  # noqa: ANN401
        seen[rest["key"]] = frame
        plain(title, draw, frame, source, **rest)

    monkeypatch.setattr(figures, "figure", figure)
    shown(open_page, axis="in")
    shown(open_page, axis="out")
    stored = seen["sizes"].filter(pl.col("axis") != "models").sort("axis", "k")
    app = shown(open_page, about=about)
    frame = seen["sizes"]
    assert frame.filter(pl.col("axis") != "models").sort("axis", "k").equals(stored)
    assert set(frame["axis"]) == {"models", "in", "out"}
    assert frame.filter(pl.col("k") == 0, pl.col("axis") == "models")["ratio"].to_list() == [None]
    assert not app.exception


def test_every_figure_says_for_itself_where_it_is_from(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Provenance] = {}
    plain = figures.figure

    def figure(title: str, draw: Draw, frame: pl.DataFrame, source: Provenance, **rest: Any) -> None:  # noqa: ANN401
        seen[rest["key"]] = source
        plain(title, draw, frame, source, **rest)

    monkeypatch.setattr(figures, "figure", figure)
    chosen = ["blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight"]
    app = shown(open_page, m=["task=prime", "task=parity"], l=chosen, layer=chosen[0])
    for button in [each for each in app.button if each.label == "Compute"]:
        button.click().run()
        _wait_for_jobs()
    state = load_file(uws.collect("demo:finetuned").refs[0].repo)
    folder = tmp_path / "new model"
    folder.mkdir()
    save_file({name: (value * 1.01).contiguous() for name, value in state.items()}, folder / "model.safetensors")
    seen.clear()
    app.text_input(key="newcomer.folder").set_value(str(folder)).run()
    assert set(seen) == {"errors", "models", "sizes", "scores.k", "scores.weight_error", "newcomer"}
    assert len({one.stem for one in seen.values()}) == len({one.caption for one in seen.values()}) == len(seen)
    assert set(seen["scores.k"].layers) == set(chosen)
    assert seen["errors"].layers == (chosen[0],)
    assert "2 layers at once" in seen["scores.k"].caption
    assert "new model" in seen["newcomer"].caption
    assert len(seen["newcomer"].models) == len(seen["errors"].models) + 1
    assert str(folder) in seen["newcomer"].models[-1]
