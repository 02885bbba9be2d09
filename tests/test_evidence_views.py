"""What is shown of evidence: its frames, its figures, and its sentences on collections with a known artefact."""

from __future__ import annotations

from base64 import b64decode

import numpy as np
import polars as pl
import pytest

from tests.planted import gram_of, noise, spiked
from uws_core.analysis.evidence import evidence
from uws_core.analysis.judging import unknown
from uws_core.analysis.over_layers import over_layers
from uws_core.analysis.sample_size import sample_curve
from uws_core.answers import evidence as answers
from uws_core.charts import evidence as charts
from uws_core.charts.chance_range import chance_range_svg, chance_range_url
from uws_core.frames import evidence as frames
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.evidence import Determined, Evidence, SampleCurve, Verdict
from uws_core.nouns.models import LayerKey
from uws_core.zoo import synthetic
from uws_core.zoo.synthetic import SyntheticCollection

UP = "blocks.0.mlp.up.weight"


@pytest.fixture(scope="module")
def found() -> Evidence:
    return evidence(gram_of(spiked(16, 300, strengths=[900], seed=0), name=UP), draws=39)


@pytest.fixture(scope="module")
def growth() -> SampleCurve:
    return sample_curve(gram_of(spiked(20, 300, strengths=[300], seed=1)), kept=1, repeats=4)


def told(made: SyntheticCollection) -> str:
    rows = made.layers[UP]
    return answers.answer(evidence(gram_of(rows.reshape(len(rows), -1)), draws=39), location="`0.mlp.up`")


def test_claims_frame_is_one_row_a_claim_with_all_that_a_reader_asks(found: Evidence) -> None:
    frame = frames.claims(found)
    assert frame["claim"].to_list() == [claim for claim in CLAIMS if claim not in KIN.values()]
    row = frame.row(by_predicate=pl.col("claim") == "concentrated", named=True)
    finding = found["concentrated"]
    assert (row["value"], row["chance"], row["z"], row["p"]) == (finding.value, finding.middle, finding.z, finding.p)
    assert (row["verdict"], row["draws"], row["seed"]) == ("holds", 39, 0)
    assert frame.select(pl.col("title", "statistic", "null", "definition", "source").null_count()).row(0) == (0,) * 5
    few = frames.claims(evidence(gram_of(noise(4, 100, seed=3)), draws=19))
    untold = few.filter(pl.col("verdict") == "cannot tell")
    assert untold["p"].null_count() == untold["value"].null_count() == untold.height > 5


def test_layer_frame_places_every_claim_in_the_network(found: Evidence) -> None:
    frame = frames.by_layer([(LayerKey(UP, (10, 30)), found), (LayerKey("head.weight", (10, 30)), found)])
    assert frame.height == 2 * len(found.findings)
    assert frame["short"].unique(maintain_order=True).to_list() == ["0.mlp.up", "head"]
    assert frame["depth"].unique(maintain_order=True).to_list() == [0, None]
    assert frames.by_layer([]).schema == frame.schema


def test_pooled_frame_counts_what_layers_say(found: Evidence) -> None:
    chance = evidence(gram_of(noise(16, 300, seed=2)), draws=39)
    frame = frames.pooled(over_layers([found, found, chance]))
    row = frame.row(by_predicate=pl.col("claim") == "concentrated", named=True)
    assert (row["layers"], row["tested"], row["holds"], row["by_chance"]) == (3, 3, 2, 1)
    assert row["discoveries"] == 2
    assert row["verdict"] == "holds"


def test_curve_and_bound_frames(growth: SampleCurve) -> None:
    frame = frames.curve(growth)
    ranks = frame.filter(pl.col("statistic") == "rank")
    assert ranks["models"].to_list() == growth.sizes.tolist()
    np.testing.assert_allclose(ranks["middle"], growth.statistics["rank"][:, 1])
    assert frame.filter(pl.col("statistic") == "captured")["middle"][0] is None
    bounds = frames.determined(Determined(np.array([1, 2]), np.array([0.3, 0.0]), np.array([0.4, np.inf])))
    assert bounds["bound"].to_list() == [0.4, None]


def test_draws_frame_holds_the_draws(found: Evidence) -> None:
    assert frames.draws(found["concentrated"])["draw"].to_list() == found["concentrated"].samples.tolist()
    assert frames.draws(found["sound"]).is_empty()


def test_every_column_is_explained(found: Evidence, growth: SampleCurve) -> None:
    assert found.determined is not None
    shown = [
        frames.claims(found),
        frames.by_layer([(LayerKey(UP, (10, 30)), found)]),
        frames.pooled(over_layers([found])),
        frames.curve(growth),
        frames.determined(found.determined),
        frames.draws(found["halves"]),
    ]
    assert {name for frame in shown for name in frame.columns} <= set(frames.HELP)


def test_draws_figure_shows_the_number_among_the_draws(found: Evidence) -> None:
    finding = found["concentrated"]
    drawn = charts.draws(finding)
    assert list(drawn.data[0].x) == finding.samples.tolist()
    assert drawn.layout.shapes[0].x0 == finding.value
    low, high = drawn.layout.xaxis.range
    assert low < finding.samples.min() < finding.value < high
    nothing = charts.draws(found["sound"])
    assert not nothing.data
    assert nothing.layout.annotations[0].text == found["sound"].reason


def test_verdict_figure_says_every_verdict_twice(found: Evidence) -> None:
    drawn = charts.verdicts(frames.by_layer([(LayerKey(UP, (10, 30)), found)]))
    order = list(Verdict)
    expected = [order.index(one.verdict) for one in found.findings]
    assert np.array(drawn.data[0].z, dtype=float)[:, 0].tolist() == expected
    assert [mark[0] for mark in drawn.data[0].text] == [charts.MARKS[one.verdict] for one in found.findings]
    assert [trace.name.split(" ", 1)[1] for trace in drawn.data[1:]] == [str(verdict) for verdict in Verdict]


def test_curve_figure_has_the_ceiling_for_ranks_and_a_guide_for_what_is_captured(growth: SampleCurve) -> None:
    frame = frames.curve(growth)
    names = {s: [trace.name for trace in charts.curve(frame, statistic=s).data] for s in growth.statistics}
    assert "n - 1, the most there can be" in names["rank"]
    assert "if the rest fell as 1 / sqrt(n)" in names["captured"]
    assert all("n - 1" not in str(name) for name in names["share"])
    ranks = next(trace for trace in charts.curve(frame, statistic="rank").data if trace.name == "these models, median")
    np.testing.assert_allclose(ranks.y, growth.statistics["rank"][:, 1])


def test_bound_figure_draws_what_is_known(found: Evidence) -> None:
    assert found.determined is not None
    drawn = charts.determined(frames.determined(found.determined))
    known = np.isfinite(found.determined.bounds)
    np.testing.assert_allclose(drawn.data[0].y, found.determined.bounds[known])
    assert 0.5 in {shape.y0 for shape in drawn.layout.shapes}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (synthetic.noise(), "Nothing is shared beyond chance in `0.mlp.up`. Check first: entries as if never trained."),
        (synthetic.spike(), "Shared, ancestry unknown: 3 directions barely beyond chance in `0.mlp.up`; "),
        (synthetic.two_lineages(), "Shared only among relatives: 1 direction beyond chance in `0.mlp.up`; "),
        (synthetic.shared_start(), "Shared only among relatives: 1 direction beyond chance in `0.mlp.up`; "),
        (synthetic.unequal(), "Nothing is shared beyond chance in `0.mlp.up`; "),
        (synthetic.permuted(), "Check first: neurons in another order."),
        (synthetic.reinitialised(), "Check first: models that look never trained."),
    ],
    ids=["noise", "spike", "two-lineages", "shared-init", "unequal", "permuted", "reinitialised"],
)
def test_the_answer_names_what_was_put_in(made: SyntheticCollection, words: str) -> None:
    assert words in told(made)


def by_task(made: SyntheticCollection) -> str:
    rows = made.layers[UP]
    gram = gram_of(rows.reshape(len(rows), -1))
    return answers.answer(evidence(gram, groups=made.table["task"], grouped_by="task", draws=39), location="`0.mlp.up`")


@pytest.mark.parametrize(
    "made", [synthetic.two_lineages(), synthetic.shared_start()], ids=["two-lineages", "shared-init"]
)
def test_ancestry_is_not_denied_by_a_column_that_has_nothing_to_do_with_it(made: SyntheticCollection) -> None:
    said = by_task(made)
    assert said.startswith("Shared only among relatives: 1 direction beyond chance in `0.mlp.up`; ")


def test_shared_structure_without_relatives_is_not_ancestry_by_any_column() -> None:
    assert "Shared among unrelated models: 3 directions beyond chance" in by_task(synthetic.spike(strength=100.0))


def test_the_small_figure_of_a_claim_shows_chance_and_the_models() -> None:
    found = evidence(gram_of(spiked(20, 400, strengths=(30.0,), seed=3)), draws=39)["concentrated"]
    drawn = chance_range_svg(found, answers.among(found))
    low, seen = (float(drawn.split('<rect x="')[place].split('"')[0]) for place in (1, 2))
    assert seen > low
    assert "these models" in drawn
    picture = b64decode(chance_range_url(found, answers.among(found)).split(",")[1]).decode()
    assert picture.split("<rect")[1:] == drawn.split("<rect")[1:]
    nothing = unknown("halves", "layer", "too few")
    assert chance_range_svg(nothing, "") == chance_range_url(nothing, "") == ""
