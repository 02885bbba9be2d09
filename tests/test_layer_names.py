"""Names on figures: unique in their collection, as short as tells them apart, with the block that repeats."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uws_core.nouns.models import Collection, LayerKey, ModelRef, named


def shown(names: Sequence[str]) -> list[tuple[str, int | None, str]]:
    return [(key.short, key.depth, key.module) for key in named([LayerKey(name, (2, 3)) for name in names])]


def test_one_stack_of_blocks_keeps_its_short_names() -> None:
    assert shown(["blocks.0.attn.q.weight", "blocks.1.attn.q.weight", "embed.weight"]) == [
        ("0.attn.q", 0, "attn.q"),
        ("1.attn.q", 1, "attn.q"),
        ("embed", None, "embed"),
    ]


def test_two_stacks_are_told_apart_by_as_little_of_the_path_as_needed() -> None:
    names = [f"model.{stack}.layers.{i}.q.weight" for stack in ("encoder", "decoder") for i in range(2)]
    assert shown([*names, "model.encoder.layers.0.k.weight"]) == [
        ("encoder.layers.0.q", 0, "encoder.layers.*.q"),
        ("encoder.layers.1.q", 1, "encoder.layers.*.q"),
        ("decoder.layers.0.q", 0, "decoder.layers.*.q"),
        ("decoder.layers.1.q", 1, "decoder.layers.*.q"),
        ("0.k", 0, "k"),
    ]


def test_two_plain_networks_do_not_both_have_a_layer_two() -> None:
    names = ["actor.0.weight", "actor.2.weight", "critic.0.weight", "critic.2.weight"]
    assert [short for short, _, _ in shown(names)] == [
        "actor.0.weight",
        "actor.2.weight",
        "critic.0.weight",
        "critic.2.weight",
    ]


def test_the_depth_is_the_number_that_repeats_and_not_the_first_one() -> None:
    names = [f"towers.1.layers.{i}.mlp.3.weight" for i in range(4)]
    assert [depth for _, depth, _ in shown(names)] == [0, 1, 2, 3]
    assert shown([*names, "heads.7.weight"])[-1] == ("heads.7", None, "heads.7")


def test_where_no_number_repeats_the_first_counts() -> None:
    assert shown(["blocks.3.attn.q.weight", "embed.weight"])[0] == ("3.attn.q", 3, "attn.q")


def test_factor_views_keep_their_letter() -> None:
    names = [f"blocks.{i}.q.weight{view}" for i in range(2) for view in ("", ":A", ":B")]
    assert [short for short, _, _ in shown(names)] == ["0.q", "0.q:A", "0.q:B", "1.q", "1.q:A", "1.q:B"]


def test_a_collection_names_its_layers_and_keys_stay_equal() -> None:
    plain = tuple(LayerKey(f"{stack}.{i}.q.weight", (2, 3)) for stack in "ab" for i in range(2))
    models = Collection("some", (ModelRef("m", "0"),), ("m",), plain, fingerprint="f")
    assert models.layers == plain
    assert [key.short for key in models.layers] == ["a.0.q", "a.1.q", "b.0.q", "b.1.q"]
    assert models.layer(plain[0]).short == "a.0.q"
    assert hash(models.layers[0]) == hash(plain[0])


PARTS = st.lists(st.sampled_from(["a", "b", "0", "1", "12", "weight", "attn"]), min_size=1, max_size=5).map(".".join)


@given(st.lists(PARTS, min_size=1, max_size=12, unique=True))
def test_short_names_are_unique_and_depths_are_in_the_name(names: list[str]) -> None:
    rows = shown(names)
    assert len({short for short, _, _ in rows}) == len(rows)
    for name, (short, depth, module) in zip(names, rows, strict=True):
        assert short
        assert module
        assert depth is None or str(depth) in name.split(".")


@pytest.mark.parametrize("name", ["0", "weight", "3.weight", "a.3"])
def test_a_single_layer_has_a_name(name: str) -> None:
    ((short, _, module),) = shown([name])
    assert short
    assert module
