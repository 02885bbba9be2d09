"""Nouns in a notebook: each shows a sentence and a table, and draws the figure of the pages."""

from __future__ import annotations

import re

import plotly.graph_objects as go
import pytest

import uws_core as uws
from uws_core.errors import UwsError
from uws_core.nouns.adapting import Comparison, Row, TrainedRun
from uws_core.nouns.shown import Shown


@pytest.fixture(scope="module")
def nouns() -> dict[str, Shown]:
    collection = uws.collect("demo:finetuned")
    layer = collection.layers[0]
    gram, factors = uws.gram(collection, layer), uws.factors(collection, layer, kept=4)
    return {
        "collection": collection,
        "gram": gram,
        "spectrum": uws.spectrum(gram),
        "held out": uws.held_out(gram, groups=collection.labels, kept=[1, 2, 4])[0],
        "factors": factors,
        "subsets": uws.shared_angles(gram, range(10), range(10, 20), kept=3),
        "angles": uws.model_angles(factors, side="in", kept=2),
        "lineage": uws.lineage(gram),
        "compression": uws.compress(uws.collect("demo:lora"), kept=4),
        "comparison": Comparison(
            tuple(
                TrainedRun("rotated", row, seed, 0.1, 648, 0.9, score)
                for row, scores in ((Row.SHARED, (0.94, 0.93, 0.95)), (Row.RANDOM, (0.94, 0.95, 0.93)))
                for seed, score in enumerate(scores)
            )
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "collection",
        "gram",
        "spectrum",
        "held out",
        "factors",
        "subsets",
        "angles",
        "lineage",
        "compression",
        "comparison",
    ],
)
def test_a_noun_shows_a_sentence_and_a_table(nouns: dict[str, Shown], name: str) -> None:
    shown = nouns[name]._repr_html_()
    text = re.search(r"<p>(.*?)</p>", shown, re.DOTALL)
    assert text is not None
    assert len(text[1].split()) >= 5, text[1]
    assert "<table" in shown
    assert shown.count("<tr>") >= 3


@pytest.mark.parametrize(
    "name", ["gram", "spectrum", "held out", "subsets", "angles", "lineage", "compression", "comparison"]
)
def test_a_noun_draws_itself(nouns: dict[str, Shown], name: str) -> None:
    figure = nouns[name].plot()
    assert isinstance(figure, go.Figure)
    # Reading the data validates every property.
    assert len(figure.data) >= 1
    assert any(getattr(trace, "y", None) is not None for trace in figure.data)


def test_the_figure_has_the_nouns_numbers(nouns: dict[str, Shown]) -> None:
    spectrum = nouns["spectrum"]
    trace = next(trace for trace in spectrum.plot().data if trace.y is not None and len(trace.y) >= 3)
    assert trace.y[0] == pytest.approx(spectrum.ratio[0])


def test_a_comparison_prints_its_verdict(nouns: dict[str, Shown]) -> None:
    assert str(nouns["comparison"]).startswith("No better than a random basis on `rotated`")
    assert [trace.name for trace in nouns["comparison"].plot().data] == ["shared", "random"]


def test_a_noun_without_a_figure_says_so(nouns: dict[str, Shown]) -> None:
    with pytest.raises(UwsError, match="a Collection has no figure"):
        nouns["collection"].plot()
