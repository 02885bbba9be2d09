"""Frames, sentences and figures of principal angles: the numbers of the nouns, in words that follow from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.planted import gram_of, noise, side_gram_of
from tests.test_angles import factors_of, models_in
from uws_core.analysis.angle_tables import chance_level, model_angles, side_table
from uws_core.analysis.angles import chance_band, level_of, shared_angles
from uws_core.analysis.group_angles import group_angles, half_angles, relabelled
from uws_core.analysis.order import by_likeness
from uws_core.answers.angles import answer, answer_halves
from uws_core.charts import angle_tables as table_charts
from uws_core.charts import angles as charts
from uws_core.charts.style import DARK, LIGHT, PRINT
from uws_core.frames import angles as frames
from uws_core.nouns.angles import AngleTable
from uws_core.nouns.gram import Axis

TOLD = {"location": "`0.q`", "side": "in"}


def noise_table(n: int = 12, *, k: int = 3) -> AngleTable:
    return model_angles(factors_of(noise(n, 20 * 30, seed=0).reshape(n, 20, 30), kept=k), side="in", kept=k)


def random_table(g: int) -> AngleTable:
    """Any angles at all between `g` models with names of a usual length."""
    values = np.random.default_rng(14).uniform(0, np.pi / 2, (g, g)).astype(np.float32)
    return AngleTable(
        what="models",
        labels=tuple(f"organisation/model-{i:04d}" for i in range(g)),
        radians=((values + values.T) / 2)[:, :, None],
        kept=np.ones(g),
        sizes=np.ones(g),
        chance=np.full((g, g), 0.1),
        dimension=10,
        asked=1,
        floor=1e-7,
    )


def alike_table() -> AngleTable:
    """Eight models whose rows all lie in the same three directions."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((30, 3)))[0]
    return model_angles(factors_of(rng.standard_normal((8, 20, 3)) @ basis.T, kept=3), side="in", kept=3)


def test_pairs_hold_every_different_pair_once():
    table = noise_table(5)
    frame = frames.pairs(table)
    assert frame.height == 10
    row = frame.filter((pl.col("left") == "model-1") & (pl.col("right") == "model-3")).row(0, named=True)
    assert row["overlap"] == pytest.approx(table.overlap[1, 3])
    assert row["mean_degrees"] == pytest.approx(table.mean_degrees[1, 3])
    assert row["chance"] == pytest.approx(3 / 30)
    assert row["z"] is None
    assert set(frame.columns) <= set(frames.HELP)


def test_pairs_carry_their_band_and_leave_unknown_ones_empty():
    gram, groups = gram_of(noise(11, 60, seed=2)), list("aaaaabbbbbc")
    band = relabelled(gram, groups, kept=2, draws=20)
    frame = frames.pairs(group_angles(gram, groups, kept=2), band)
    first, lonely = frame.row(0, named=True), frame.row(1, named=True)
    assert first["low"] <= first["middle"] <= first["high"]
    assert first["p"] == pytest.approx(band.p[0, 1])
    assert (lonely["right"], lonely["overlap"], lonely["mean_degrees"]) == ("c", None, None)


def test_every_row_names_its_nearest():
    table = noise_table(6)
    frame = frames.subspaces(table, {"task": list("uvwxyz")})
    overlap = table.overlap - 2 * np.eye(6)
    assert frame["nearest"].to_list() == [table.labels[k] for k in overlap.argmax(axis=1)]
    assert frame["mean_overlap"][2] == pytest.approx((table.overlap[2].sum() - 1) / 5)
    assert frame["task"].to_list() == list("uvwxyz")


def test_a_pair_and_its_cosines_come_whole():
    angles = shared_angles(gram_of(noise(12, 80, seed=3)), range(6), range(6, 12), kept=3)
    frame = frames.pair(angles, chance_band(angles))
    np.testing.assert_allclose(frame["degrees"], angles.degrees)
    assert frame["low"].null_count() == 0
    cells = frames.cosines(angles)
    assert cells.row(5) == (2, 3, pytest.approx(angles.cosines[1, 2]))


def test_models_at_chance_and_models_alike_are_told_apart():
    plain, alike = noise_table(), alike_table()
    assert "No more than chance: " in answer(plain, level=chance_level(plain), **TOLD)
    said = answer(alike, level=chance_level(alike), **TOLD)
    assert said == "Far above chance: in `0.q`, the 3 leading input directions of two models overlap by 1.00, " + (
        "random ones by 0.10."
    )


def test_all_directions_there_are_say_nothing():
    table = noise_table(4, k=20)
    everything = model_angles(factors_of(noise(4, 900, seed=4).reshape(4, 30, 30), kept=30), side="in", kept=30)
    assert "all the directions there are" in answer(everything, level=chance_level(everything), **TOLD)
    assert "all the directions there are" not in answer(table, level=chance_level(table), **TOLD)


def test_a_few_pairs_beyond_chance_are_counted():
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.standard_normal((30, 3)))[0]
    stack = noise(12, 600, seed=6).reshape(12, 20, 30)
    stack[:4] = rng.standard_normal((4, 20, 3)) @ basis.T
    table = model_angles(factors_of(stack, kept=3), side="in", kept=3)
    assert "Mostly no more than chance: in `0.q`, " in answer(table, level=chance_level(table), **TOLD)


def test_groups_are_judged_against_shuffled_labels():
    rng = np.random.default_rng(7)
    own = [np.linalg.qr(rng.standard_normal((100, 2)))[0] for _ in range(2)]
    rows = np.concatenate([models_in(basis, n=10, seed=i) for i, basis in enumerate(own)])
    groups = ["a"] * 10 + ["b"] * 10
    for array, says in (
        (rows - rows.mean(axis=0), "More different than random groups: "),
        (noise(20, 100, seed=8), "No different from random groups: "),
    ):
        gram = gram_of(array + 0.1 * noise(20, 100, seed=9))
        table, band = group_angles(gram, groups, kept=2), relabelled(gram, groups, kept=2, draws=60)
        said = answer(table, level=chance_level(table), band=band, by="task", location="`0.q`", side="models")
        assert says in said
        assert "of two values of `task` overlap by" in said


def test_what_cannot_be_compared_says_so():
    gram = gram_of(noise(3, 40, seed=10))
    lonely = group_angles(gram, list("abc"), kept=2)
    assert "cannot tell: `task` must give at least two groups" in answer(
        lonely, level=chance_level(lonely), by="task", location="x", side="models"
    )
    widths = [side_gram_of(noise(4, 8 * w, seed=w).reshape(4, 8, w), axis=Axis.IN) for w in (5, 7)]
    table = side_table(widths, kept=2)
    assert "fewer than two layers" in answer(table, level=chance_level(table), **TOLD)


@pytest.mark.parametrize(
    ("array", "says"), [("noise", "No more than chance"), ("shared", "Both halves share most directions")]
)
def test_halves_are_answered(array: str, says: str):
    basis = np.linalg.qr(np.random.default_rng(11).standard_normal((200, 2)))[0]
    rows = noise(20, 200, seed=12) if array == "noise" else models_in(basis, n=20, seed=13)
    splits = half_angles(gram_of(rows), kept=2, repeats=8)
    level = level_of(2, 2, splits[0].dimension)
    said = answer_halves(splits, location="`0.q`", side="models", level=level, by="task")
    assert says in said
    assert "each task in one half" in said
    assert frames.halves(splits, chance_band(splits[0])).height == 16


@pytest.mark.parametrize("theme", [LIGHT, DARK, PRINT], ids=lambda theme: theme.name)
def test_the_heatmap_shows_the_table_in_its_order(theme):
    table = noise_table(9)
    order = by_likeness(table.mean_degrees)
    drawn = table_charts.heatmap(table, order, chance=72.0, chosen=(2, 5), groups=list("aabbccdde"), theme=theme)
    cells = drawn.data[0]
    expected = table.mean_degrees[np.ix_(order.leaves, order.leaves)]
    np.testing.assert_allclose(cells.z[~np.eye(9, dtype=bool)], expected[~np.eye(9, dtype=bool)])
    assert np.isnan(np.diag(cells.z)).all()
    assert (cells.zmin, cells.zmax) == (0, 90)
    assert list(drawn.layout.yaxis.ticktext) == [table.labels[k] for k in order.leaves]
    assert "◂ chance 72" in cells.colorbar.ticktext
    targets = next(trace for trace in drawn.data if trace.name == "cells")
    i, j = targets.customdata[0]
    assert f"{table.labels[i]}, {table.labels[j]}" in targets.text[0]
    assert len(drawn.layout.shapes) == 2
    assert {trace.name for trace in drawn.data} >= {"tree", "group"}


def test_fitted_colours_end_where_the_numbers_end():
    table = noise_table(6)
    order = by_likeness(table.mean_degrees)
    fitted = table_charts.heatmap(table, order, measure=replace(table_charts.MEAN, fit=True)).data[0]
    apart = table.mean_degrees[~np.eye(6, dtype=bool)]
    assert (fitted.zmin, fitted.zmax) == (pytest.approx(apart.min()), pytest.approx(apart.max()))
    overlap = table_charts.heatmap(table, order, measure=table_charts.OVERLAP).data[0]
    assert overlap.zmax == pytest.approx(table.overlap[~np.eye(6, dtype=bool)].max())


@pytest.mark.parametrize("g", [101, 300, 500])
def test_hundreds_of_rows_keep_names_and_clicks_in_a_small_figure(g: int):
    table = random_table(g)
    order = by_likeness(np.full((g, g), np.nan))
    drawn = table_charts.heatmap(table, order, chosen=(2, 5))
    # All names once, in the order of the cells: hover texts take them from the axes, where they are not written out.
    for axis in (drawn.layout.xaxis, drawn.layout.yaxis):
        assert list(axis.ticktext) == [table.labels[k] for k in order.leaves]
        assert axis.showticklabels is False
    targets = next(trace for trace in drawn.data if trace.name == "cells")
    assert targets.x.size == g * (g - 1)
    assert "%{y}, %{x}" in targets.hovertemplate
    at = 3 * g + 7
    x, y = int(targets.x[at]), int(targets.y[at])
    assert targets.customdata[at] == pytest.approx(table.mean_degrees[order.leaves[y], order.leaves[x]], rel=1e-6)
    assert "clickmode" in str(drawn.layout)
    megabytes = len(drawn.to_json()) / 1e6
    print(f"{g} rows: {megabytes:.2f} MB")
    # 20 bytes a cell: its value twice and its place, in binary.
    assert megabytes < 0.1 + 20e-6 * g * g


def test_a_click_is_found_by_its_place_or_by_its_rows():
    leaves = np.array([4, 2, 0, 1, 3])
    assert table_charts.clicked({"customdata": [3, 1], "x": 0, "y": 0}, leaves) == (3, 1)
    assert table_charts.clicked({"customdata": 12.5, "x": 1, "y": 4}, leaves) == (3, 2)
    for broken in ({}, {"x": 1}, {"x": 9, "y": 1}, {"x": -1, "y": 1}, {"customdata": [9, "a"]}, {"x": None, "y": "a"}):
        assert table_charts.clicked(broken, leaves) is None


def test_a_thousand_rows_are_pooled_into_means_of_blocks():
    g = 1100
    table = random_table(g)
    values = table.radians[:, :, 0]
    plain = table_charts.heatmap(table, by_likeness(np.full((g, g), np.nan)))
    assert plain.data[0].z.shape == (367, 367)
    assert plain.layout.xaxis.title.text.startswith("1100 rows on 367: a cell is the mean of up to 3 x 3 pairs")
    degrees = np.degrees(values.astype(np.float64))
    order = by_likeness(np.full((g, g), np.nan)).leaves[:6]
    block = degrees[np.ix_(order[:3], order[3:6])]
    assert plain.data[0].z[0, 1] == pytest.approx(block.mean(), rel=1e-5)


def test_angles_below_the_floor_are_grey_and_hollow_and_say_so():
    angles = shared_angles(gram_of(noise(12, 80, seed=15)), range(6), range(6, 12), kept=3)
    floor = (angles.degrees[0] + angles.degrees[1]) / 2
    frame = frames.pair(angles)
    assert frame["floor_degrees"].to_list() == [pytest.approx(np.degrees(angles.floor))] * 3
    drawn = charts.pair(frame, floor_degrees=floor).data[0]
    assert list(drawn.marker.symbol) == ["circle-open", "circle", "circle"]
    assert list(drawn.marker.color) == [LIGHT.quiet, LIGHT.series[0], LIGHT.series[0]]
    assert f"below the floor of {floor:.2g}°" in drawn.text[0]
    assert not drawn.text[1]
    assert frames.pairs(noise_table(4))["floor_degrees"][0] == pytest.approx(np.degrees(2e-7))


def test_pair_halves_and_cosines_are_drawn_with_their_band():
    gram = gram_of(noise(12, 80, seed=15))
    angles = shared_angles(gram, range(6), range(6, 12), kept=3)
    drawn = charts.pair(frames.pair(angles, chance_band(angles)), floor_degrees=2.0)
    assert {trace.name for trace in drawn.data} >= {"this pair", "random, 95 %", "random, median"}
    assert len(drawn.layout.shapes) == 1
    bare = charts.pair(frames.pair(angles))
    assert [trace.name for trace in bare.data] == ["this pair"]
    cells = charts.cosines(frames.cosines(angles), names=("a", "b"))
    np.testing.assert_allclose(cells.data[0].z, angles.cosines**2)
    splits = half_angles(gram, kept=3, repeats=5)
    halves = charts.halves(frames.halves(splits, chance_band(splits[0])))
    assert sum(trace.name == "one split" for trace in halves.data) == 5
