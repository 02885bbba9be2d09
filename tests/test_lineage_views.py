"""What is shown of a lineage: its frames, its sentences and its figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.planted import families, gram_of, noise
from uws_core.analysis.attributes import explained, overlaps
from uws_core.analysis.lineage import lineage
from uws_core.analysis.model_map import model_map
from uws_core.answers.lineage import answer
from uws_core.charts import lineage as charts
from uws_core.frames import lineage as frames
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import Lineage
from uws_core.zoo import synthetic
from uws_core.zoo.synthetic import SyntheticCollection

TASKS = ["a"] * 5 + ["b"] * 3 + ["c"]


@pytest.fixture(scope="module")
def gram() -> Gram:
    rows = families([5, 3, 1], 2000, likeness=0.8, seed=0)
    rows[2] = rows[4] * 1.0001
    return gram_of(rows)


@pytest.fixture(scope="module")
def family(gram: Gram) -> Lineage:
    return lineage(gram)


def said(rows: np.ndarray, **options: float) -> str:
    return answer(lineage(gram_of(rows), **options), location="`2.attn.q`")  # type: ignore[arg-type]


def test_model_frame_tells_group_neighbour_and_strength(gram: Gram, family: Lineage) -> None:
    frame = frames.models(family, gram.entry_stats)
    assert frame["group"].to_list() == [1] * 5 + [2] * 3 + [3]
    assert frame["group_size"].to_list() == [5] * 5 + [3] * 3 + [1]
    assert frame["representative"].sum() == 3
    assert frame["nearest"][2] == "model-4"
    assert frame["cosine"][8] == pytest.approx(family.cosines[8, :8].max())
    assert frame["norm_ratio"].median() == pytest.approx(1)
    np.testing.assert_allclose(frame["entry_std"], gram.entry_stats.std)
    assert frames.models(family)["entry_std"].null_count() == 9


def test_model_frame_follows_the_chosen_members(gram: Gram) -> None:
    frame = frames.models(lineage(gram, members=[8, 0, 5]), gram.entry_stats)
    assert frame["model"].to_list() == ["model-8", "model-0", "model-5"]
    np.testing.assert_allclose(frame["entry_std"], gram.entry_stats.std[[8, 0, 5]])


def test_group_frame_is_one_row_a_group(family: Lineage) -> None:
    frame = frames.groups(family)
    assert frame["models"].to_list() == [5, 3, 1]
    assert frame["share"].sum() == pytest.approx(1)
    assert frame["mean_cosine"].to_list()[2] is None
    assert frame["mean_cosine"][1] == pytest.approx(
        np.mean([family.cosines[i, j] for i, j in ((5, 6), (5, 7), (6, 7))])
    )


def test_pair_frames(family: Lineage) -> None:
    assert frames.cosines(family).height == 36
    pair = frames.cosines(family).filter((pl.col("left") == "model-2") & (pl.col("right") == "model-4"))
    assert pair["cosine"].item() == pytest.approx(1)
    assert frames.duplicates(family).row(0)[:2] == ("model-2", "model-4")
    assert frames.duplicates(family)["distance"].to_list() == pytest.approx([1e-4], rel=0.01)


def test_a_model_without_direction_has_empty_cells() -> None:
    rows = families([3, 3], 300, likeness=0.8, seed=1)
    rows[1] = 0
    frame = frames.models(lineage(gram_of(rows)))
    assert frame["nearest"][1] is None
    assert frame["cosine"][1] is None


def test_outlier_and_stability_frames() -> None:
    made = synthetic.reinitialised()
    family = lineage(gram_of(made.layers["blocks.0.mlp.up.weight"].reshape(40, -1)))
    assert frames.outliers(family)["kind"].to_list() == ["never trained"] * 4
    steady = frames.stability(family)
    assert steady["groups"].is_sorted()
    assert steady["agreement"].max() == pytest.approx(1)
    listed = frames.models(family)
    assert listed.filter(pl.col("suspicion").is_not_null()).height == 4


def test_attribute_frames(gram: Gram, family: Lineage) -> None:
    table = {"task": TASKS, "name": list(gram.labels), "author": ["me"] * 9}
    frame = frames.overlaps(overlaps(family.groups, table, draws=99))
    assert frame.row(0)[:4] == ("task", 3, 1.0, 0.01)
    assert frame["note"].null_count() == 1
    points = model_map(gram, kept=3)
    told = frames.explained([explained(points, column, name=name, draws=99) for name, column in table.items()])
    assert told.height == 9
    assert told.filter(pl.col("column") == "task")["explained"][0] > 0.9
    assert told.filter(pl.col("column") == "author")["explained"].null_count() == 3


def test_point_frame_holds_coordinates_and_attributes(gram: Gram) -> None:
    points = model_map(gram, kept=3)
    frame = frames.points(points, {"task": TASKS, "model": list(range(9))})
    assert frame.columns == ["model", "component_1", "component_2", "component_3", "task"]
    assert frame["model"].to_list() == list(gram.labels)
    np.testing.assert_allclose(frame["component_2"], points.coordinates[:, 1])


def test_every_column_is_explained(gram: Gram, family: Lineage) -> None:
    table = {"task": TASKS}
    points = model_map(gram)
    shown = [
        frames.models(family),
        frames.groups(family),
        frames.cosines(family),
        frames.duplicates(family),
        frames.outliers(family),
        frames.stability(family),
        frames.overlaps(overlaps(family.groups, table, draws=9)),
        frames.explained([explained(points, TASKS, name="task", draws=9)]),
    ]
    assert {name for frame in shown for name in frame.columns} <= set(frames.HELP)


def test_the_answer_tells_groups_and_copies(family: Lineage) -> None:
    assert answer(family, location="`2.attn.q`") == (
        "2 groups of relatives and 1 model alone: in `2.attn.q`, the weights count as 2.3 "
        "lineages of equal size. Check first: models without relatives, near copies."
    )


def test_the_answer_for_one_lineage_and_for_strangers() -> None:
    assert re.fullmatch(
        r"One lineage: in `2\.attn\.q`, the weights of these 6 models belong together; the smallest cosine is "
        r"0\.(8|9)\d\. Check first: all cosines are equal\.",
        said(families([6], 900, likeness=0.9, seed=1), threshold=0.5),
    )
    apart = said(np.random.default_rng(0).laplace(size=(6, 900)))
    assert apart.startswith("No relatives: in `2.attn.q`, the weights of these 6 models are apart")
    assert "outliers" not in apart


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (synthetic.noise, "entries as if never trained"),
        (synthetic.permuted, "neurons in another order"),
        (synthetic.reinitialised, "models that look never trained"),
    ],
)
def test_the_answer_warns_of_outliers(make: Callable[[], SyntheticCollection], kind: str) -> None:
    assert said(make().layers["blocks.0.mlp.up.weight"].reshape(40, -1)).endswith(f" Check first: {kind}.")


def test_centres_are_named() -> None:
    rows = noise(5, 100, seed=0)
    gram = gram_of(rows, base=rows.mean(axis=0) / 2)
    for about, words in {
        "base": "the changes from the base",
        "mean": "the differences from the mean",
        "model-0": "the differences from `model-0`",
    }.items():
        assert words in answer(lineage(gram, about=about), location="x")


def test_likeness_figure_shows_cosines_in_the_order_of_likeness(family: Lineage) -> None:
    drawn = charts.cosine_heatmap(family, groups=[str(group) for group in family.groups])
    cells = np.array(drawn.data[0].z, dtype=float)
    leaves = family.order.leaves
    assert cells[0, 1] == pytest.approx(family.cosines[leaves[0], leaves[1]])
    assert any("chance" in text for text in drawn.data[0].colorbar.ticktext)


def test_map_figure_gives_every_value_its_colour_and_every_point_its_model(gram: Gram) -> None:
    points = model_map(gram, kept=2)
    frame = frames.points(points, {"task": [None, *TASKS[1:]], "score": [0.1 * i for i in range(9)]})
    drawn = charts.model_map(frame, shares=points.shares, colour="task", chosen="model-5")
    assert [trace.name for trace in drawn.data] == ["a", "b", "c", "not known", "chosen"]
    assert list(drawn.data[1].customdata) == ["model-5", "model-6", "model-7"]
    assert len({trace.marker.color for trace in drawn.data[:3]}) == 3
    assert drawn.data[4].x[0] == pytest.approx(points.coordinates[5, 0])
    assert "component 1 (" in drawn.layout.xaxis.title.text
    assert [trace.name for trace in charts.model_map(frame, shares=points.shares).data] == ["models"]


def test_map_figure_takes_many_numbers_as_a_scale_and_one_component_as_a_line() -> None:
    rows = noise(30, 50, seed=1)
    points = model_map(gram_of(rows), kept=1)
    frame = frames.points(points, {"score": [0.1 * i for i in range(30)]})
    drawn = charts.model_map(frame, shares=points.shares, colour="score")
    assert len(drawn.data) == 1
    assert drawn.data[0].marker.colorbar.title.text == "score"
    assert set(drawn.data[0].y) == {0.0}
    assert drawn.layout.yaxis.title.text == "component 2 (none)"


def test_stability_figure_marks_the_threshold_and_what_chance_joins(family: Lineage) -> None:
    drawn = charts.stability(frames.stability(family), threshold=family.threshold, chance=family.chance)
    assert list(drawn.data[0].y) == family.stability.groups.tolist()
    assert sorted(shape.type for shape in drawn.layout.shapes) == ["line", "rect"]
    assert drawn.layout.shapes[1].x0 == family.threshold or drawn.layout.shapes[0].x0 == family.threshold
    quiet = charts.stability(frames.stability(family), threshold=0.5, chance=-1.0)
    assert [shape.type for shape in quiet.layout.shapes] == ["line"]


def test_explained_figure_leaves_out_what_has_no_number(gram: Gram) -> None:
    points = model_map(gram, kept=3)
    table = {"task": TASKS, "author": ["me"] * 9}
    found = frames.explained([explained(points, column, name=name, draws=9) for name, column in table.items()])
    drawn = charts.explained(found)
    assert list(drawn.data[0].y) == ["task"]
    assert np.array(drawn.data[0].z, dtype=float)[0, 0] > 0.9
    empty = charts.explained(found.filter(pl.col("column") == "author"))
    assert np.array(empty.data[0].z).size == 0


def test_a_lineage_refuses_arrays_of_other_sizes(family: Lineage) -> None:
    with pytest.raises(ValueError, match="9 models does not have cosines of shape"):
        replace(family, cosines=family.cosines[:4])
