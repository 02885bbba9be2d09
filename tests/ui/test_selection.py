"""A selection survives every address, and an address says everything that was chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uws_core.nouns.architectures import Architecture
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.ui import tokens
from uws_core.ui.selection import POOLS, Selection

TASKS = ("parity", "prime", "rotated")


def collection(name: str, *, seeds: int = 4, base: bool = True) -> Collection:
    labels = tuple(f"{task}-{seed}" for task in TASKS for seed in range(seeds))
    layers = tuple(
        LayerKey(f"blocks.{depth}.{module}.weight", (8, 8)) for depth in range(3) for module in ("attn.q", "mlp.up")
    )
    return Collection(
        name=name,
        refs=tuple(ModelRef(label, "0" * 12) for label in labels),
        labels=labels,
        layers=(LayerKey("embed.weight", (8, 4)), *layers),
        fingerprint=name,
        table={
            "task": tuple(task for task in TASKS for _ in range(seeds)),
            "seed": tuple(seed for _ in TASKS for seed in range(seeds)),
            "metric": tuple(i / 7 for i in range(len(labels))),
        },
        base=ModelRef("base", "0" * 12) if base else None,
    )


@dataclass(frozen=True)
class Shelf:
    """A catalogue with two collections that can be read and one that cannot."""

    held: tuple[Collection, ...] = (collection("demo:one"), collection("demo:two", seeds=3, base=False))

    def ids(self) -> tuple[str, ...]:
        return (*(each.name for each in self.held), "gone")

    def get(self, collection: str) -> Collection | None:
        return next((each for each in self.held if each.name == collection), None)

    def architectures(self, collection: str) -> tuple[Architecture, ...]:
        return (Architecture("8x8-a", "8 x 8", "checkpoint", ("m",), ()),) if collection == "demo:two" else ()


Q1 = "blocks.1.attn.q.weight"
SHELF = Shelf()
ONE = SHELF.held[0]

# What a browser, a mail client or an attacker can put into an address, and what code could hand over by mistake.
NASTY = ["", "../../etc/passwd", "NaN", "-inf", "1e999", "9" * 400, "\x00", "\ud800", "a" * 20_000]
NASTY += [
    "*",
    "[",
    "[!",
    "**" * 90,
    "rows:",
    "rows:99999999",
    "rows:5-1",
    "rows:0-9999999",
    "rows:-1",
    "task=",
    "=parity",
    "blocks.*",
    "sum",
    "base",
]
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=30), st.sampled_from(list(tokens.model_options(ONE))))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
KEYS = ["c", "m", "l", "k", "share", "layer", "x", "about"]
raws = st.dictionaries(st.sampled_from([field.name for field in fields(Selection)]), anything)


@given(raw=raws)
def test_clean_never_raises_and_is_settled_at_once(raw: dict[str, object]) -> None:
    chosen = Selection.clean(SHELF, **raw)
    again = Selection.clean(SHELF, **asdict(chosen))
    assert again == chosen
    assert chosen.collection in SHELF.ids()
    assert 1 <= chosen.k <= 4096
    assert 0 < chosen.share < 1


@given(params=st.dictionaries(st.sampled_from(KEYS), st.lists(texts, max_size=5)))
def test_every_address_reads_back_as_itself(params: dict[str, list[str]]) -> None:
    chosen = Selection.from_params(params, SHELF)
    query = urlencode(chosen.to_params(), doseq=True)
    assert Selection.from_params(parse_qs(query), SHELF) == chosen


@given(raw=raws)
def test_whatever_is_chosen_exists(raw: dict[str, object]) -> None:
    chosen = Selection.clean(SHELF, **raw)
    held = SHELF.get(chosen.collection)
    if held is None:
        assert (chosen.members, chosen.layers, chosen.layer, chosen.about, chosen.group) == ((), (), "", "mean", "")
        return
    assert set(chosen.members_in(held)) <= set(range(len(held)))
    assert set(chosen.layers_in(held)) <= set(held.by_name)
    assert chosen.layers_in(held)
    assert chosen.layer in (*chosen.pools_in(held), *chosen.layers_in(held))
    assert set(chosen.shown_in(held)) <= set(chosen.layers_in(held))
    assert chosen.about in ("mean", "zero", *(["base"] if held.base else []), *held.labels)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"c": ["../../etc"], "k": ["NaN"], "layer": ["x"]}, {}),
        ({"k": ["7", "9"]}, {"k": 9}),
        ({"k": ["-3"]}, {"k": 1}),
        ({"k": ["1e9"]}, {"k": 4096}),
        ({"share": ["0.75"]}, {"share": 0.75}),
        ({"unit": ["TRUE"]}, {"unit": True}),
        ({"unit": ["maybe"]}, {}),
        ({"about": ["prime-1"]}, {"about": "prime-1"}),
        ({"c": ["demo:two"], "about": ["base"]}, {"collection": "demo:two"}),
        ({"group": ["task"]}, {"group": "task"}),
        ({"group": ["metric"]}, {}),
        ({"m": ["nobody", "task=parity", "task=parity"]}, {"members": ("task=parity",)}),
        ({"m": ["rows:3-5,1,0,99"]}, {"members": ("rows:0-1,3-5",)}),
        ({"l": ["blocks.1.*", "nothing.*"]}, {"layers": ("blocks.1.*",), "layer": Q1}),
        ({"l": ["blocks.1.*"], "layer": ["sum"]}, {"layers": ("blocks.1.*",), "layer": "sum"}),
        ({"l": ["blocks.1.*"], "layer": ["embed.weight"]}, {"layers": ("blocks.1.*",), "layer": Q1}),
        ({"layer": ["mean"]}, {"layer": "mean"}),
        ({"null": ["strong"], "axis": ["up"]}, {}),
    ],
)
def test_what_an_address_means(params: dict[str, list[str]], expected: dict[str, object]) -> None:
    usual = Selection.from_params({}, SHELF)
    assert usual.layer == "embed.weight"
    assert Selection.from_params(params, SHELF) == replace(usual, **expected)


def test_a_new_collection_keeps_what_it_also_has():
    asked = {"m": ["task=prime", "parity-3"], "layer": ["blocks.2.mlp.up.weight"], "about": ["base"]}
    before = Selection.from_params(asked, SHELF)
    after = Selection.clean(SHELF, **asdict(before) | {"collection": "demo:two"})
    assert after.members == ("task=prime",)
    assert after.layer == "blocks.2.mlp.up.weight"
    assert after.about == "mean"


def test_a_selection_without_any_collection_is_empty():
    assert Selection.clean(Shelf(held=()), collection="demo:one").collection == "gone"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((), tuple(range(12))),
        (("parity-1",), (1,)),
        (("task=parity",), (0, 1, 2, 3)),
        (("task=parity", "task=prime"), tuple(range(8))),
        (("task=parity", "seed=0", "seed=2"), (0, 2)),
        (("task=parity", "seed=0", "rotated-3"), (0, 11)),
        (("rows:2-3,10",), (2, 3, 10)),
    ],
)
def test_values_of_one_attribute_add_and_attributes_narrow(chosen: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert tokens.member_indices(ONE, chosen) == expected


@given(rows=st.sets(st.integers(0, 11), min_size=1))
def test_rows_read_back(rows: set[int]) -> None:
    assert tokens.member_indices(ONE, (tokens.rows_token(rows),)) == tuple(sorted(rows))
    assert tokens.member_indices(ONE, tokens.tokens_for(ONE, tuple(rows))) == tuple(sorted(rows))


def test_what_is_offered_means_something_and_reads_well():
    offered = tuple(tokens.model_options(ONE))
    assert [tokens.model_options(ONE)[token] for token in offered] == [tokens.model_caption(ONE, t) for t in offered]
    assert offered[:4] == ("task=parity", "task=prime", "task=rotated", "seed=0")
    assert tokens.known_models(ONE, offered) == offered
    assert tokens.model_caption(ONE, "task=parity") == "task: parity (4)"
    assert tokens.model_caption(ONE, "rows:0-8") == "9 picked rows"
    layers = tokens.layer_options(ONE)
    assert layers[:3] == ("blocks.*.attn.q.weight", "blocks.0.*", "blocks.*.mlp.up.weight")
    assert tokens.known_layers(ONE, layers) == layers
    assert [tokens.layer_caption(ONE, each) for each in layers[:2]] == ["*.attn.q (3)", "0.* (2)"]
    assert tokens.layer_caption(ONE, "blocks.2.attn.q.weight") == "2.attn.q"


def test_the_address_holds_what_was_chosen_and_no_more():
    asked = {"m": ["task=prime"], "share": ["0.75"], "unit": ["1"], "layer": ["sum"], "null": ["profile"], "x": ["y"]}
    assert Selection.from_params(asked, SHELF).to_params() == {
        "c": "demo:one",
        "m": ["task=prime"],
        "layer": "sum",
        "unit": "1",
        "share": "0.75",
    }


@pytest.mark.parametrize(
    ("params", "pools"),
    [
        ({}, POOLS),
        ({"axis": ["in"]}, ("mean", "each")),
        ({"l": ["embed.weight"]}, ()),
        ({"l": ["embed.weight", "blocks.0.attn.q.weight"]}, POOLS),
    ],
)
def test_several_layers_become_what_they_can(params: dict[str, list[str]], pools: tuple[str, ...]) -> None:
    assert Selection.from_params(params, SHELF).pools_in(ONE) == pools


def test_factors_of_adapters_are_drawn_side_by_side_and_never_pooled() -> None:
    names = [f"{name}{part}" for name in ("a.weight", "b.weight") for part in ("", ":A", ":B")]
    adapters = replace(ONE, name="lora", layers=tuple(LayerKey(name, (4, 4)) for name in names))
    stand_in = Shelf(held=(adapters,))
    usual = Selection.from_params({}, stand_in)
    assert usual.layers_in(adapters) == ("a.weight", "b.weight")
    every = Selection.from_params({"l": ["*"], "layer": ["sum"]}, stand_in)
    assert every.layers_in(adapters) == tuple(names)
    assert every.shown_in(adapters) == ("a.weight", "b.weight")
    assert replace(every, layer="each").shown_in(adapters) == tuple(names)
    alone = Selection.from_params({"l": ["a.weight*"], "layer": ["mean"]}, stand_in)
    assert alone.pools_in(adapters) == ("each",)
    assert alone.layer == "a.weight"
