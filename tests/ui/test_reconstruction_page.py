"""The reconstruction page answers what is held out, on every axis, at every size, and takes models from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.ui.conftest import Open
from tests.ui.test_pages import answer, told

LAYER = "blocks.1.attn.q.weight"


def shown(open_page: Open, **params: str | list[str]) -> AppTest:
    return open_page("reconstruction", **{"c": "demo:finetuned", "layer": LAYER, "k": "8"} | params)


def number(app: AppTest, label: str) -> float:
    """One of the numbers beside the answer, without its unit."""
    return float({each.label: each.value for each in app.metric}[label].split()[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "With each task held out, 8 directions of the others leave"),
        ({"hold": "model"}, "With each model held out"),
        ({"group": "seed"}, "With each seed held out"),
        ({"axis": "in"}, "8 input directions of the others"),
        ({"axis": "out"}, "8 output directions of the others"),
        ({"relative": "zero"}, "of the weights of an unseen model"),
        ({"relative": "mean"}, "apart from the others' mean"),
        ({"own": "false"}, "a subspace that saw it"),
        ({"k": "3"}, "3 directions of the others"),
        ({"layer": "sum", "l": ["blocks.0.attn.*"]}, "in 4 layers"),
        ({"c": "demo:planted"}, "With each model held out"),
    ],
)
def test_what_is_chosen_is_answered(open_page: Open, change: dict[str, str | list[str]], says: str) -> None:
    app = shown(open_page, **change)
    assert says in answer(app)
    assert len(app.get("plotly_chart")) >= 3
    assert ("its own SVD" in answer(app)) == (change.get("own") != "false")


def test_siblings_are_found_again_and_whole_tasks_are_not(open_page: Open) -> None:
    alone = number(shown(open_page, hold="model"), "Unseen models")
    whole = number(shown(open_page), "Unseen models")
    assert alone < whole
    assert number(shown(open_page), "In sample") < alone


def test_untrained_networks_share_nothing(open_page: Open) -> None:
    said = answer(shown(open_page, c="demo:untrained"))
    assert "hardly more than" in said or "no more than random directions do" in said


def test_a_planted_subspace_rebuilds_unseen_models(open_page: Open) -> None:
    app = shown(open_page, c="demo:planted", k="6")
    assert number(app, "Unseen models") < 70
    assert number(app, "Mean only") > 95


def test_one_group_among_the_chosen_falls_back_to_single_models(open_page: Open) -> None:
    assert "With each model held out" in answer(shown(open_page, m=["task=prime", "task=prime"]))


def test_whole_checkpoints_count_what_is_not_shared(open_page: Open) -> None:
    app = shown(open_page, count="whole checkpoints")
    assert answer(app)
    assert app.query_params["count"] == "whole checkpoints"


def test_too_few_models_are_said_and_got_out_of(open_page: Open) -> None:
    app = shown(open_page, m=["task=prime", "seed=0"])
    assert "needs at least two models; 1 are chosen" in told(app).replace("\\", "")
    app.button(key="way.Choose all models").click().run()
    assert "With each task held out" in answer(app)


def test_networks_are_rebuilt_and_scored_on_demand(open_page: Open) -> None:
    app = shown(open_page, m=["task=prime", "task=parity"], l=["blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight"])
    before = len(app.get("plotly_chart"))
    next(each for each in app.button if each.label == "Compute").click().run()
    _wait_for_jobs()
    app.run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == before + 2
    assert not [each for each in app.button if each.label == "Compute"]


def _wait_for_jobs() -> None:
    from uws_core.ui.serve.grams import jobs

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
    assert "directions of the collection leave" in said
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
    assert "With each task held out" in answer(app)
