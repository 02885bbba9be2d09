"""Frames, sentences and figures of held-out errors: the numbers of the nouns, in words that follow from them."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from tests.planted import gram_of, noise, spiked
from tests.test_accounting import collection
from tests.test_angles import factors_of
from uws_core.analysis.accounting import storage
from uws_core.analysis.heldout import held_out, project
from uws_core.answers.reconstruction import answer, answer_unseen_model
from uws_core.charts import function as function_charts
from uws_core.charts import reconstruction as charts
from uws_core.charts.style import DARK, LIGHT, PRINT
from uws_core.frames import reconstruction as frames
from uws_core.nouns.arrays import Floats
from uws_core.nouns.heldout import FunctionPoint, HeldOut, HeldOutChance, UnseenModel, Way

KEPT = (0, 1, 3, 8)


def errors_of(rows: Floats, *, groups: object = None, **options: object) -> tuple[HeldOut, ...]:
    return held_out(gram_of(rows), groups=groups or range(len(rows)), kept=KEPT, **options)


PLANTED = spiked(20, 400, strengths=(300.0, 300.0, 300.0), seed=0)
CALM = noise(20, 400, seed=1)


def test_errors_hold_every_model_and_k_with_every_line():
    items = errors_of(CALM)
    frame = frames.errors(items)
    assert frame.height == 20 * len(KEPT)
    row = frame.filter((pl.col("model") == "model-4") & (pl.col("k") == 3)).row(0, named=True)
    for name in ("subspace", "in_sample", "random"):
        assert row[name] == pytest.approx(getattr(items[4], name)[2])
    assert (row["mean_only"], row["nothing"], row["own_svd"], row["ceiling"]) == (1.0, 1.0, None, 18)
    assert set(frame.columns) <= set(frames.HELP)
    assert frames.errors(()).height == 0


def test_the_curve_is_median_and_quartiles_over_models():
    items = errors_of(CALM)
    frame = frames.curve(items)
    left = [one.subspace[3] for one in items]
    row = frame.filter((pl.col("line") == "subspace") & (pl.col("k") == 8)).row(0, named=True)
    assert (row["low"], row["middle"], row["high"]) == pytest.approx(tuple(np.quantile(left, (0.25, 0.5, 0.75))))
    assert "own_svd" not in set(frame["line"])


def test_at_a_k_between_two_the_smaller_stands_and_the_worst_comes_first():
    frame = frames.at_rank(errors_of(CALM), 5)
    assert set(frame["k"]) == {3}
    assert frame["subspace"].is_sorted(descending=True)
    assert frames.by_layer({"a": errors_of(CALM), "b": errors_of(PLANTED)}, 3).height == 40


def test_sizes_pair_integer_counts_with_errors():
    some, items = collection((20, 20), n=20), errors_of(CALM)
    rows = [
        frames.StorageChoice("models", storage(some, kept=k, axis="models"), items, place)
        for place, k in enumerate(KEPT)
    ]
    frame = frames.sizes(rows)
    assert frame["stored"].to_list() == [400 + k * 400 + 20 * k for k in KEPT]
    assert frame["dense"].to_list() == [8000] * 4
    assert frame["ratio"][1] == pytest.approx(8000 / 820)
    assert frame["middle"][2] == pytest.approx(np.median([one.subspace[2] for one in items]))


def points() -> list[FunctionPoint]:
    found = []
    for name, own in (("a", 0.8), ("b", 0.5), ("c", float("nan"))):
        problem = "RuntimeError: no head" if name == "c" else ""
        found.append(FunctionPoint(name, "g", Way.ORIGINAL, 0, 0.0, own, problem))
        found.append(FunctionPoint(name, "g", Way.REFERENCE, 0, 1.0, own / 4, problem))
        for k, error, kept in ((0, 0.9, 0.5), (4, 0.4, 0.75)):
            found.append(FunctionPoint(name, "g", Way.HELD_OUT, k, error, own * kept, problem))
            found.append(FunctionPoint(name, "g", Way.IN_SAMPLE, k, error / 2, own * 0.9, problem))
    return found


def test_scores_are_relative_to_each_networks_own():
    frame = frames.scores(points())
    held = frame.filter((pl.col("way") == "held out") & (pl.col("k") == 4))
    assert held["kept_score"].to_list()[:2] == pytest.approx([0.75, 0.75])
    assert held["kept_score"].to_list()[2] is None
    assert frame.filter(pl.col("model") == "c")["score"].null_count() == 6
    assert frame["problem"].drop_nulls().unique().to_list() == ["RuntimeError: no head"]


def test_a_planted_subspace_is_found_and_noise_is_not():
    planted = answer(errors_of(PLANTED), k=3, location="`0.q`")
    assert re.fullmatch(
        r"The subspace generalises in `0\.q`: 3 shared directions rebuild 5\d % of an unseen model beyond the "
        r"mean, random ones 0\.[78] %\.",
        planted,
    )
    calm = answer(errors_of(CALM), k=3, location="`0.q`")
    assert re.match(r"The subspace (hardly helps|does not help) in `0\.q`:", calm)


def test_the_answer_names_what_is_held_out():
    groups = [i % 4 for i in range(20)]
    assert "% of an unseen task's model beyond the mean" in answer(
        errors_of(CALM, groups=groups), k=3, location="x", by="task"
    )


def test_models_that_do_not_differ_cannot_be_told():
    assert "cannot tell: in x no chosen model differs" in answer(errors_of(np.ones((5, 30))), k=1, location="x")


def test_a_newcomer_is_answered_for_itself():
    gram = gram_of(PLANTED[:19])
    away = PLANTED[:19] - PLANTED[:19].mean(axis=0)
    new = PLANTED[19] - PLANTED[:19].mean(axis=0)
    row = UnseenModel("mine", gram.layer, away @ new, 0.0, float(new @ new), float("nan"))
    said = answer_unseen_model(project(gram, row, kept=KEPT), k=3, location="x")
    assert re.match(r"The subspace generalises in x: 3 directions of the collection rebuild \d+ % of `mine`", said)


@pytest.mark.parametrize("theme", [LIGHT, DARK, PRINT], ids=lambda theme: theme.name)
def test_the_error_figure_draws_every_line_that_is_known(theme):
    stack = noise(6, 400, seed=3).reshape(6, 20, 20)
    own = factors_of(stack, kept=2)
    items = held_out(gram_of(stack, shape=(20, 20)), groups=range(6), kept=KEPT, reference="zero", own=own)
    left = np.array([[one.subspace2 for one in items]] * 5)
    chance = HeldOutChance(items[0].kept, left, left[:, :, 0], seed=0)
    drawn = charts.errors(frames.curve(items, chance), frames.errors(items), k=3, ceiling=4, theme=theme)
    named = {trace.name: trace for trace in drawn.data}
    assert {line.name for line in charts.LINES.values()} <= set(named)
    assert {"one model", "half of the models"} <= set(named)
    dashes = [named[line.name].line.dash for line in charts.LINES.values()]
    assert len(set(dashes)) == len(dashes)
    np.testing.assert_allclose(named["unseen models"].y, [np.median([o.subspace[i] for o in items]) for i in range(4)])
    assert len(drawn.layout.shapes) == 2
    assert charts.errors(frames.curve(items), frames.errors(items), log=True).layout.yaxis.type == "log"


def test_the_models_figure_puts_the_worst_on_top():
    items = errors_of(CALM)
    drawn = charts.models(frames.errors(items), k=3).data[0]
    means = {one.model: one.subspace.mean() for one in items}
    assert drawn.y[0] == max(means, key=means.get)
    assert list(drawn.x) == [str(k) for k in KEPT]
    by_layer = charts.models(frames.by_layer({"a": items, "b": items}, 3), by="layer").data[0]
    assert list(by_layer.x) == ["a", "b"]


def test_the_size_figure_marks_the_chosen_k_on_every_axis():
    some, items, rows = collection((20, 20), n=20), errors_of(CALM), []
    for axis in ("models", "in"):
        rows += [
            frames.StorageChoice(axis, storage(some, kept=k, axis=axis), items, place) for place, k in enumerate(KEPT)
        ]
    drawn = charts.sizes(frames.sizes(rows), k=3)
    marks = [trace for trace in drawn.data if trace.mode == "markers+text"]
    assert [trace.name for trace in marks] == ["models", "inputs", charts.CHOSEN]
    at = frames.sizes(rows).filter(pl.col("k") == 3)
    assert list(marks[-1].text) == ["3", "3"]
    assert list(marks[-1].x) == at["ratio"].to_list()
    assert list(marks[-1].y) == at["middle"].to_list()
    assert "times smaller" in drawn.layout.xaxis.title.text
    assert "whole checkpoints" in charts.sizes(frames.sizes(rows), whole=True).layout.xaxis.title.text


@pytest.mark.parametrize("against", ["k", "weight_error"])
def test_the_function_figure_shows_medians_and_levels(against: str):
    drawn = function_charts.scores(frames.scores(points()), against=against, untrained=0.2)
    named = {trace.name: trace for trace in drawn.data}
    np.testing.assert_allclose(named["unseen models"].y, [0.5, 0.75])
    np.testing.assert_allclose(named["unseen models"].x, [0, 4] if against == "k" else [0.9, 0.4])
    assert {"originals, 1", "the reference itself, 0.25", "mean only, 0.5", "untrained, 0.2"} <= set(named)
    assert drawn.layout.yaxis.range[0] < 0.2
