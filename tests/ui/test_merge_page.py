"""The merge page: members, verdict, warnings with a way out, scores, and a folder that opens beside its members."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open, after_work, drawn
from uws_core.zoo.demo import DATA

LAYERS = ["blocks.0.attn.q.weight", "blocks.1.attn.q.weight"]


def told(app: AppTest) -> str:
    """Everything the page says."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    texts = (*app.subheader, *app.markdown, *app.caption, *app.error, *app.warning)
    return "\n".join(each.value for each in texts).replace("\\", "")


def answer(app: AppTest) -> str:
    """The answer line."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return str(app.subheader[0].value)


def metrics(app: AppTest) -> dict[str, str]:
    """The numbers beside the answer."""
    return {each.label: each.value for each in app.metric}


def test_one_of_each_task_is_merged_and_the_verdict_is_against_the_mean(open_page: Open) -> None:
    app = open_page("merge", c="demo:finetuned", l=LAYERS)
    assert answer(app).startswith("Not the mean, too long at scale 1: TIES lies ")
    assert metrics(app)["Members"] == "10"
    # Every method that needs Gram matrices only, and the chosen one, on one axis.
    names = {trace["name"] for trace in drawn(app)[0]["data"]}
    assert {"TIES", "Mean", "base", "other methods"} <= names


def test_who_is_merged_and_how_is_kept_in_the_address(open_page: Open) -> None:
    app = open_page("merge", c="demo:lora", l=LAYERS, take="all 40 chosen", by="Karcher mean", lam="0.5")
    assert metrics(app)["Members"] == "40"
    assert "too long at scale 0.5: Karcher mean" in answer(app)
    app.text_input(key="weights").set_value("1 2").run()
    assert "2 weights for 40 members" in told(app)


def test_the_mean_at_scale_one_is_the_mean(open_page: Open) -> None:
    app = open_page("merge", c="demo:finetuned", l=LAYERS, by="Mean")
    assert metrics(app)["To the mean"] == "0 %"
    assert "of the weakest member's update; independent ones keep 10 %" in answer(app)
    app.slider(key="lam").set_value(0.0).run()
    assert "This is the base" in answer(app)


def test_unrelated_networks_are_not_to_be_merged(open_page: Open) -> None:
    app = open_page("merge", c="demo:scratch", l=LAYERS)
    assert answer(app).startswith("Do not merge these as they are. No two of these 10 models share a base")
    # Without a base there is no scale to move along, and no method that starts from a base.
    assert not app.slider
    assert "ties" not in app.selectbox(key="by").options


def test_a_copy_is_found_and_the_way_out_leaves_it(open_page: Open, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("prime-0", "parity-0", "inverted-0", "noisy-0"):
        save_file(load_file(DATA / "finetuned" / f"{name}.safetensors"), folder / f"{name}.safetensors")
    state = load_file(DATA / "finetuned" / "prime-0.safetensors")
    save_file({name: tensor * 1.0001 for name, tensor in state.items()}, folder / "again.safetensors")
    from uws_core.ui.catalogue import catalogue

    app = open_page("merge", c=catalogue().add(str(folder)), l=LAYERS)
    assert "again, prime-0 are near copies" in told(app)
    app.button(key="way.copies").click().run()
    assert metrics(app)["Members"] == "4"
    assert "near copies" not in told(app)


def test_signs_and_directions_are_measured_with_the_page(open_page: Open) -> None:
    app = open_page("merge", c="demo:lora", l=LAYERS)
    layers = next(frame.value for frame in app.dataframe if "least_cosine" in frame.value.columns)
    assert layers["opposed"].between(0.3, 0.6).all()
    assert (layers["overlap"] > layers["overlap_chance"]).all()


def test_the_merge_is_written_below_a_root_and_opens_beside_its_members(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("merge", c="demo:finetuned", by="Task arithmetic", lam="0.2")
    field = next(each for each in app.text_input if each.label == "Folder to write")
    field.set_value("../outside").run()
    app.button(key="merge.write").click().run()
    assert "outside the folders" in told(app)
    next(each for each in app.text_input if each.label == "Folder to write").set_value("merged").run()
    app.button(key="merge.write").click().run()
    after_work(app, lambda: "is written" in told(app))
    recipe = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert recipe["recipe"]["scale"] == 0.2
    assert len(recipe["members"]) == 10
    app.button(key="merge.open").click().run()
    assert app.title[0].value == "Angles"
    assert "11 of 11 models" in app.sidebar.caption[0].value


def test_merging_one_of_each_group_starts_on_the_lineage_page(open_page: Open) -> None:
    app = open_page("lineage", c="demo:finetuned", likeness="about base", layer="sum")
    groups = metrics(app)["Groups"]
    app.button(key="kin.merge").click().run()
    assert app.title[0].value == "Merge"
    assert metrics(app)["Members"] == groups


def test_scores_decide_once_the_networks_were_tried(open_page: Open) -> None:
    app = open_page("merge", c="demo:finetuned", m=["prime-0", "rotated-0"], by="Task arithmetic")
    start = next(button for button in app.button if "merge scores" in str(button.key))
    start.click().run()
    after_work(app, lambda: "each at its best scale" in answer(app))
    assert "Task arithmetic keeps" in answer(app)
    table = next(frame.value for frame in app.dataframe if "score_kept" in frame.value.columns)
    best = {row.method: row for row in table.itertuples()}
    # The sum of two updates is twice their mean: at half the scale it is the same network with the same score.
    points = next(frame.value for frame in app.dataframe if "judge" in frame.value.columns)
    scores = points.set_index(["method", "scale", "model"])["judge"]
    assert scores["Task arithmetic", 0.5, "prime-0"] == scores["Mean", 1.0, "prime-0"]
    assert best["Mean"].score_kept > 0.5
