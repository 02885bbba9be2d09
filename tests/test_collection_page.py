"""What the collection page says and lists, from collections whose design is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.planted import gram_of, spiked
from uws_core.analysis.spectrum import spectrum
from uws_core.answers.collection import answer, design
from uws_core.frames import collection as frames
from uws_core.nouns.models import Collection, LayerKey, LeftOut, ModelRef, Value
from uws_core.nouns.spectrum import LayerSpectrum

LAYERS = (LayerKey("blocks.0.attn.q.weight", (4, 6)), LayerKey("head.weight", (3, 6)))


def collection(
    table: dict[str, tuple[Value, ...]], *, n: int = 6, base: frozenset[str] | None = None, left_out: int = 0
) -> Collection:
    return Collection(
        name="mine",
        refs=tuple(ModelRef(f"/runs/m{i}", f"{i:040x}") for i in range(n)),
        labels=tuple(f"m{i}" for i in range(n)),
        layers=LAYERS,
        fingerprint="f",
        table=table,
        base=None if base is None else ModelRef("/base", "b"),
        base_layers=base or frozenset(),
        left_out=tuple(LeftOut(f"x{i}", "it is a vector") for i in range(left_out)),
    )


ALL = [layer.name for layer in LAYERS]
CROSSED = {"task": ("a", "a", "a", "b", "b", "b"), "seed": (0, 1, 2, 0, 1, 2), "score": tuple(i / 7 for i in range(6))}


@pytest.mark.parametrize(
    ("given", "expected", "crossing"),
    [
        (
            collection(CROSSED, base=frozenset(ALL), left_out=2),
            "6 models of one architecture, 2 layers comparable, nothing left out but biases and other vectors; "
            "one base.",
            "2 tasks x 3 seeds",
        ),
        (
            collection({}, n=2),
            "2 models of one architecture, 2 layers comparable, nothing left out; no base known.",
            "",
        ),
        (
            collection({"task": ("a", "a", "b", "b", "c", None)}, base=frozenset(ALL[:1])),
            "6 models of one architecture, 2 layers comparable, nothing left out; one base without some of the layers.",
            "",
        ),
        (
            # Two seeds missing of one task: no full crossing.
            collection({"task": ("a", "a", "a", "a", "b", "b"), "seed": (0, 1, 2, 3, 0, 1)}),
            "6 models of one architecture, 2 layers comparable, nothing left out; no base known.",
            "2 tasks, 4 seeds",
        ),
        (
            # Every pair twice: something else tells them apart.
            collection({"task": ("a", "a", "b", "b") * 2, "seed": (0, 1) * 4}, n=8),
            "8 models of one architecture, 2 layers comparable, nothing left out; no base known.",
            "2 tasks, 2 seeds",
        ),
    ],
    ids=["crossed", "plain", "gaps", "uneven", "repeated"],
)
def test_the_answer_says_what_can_be_compared(given: Collection, expected: str, crossing: str) -> None:
    assert answer(given, members=range(len(given)), layers=ALL) == expected
    assert design(given) == crossing


def test_the_answer_says_how_much_is_chosen() -> None:
    said = answer(collection(CROSSED), members=(0, 3), layers=ALL[:1])
    assert said.startswith("2 chosen models of one architecture, 1 chosen layer comparable")


def test_models_are_listed_with_their_attributes_and_content() -> None:
    frame = frames.models(collection(CROSSED), members=(4, 1))
    assert frame.columns == ["model", "task", "seed", "score", "commit", "source"]
    assert frame.row(0) == ("m4", "b", 1, 4 / 7, "000000000000", "/runs/m4")
    assert frame["model"].to_list() == ["m4", "m1"]


def test_a_column_of_several_kinds_is_still_a_column() -> None:
    mixed: dict[str, tuple[Value, ...]] = {"note": ("x", 1, None, 2.5, True, "y")}
    assert frames.models(collection(mixed))["note"].to_list() == ["x", "1", None, "2.5", "true", "y"]


def test_layers_show_what_is_known_and_leave_the_rest_blank() -> None:
    seen = spectrum(gram_of(spiked(6, 24, strengths=(50.0,), seed=0)))
    frame = frames.layers(collection({}), {ALL[0]: LayerSpectrum(LAYERS[0], seen)}, share=0.8)
    assert frame["short"].to_list() == ["0.attn.q", "head"]
    assert frame["rank"].to_list() == [seen.rank_for(0.8).k, None]
    np.testing.assert_allclose(frame["scree"][0].to_list(), seen.ratio[:5])
    assert frame["scree"][1] is None
    assert frame["weights"].to_list() == [24, 18]
    assert frames.layers(collection({}), {}, names=ALL[1:])["layer"].to_list() == ALL[1:]


def test_every_column_explains_itself() -> None:
    shown = [frames.models(collection({})), frames.layers(collection({}), {}), frames.left_out_frame(())]
    assert {name for frame in shown for name in frame.columns} <= set(frames.HELP)


def test_everything_left_out_is_a_row() -> None:
    frame = frames.left_out_frame(collection({}, left_out=3).left_out)
    assert frame.equals(pl.DataFrame({"what": ["x0", "x1", "x2"], "reason": ["it is a vector"] * 3}))


def test_a_layer_says_what_it_costs_to_read() -> None:
    frame = frames.layers(collection({}), {}, sizes={ALL[1]: 4096})
    assert frame["bytes"].to_list() == [None, 4096]
    assert frame.columns.index("bytes") == frame.columns.index("weights") + 1
