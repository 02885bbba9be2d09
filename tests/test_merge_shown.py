"""What a merge's page says and draws: tables, figures and sentences from planted previews."""

from __future__ import annotations

import numpy as np
import pytest

from tests.planted import gram_of
from tests.wording import measured
from uws_core.analysis.merge_conflicts import compatibility
from uws_core.analysis.merge_methods import combine
from uws_core.analysis.merge_preview import merge_grams, standing
from uws_core.analysis.merge_scores import best_scales
from uws_core.answers import merge as answers
from uws_core.charts import merge as charts
from uws_core.charts.style import DARK, LIGHT
from uws_core.frames import merge as frames
from uws_core.nouns.gram import Gram
from uws_core.nouns.merge_preview import BestScale, MergeGrams, MergeScore, Standing
from uws_core.nouns.merging import MergeMethod, MergeRecipe

D = 400
METHODS = (MergeMethod.MEAN, MergeMethod.TASK_ARITHMETIC, MergeMethod.KARCHER)


def grams(seed: int = 0, *, base: bool = True) -> list[Gram]:
    """Two layers of five independent updates, one of them of twice the length."""
    rng = np.random.default_rng(seed)
    found = []
    for place in range(2):
        about = rng.normal(size=D)
        updates = 0.1 * rng.normal(size=(5, D)) * np.array([1, 1, 1, 1, 2])[:, None]
        rows = updates + about if base else 10 * updates
        found.append(gram_of(rows, base=about if base else None, name=f"blocks.{place}.q.weight"))
    return found


def stand(method: MergeMethod, *scales: float, of: MergeGrams | None = None) -> Standing:
    """Where a method stands among five independent updates."""
    of = of or merge_grams(grams())
    return standing(of, combine(of, MergeRecipe(method=method)), scales or (1.0,))


def points(**kept: float) -> list[MergeScore]:
    """Scores of two members: their own .9 and .8, every method's share of them at scales 0.5 and 1."""
    found = [MergeScore("own", 1.0, "a", 0.9, 0.9), MergeScore("own", 1.0, "b", 0.8, 0.8)]
    found += [MergeScore("base", 0.0, model, 0.2 * own, 0.3 * own) for model, own in (("a", 0.9), ("b", 0.8))]
    for method, share in kept.items():
        name = method.replace("_", "-")
        for scale, times in ((0.5, 0.9), (1.0, 1.0)):
            found += [
                MergeScore(name, scale, "a", 0.9 * share * times, 0.9 * share),
                MergeScore(name, scale, "b", 0.8 * share * times, 0.8 * (share - 0.1)),
            ]
    return found


def test_the_scale_is_chosen_on_one_half_and_judged_on_the_other() -> None:
    best = {one.method: one for one in best_scales(points(mean=0.6, ties=0.5))}
    assert best["mean"] == BestScale("mean", 1.0, pytest.approx(0.55), pytest.approx(0.5), "b")
    assert best["base"].kept == pytest.approx(0.3)
    # A scale that is better only where it is judged is not taken.
    lucky = [MergeScore("mean", 2.0, model, 0.0, own) for model, own in (("a", 0.9), ("b", 0.8))]
    assert {one.method: one.scale for one in best_scales([*points(mean=0.6), *lucky])}["mean"] == 1.0


def test_scores_are_clipped_and_members_without_a_score_of_their_own_take_no_part() -> None:
    broken = [MergeScore("own", 1.0, "c", -2.0, 0.5), MergeScore("mean", 1.0, "c", 0.5, 0.5)]
    awful = [MergeScore("karcher", 1.0, "a", -50.0, -50.0), MergeScore("karcher", 1.0, "b", 9.0, 9.0)]
    best = {one.method: one for one in best_scales([*points(mean=0.6), *broken, *awful])}
    assert best["mean"].kept == pytest.approx(0.55)
    assert (best["karcher"].kept, best["karcher"].worst, best["karcher"].worst_model) == (0.5, 0.0, "a")


@pytest.mark.parametrize(
    ("method", "kept", "says"),
    [
        (MergeMethod.TIES, {"mean": 0.6, "ties": 0.7}, "Better than the mean: each at its best scale, TIES keeps 65 %"),
        (MergeMethod.TIES, {"mean": 0.6, "ties": 0.61}, "As good as the mean"),
        (MergeMethod.TIES, {"mean": 0.6, "ties": 0.5}, "Worse than the mean"),
        (MergeMethod.MEAN, {"mean": 0.6}, "More than the base: at its best scale the mean keeps 55 %"),
        (MergeMethod.MEAN, {"mean": 0.3}, "No gain: at its best scale the mean keeps 25 %"),
    ],
)
def test_scores_decide_where_there_are_some(method: MergeMethod, kept: dict[str, float], says: str) -> None:
    one = stand(MergeMethod.MEAN)
    one = Standing(**{name: getattr(one, name) for name in one.__dataclass_fields__} | {"method": method})
    line = answers.answer(one, best=best_scales(points(**kept)))
    assert says in line
    assert measured(line).short, measured(line)


@pytest.mark.parametrize(
    ("method", "scale", "siblings", "says"),
    [
        (
            MergeMethod.TASK_ARITHMETIC,
            0.2,
            1.2,
            "Nearly the mean: Task arithmetic at scale 0.2 lies 0 % from ",
        ),
        (MergeMethod.KARCHER, 1.0, None, "Not the mean, too long at scale 1: Karcher mean lies 111 % of an update"),
        (MergeMethod.KARCHER, 0.3, None, "Not the mean: Karcher mean at scale 0.3 lies "),
        (MergeMethod.KARCHER, 0.3, 1.4, "two models of one task 140 % apart"),
        (MergeMethod.MEAN, 1.0, None, "The mean at 1 keeps 19 %"),
        (MergeMethod.MEAN, 0.0, None, "This is the base"),
    ],
)
def test_distance_decides_without_scores(method: MergeMethod, scale: float, siblings: float | None, says: str) -> None:
    found = compatibility(grams())
    line = answers.answer(stand(method, scale), compatibility=found, siblings=siblings, by="task")
    assert says in line
    assert measured(line).short, (line, measured(line))


def test_models_without_a_common_base_are_not_to_be_merged() -> None:
    every = grams(base=False)
    line = answers.answer(stand(MergeMethod.MEAN, of=merge_grams(every)), compatibility=compatibility(every))
    assert line.startswith("Do not merge these as they are. No two of these 5 models share a base")
    assert measured(line).short, measured(line)


def test_tables_hold_what_the_preview_says() -> None:
    of = merge_grams(grams())
    one = [stand(method, 0.5, of=of) for method in METHODS]
    table = frames.methods(one, of.labels, names=answers.NAMES, best=best_scales(points(mean=0.6)))
    assert table["method"].to_list() == ["Mean", "Task arithmetic", "Karcher mean"]
    assert table["distance_to_mean"][0] == pytest.approx(0.5)
    assert table["mean_scale"][1] == pytest.approx(2.5)
    # Half of the sum holds more than half of the longest update, so a short one is farthest.
    assert table["farthest_member"][1] != "model-4"
    assert table["score_kept"].to_list() == [pytest.approx(0.55), None, None]
    kept = frames.kept(one, of.labels)
    assert kept.height == 15
    assert kept["kept"][4] == pytest.approx(0.5 / 5, abs=0.05)
    assert set(table.columns) <= set(frames.HELP)
    swept = frames.sweep([stand(method, 0.0, 0.5, 1.0, of=of) for method in METHODS])
    assert swept.filter(swept["scale"] == 0)["distance_to_members"].to_list() == [pytest.approx(1.0)] * 3


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_figures_draw_the_mean_the_base_and_what_collides(theme: object) -> None:
    every = grams()
    of, found = merge_grams(every), compatibility(every)
    swept = frames.sweep([stand(method, 0.0, 0.5, 1.0, of=of) for method in METHODS], names=answers.NAMES)
    drawn = charts.sweep(
        swept, column="distance_to_members", chosen="Karcher mean", mean="Mean", scale=0.5, theme=theme
    )
    names = [trace.name for trace in drawn.data]
    assert names == ["other methods", "Mean", "Karcher mean", "base"]
    assert [shape.y0 for shape in drawn.layout.shapes if shape.x0 == 0] == [pytest.approx(1.0)]
    heat = charts.kept(frames.kept([stand(method, of=of) for method in METHODS], of.labels), theme=theme)
    assert np.array(heat.data[0].z).shape == (5, 3)
    table = frames.layers(found)
    assert charts.layers(table, theme=theme).data[0].name == "chance"
    assert len(charts.cosines(found.cosines, found.labels, theme=theme).data[0].y) == 5
    assert frames.pairs(found).height == 10
    assert frames.pairs(found)["norm_ratio"].max() == pytest.approx(2.0, abs=0.2)
