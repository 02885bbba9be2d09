"""The lineage page says who is related to whom, chooses groups for every page, and is clear where it cannot tell."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from tests.planted import families
from tests.ui.conftest import Open, after_work, drawn
from uws_core.export import Draw, Provenance
from uws_core.ui import figures
from uws_core.ui.catalogue import catalogue

LAYER = "blocks.0.up.weight"


def answer(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return next((each.value for each in app.subheader), "")


def told(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return "\n".join(each.value for each in (*app.markdown, *app.caption)).replace("\\", "")


def numbers(app: AppTest) -> dict[str, str]:
    return {each.label: each.value for each in app.metric}


def kept(open_page: Open, folder: Path, rows: np.ndarray, table: str = "", **params: str) -> AppTest:
    """The page on models with these rows as their one layer, in a folder of their own."""
    folder.mkdir()
    for i, row in enumerate(rows.astype(np.float32)):
        save_file({LAYER: row.reshape(20, -1)}, folder / f"m{i}.safetensors")
    if table:
        (folder / "models.csv").write_text(table)
    return open_page("lineage", c=catalogue().add(str(folder)), **params)


@pytest.mark.parametrize(
    ("collection", "params", "says"),
    [
        ("demo:finetuned", {}, "One lineage: in `0.attn.k`, the weights of these 40 models belong together"),
        ("demo:finetuned", {"likeness": "about base"}, "the changes from the base count as 3.4 lineages of equal size"),
        ("demo:finetuned", {"likeness": "about mean", "layer": "sum"}, "the differences from the mean count as"),
        ("demo:finetuned", {"layer": "each"}, "in these layers together"),
        ("demo:scratch", {}, "are apart"),
        ("demo:untrained", {}, "Check first: "),
        ("demo:planted", {}, "One lineage: "),
        ("demo:two-lineages", {}, "2 groups of relatives: "),
        ("demo:lora", {"likeness": "A factors"}, "in the A factors of `0.attn.k`"),
        ("demo:lora", {"likeness": "A factors", "layer": "sum"}, "in the A factors of these layers together"),
    ],
)
def test_every_collection_is_answered(open_page: Open, collection: str, params: dict[str, str], says: str) -> None:
    app = open_page("lineage", c=collection, **params)
    assert says in answer(app)
    assert len(drawn(app)) == 5


@pytest.mark.parametrize(("threshold", "groups"), [("-1", "1"), ("1", "40")])
def test_a_threshold_at_an_end_gives_one_group_or_as_many_as_models(
    open_page: Open, threshold: str, groups: str
) -> None:
    app = open_page("lineage", c="demo:finetuned", likeness="about base", threshold=threshold)
    assert numbers(app)["Groups"] == groups
    assert app.button(key="kin.each").disabled
    # One group is everything, and a group of one has nothing to be compared with.
    assert app.button(key="kin.use").disabled


def test_a_group_and_one_of_each_become_what_is_chosen_everywhere(open_page: Open, tmp_path: Path) -> None:
    rows = families([5, 3, 2], 400, likeness=0.9, seed=1)
    app = kept(open_page, tmp_path / "three", rows)
    assert numbers(app)["Groups"] == "3"
    app.button(key="kin.each").click().run()
    assert "of these 3 models are apart" in answer(app)
    assert [np.searchsorted([5, 8], int(name[1:]), "right") for name in app.query_params["m"]] == [0, 1, 2]
    app.button(key="kin.all").click().run()
    next(box for box in app.main.selectbox if box.label == "Group").set_value(2).run()
    app.button(key="kin.use").click().run()
    assert app.query_params["m"] == ["m5", "m6", "m7"]
    app.switch_page("pages/spectrum.py").run()
    assert "3 of 10 models" in app.sidebar.caption[0].value


def test_a_choice_of_layer_elsewhere_is_not_changed_by_looking(open_page: Open) -> None:
    app = open_page("lineage", c="demo:finetuned", layer="each")
    assert app.query_params["layer"] == "each"
    next(box for box in app.main.selectbox if box.label == "Layer").set_value("blocks.2.attn.q.weight").run()
    assert "in `2.attn.q`" in answer(app)
    assert app.query_params["layer"] == "blocks.2.attn.q.weight"


def test_what_cannot_be_compared_here_is_not_asked(open_page: Open) -> None:
    app = open_page("lineage", c="demo:lora", likeness="A factors")
    app.sidebar.selectbox[0].set_value("demo:planted").run()
    assert "the weights of these 40 models" in answer(app)
    assert app.segmented_control[0].options == ["raw", "about mean"]


@pytest.mark.parametrize("count", [2, 3])
def test_few_models_are_compared(open_page: Open, tmp_path: Path, count: int) -> None:
    app = kept(open_page, tmp_path / "few", families([count], 400, likeness=0.9, seed=2))
    assert f"these {count} models belong together" in answer(app)
    app.segmented_control[0].set_value("about mean").run()
    assert answer(app)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("", "No column of a models table"),
        ("model,same\n" + "".join(f"m{i},a\n" for i in range(6)), "one value only"),
        ("model,own\n" + "".join(f"m{i},v{i}\n" for i in range(6)), "a value of its own"),
    ],
    ids=["none", "one value", "all distinct"],
)
def test_columns_that_explain_nothing_say_why(open_page: Open, tmp_path: Path, table: str, says: str) -> None:
    app = kept(open_page, tmp_path / "plain", families([3, 3], 400, likeness=0.9, seed=3), table)
    assert "2 groups of relatives: " in answer(app)
    notes = "\n".join(str(frame.value.to_string()) for frame in app.dataframe)
    assert says in told(app) + notes
    assert len(drawn(app)) == 4


def test_equal_models_are_copies_and_have_no_direction_about_their_mean(open_page: Open, tmp_path: Path) -> None:
    row = families([1], 400, likeness=0.9, seed=4)
    app = kept(open_page, tmp_path / "equal", np.repeat(row, 4, axis=0))
    assert numbers(app)["Near copies"] == "6"
    app.segmented_control[0].set_value("about mean").run()
    assert "no two can be compared" in told(app)
    assert not drawn(app)


def test_zeros_everywhere_say_so(open_page: Open, tmp_path: Path) -> None:
    app = kept(open_page, tmp_path / "zeros", np.zeros((4, 400)))
    assert "no two can be compared" in told(app)


def test_an_odd_model_is_named_with_its_reason(open_page: Open, tmp_path: Path) -> None:
    rows = families([7], 400, likeness=0.9, seed=5)
    rows[6, 3] = np.nan
    app = kept(open_page, tmp_path / "broken", rows)
    assert "Check first: " in answer(app)
    assert "**m6**, non-finite: 1 of 400 entries are NaN or infinite" in told(app)


def test_the_nearest_of_a_chosen_model_are_named(open_page: Open, tmp_path: Path) -> None:
    app = kept(open_page, tmp_path / "near", families([2, 4], 400, likeness=0.9, seed=6))
    assert "Nearest to **m0**, with cosines: m1 0.9" in told(app)
    next(box for box in app.main.selectbox if box.label == "Model").set_value("m1").run()
    assert "Nearest to **m1**, with cosines: m0 0.9" in told(app)


def test_an_export_says_how_to_see_the_same_again(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: dict[str, Provenance] = {}
    figure = figures.figure

    def noted(title: str, draw: Draw, frame: pl.DataFrame, source: Provenance, **how: str) -> None:
        sources[how["key"]] = source
        figure(title, draw, frame, source, **how)

    monkeypatch.setattr(figures, "figure", noted)
    before = answer(open_page("lineage", c="demo:finetuned", likeness="about base", threshold="0.4"))
    assert len({source.stem for source in sources.values() if source.stem.startswith("lineage")}) == 5
    assert sources["map"].settings["likeness"] == "about base"
    assert "kind" not in sources["map"].columns
    query = {key: values[0] for key, values in parse_qs(urlsplit(sources["map"].address).query).items()}
    assert query["threshold"] == "0.4"
    assert answer(open_page("lineage", **query)) == before


def test_an_exact_test_says_who_is_a_relative(open_page: Open) -> None:
    app = open_page("lineage", c="demo:finetuned")
    assert "Testing whether 2 models were trained independently" in told(app)
    next(b for b in app.button if "independence" in str(b.key) and b.label == "Compute").click().run()
    after_work(app, lambda: "Not trained independently" in told(app))
    assert "p = 0.001 with 999 permuted copies" in told(app)
    assert "64 hidden units of `blocks.0.mlp`. p cannot be below 1 / 1000" in told(app)


def test_where_no_exact_test_can_be_had_the_page_says_why(open_page: Open, tmp_path: Path) -> None:
    assert "an exact test takes whole networks" in told(open_page("lineage", c="demo:lora"))
    rows = np.random.default_rng(0).standard_normal((6, 400))
    assert "no two matrices around one are known here" in told(kept(open_page, tmp_path / "own", rows))
