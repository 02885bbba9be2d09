"""The fingerprint check, with planted copies and re-initialised models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import uws_core as uws
from tests.planted import gram_of
from uws_core.analysis.flags import BASE, flags, look, same_content
from uws_core.nouns.lineage import COLLECTION, LayerFlags
from uws_core.nouns.models import Collection, ModelRef
from uws_core.zoo.demo import DEMOS, PREFIX

SHAPE = (40, 30)


def siblings(n: int = 8, *, seed: int = 0, spread: float = 0.1) -> np.ndarray:
    """Rows of fine-tuned models: one base of heavy-tailed weights, and small changes."""
    chance = np.random.default_rng(seed)
    base = chance.standard_t(4, SHAPE[0] * SHAPE[1]) / 20
    return base + spread / 20 * chance.standard_normal((n, base.size))


def fresh(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, SHAPE[0] * SHAPE[1])


def seen(rows: np.ndarray) -> LayerFlags:
    return look(gram_of(rows, labels=[f"m{i}" for i in range(len(rows))]))


def collection(n: int = 8, *, commits: dict[int, str] | None = None, base: ModelRef | None = None) -> Collection:
    refs = [ModelRef(f"/runs/m{i}", (commits or {}).get(i, f"{i + 1:040x}")) for i in range(n)]
    return Collection("mine", tuple(refs), tuple(f"m{i}" for i in range(n)), (), "f", base=base)


def test_models_of_one_digest_are_named_with_nothing_read() -> None:
    same = "a" * 40
    (found,) = same_content(collection(commits={1: same, 4: same, 6: same}))
    assert found.models == ("m1", "m4", "m6")
    assert "digest" in found.why
    assert same_content(collection()) == ()


def test_the_base_itself_among_its_models_is_named() -> None:
    (found,) = same_content(collection(base=ModelRef("/base", f"{3:040x}")))
    assert found.models == ("m2", BASE)


def test_files_of_one_repository_share_its_commit_and_are_no_copies() -> None:
    refs = tuple(ModelRef("lab/styles", "c" * 40, f"{i}.safetensors") for i in range(3))
    assert same_content(Collection("hub", refs, ("a", "b", "c"), (), "f")) == ()


def test_the_same_files_in_two_places_are_one_content(tmp_path: Path) -> None:
    for i in range(4):
        # The last is a copy of the first under another name.
        rows = siblings()[i % 3].reshape(SHAPE).astype("float32")
        save_file({"w": rows}, tmp_path / f"m{i}.safetensors")
    (found,) = same_content(uws.collect(tmp_path))
    assert found.models == ("m0", "m3")


def test_a_model_that_was_started_anew_is_found_in_every_layer() -> None:
    looks = []
    for layer in range(3):
        rows = siblings(seed=layer)
        rows[5] = fresh(layer)
        looks.append(seen(rows))
    (found,) = flags(collection(), looks)
    assert (found.models, found.what) == (("m5",), "looks re-initialised")
    assert found.why.startswith("in 3 of 3 layers read, first ")
    assert "random numbers" in found.why
    assert flags(collection(), [seen(siblings())]) == ()


def test_one_layer_started_anew_is_named_by_that_layer() -> None:
    head = siblings(seed=1)
    head[2] = fresh(0)
    (found,) = flags(collection(), [seen(siblings()), seen(head)])
    assert found.models == ("m2",)
    assert found.why.startswith("in ")
    assert "layers read" not in found.why


def test_a_whole_collection_of_random_numbers_is_told_as_one() -> None:
    rows = np.stack([fresh(i) for i in range(8)])
    (found,) = flags(collection(), [seen(rows)])
    assert (found.models, found.what) == ((COLLECTION,), "looks as if never trained")


def test_near_copies_must_be_so_in_every_layer_that_can_tell() -> None:
    copied = [siblings(seed=layer) for layer in range(2)]
    for rows in copied:
        rows[7] = rows[3] * (1 + 1e-7)
    # A layer that was not trained is the same in all models, and tells nothing.
    frozen = np.repeat(siblings(1, seed=9), 8, axis=0)
    looks = [seen(rows) for rows in (frozen, *copied)]
    assert [one.frozen for one in looks] == [True, False, False]
    (found,) = flags(collection(), looks)
    assert (found.models, found.what) == (("m3", "m7"), "are nearly the same")
    assert "in all 2 layers read that can tell" in found.why
    assert flags(collection(), [*looks, seen(siblings(seed=4))]) == ()
    same = {3: "a" * 40, 7: "a" * 40}
    assert [one.what for one in flags(collection(commits=same), looks)] == ["have the same content"]


def test_models_with_numbers_that_are_none_are_named() -> None:
    rows = siblings()
    rows[1, 5] = np.nan
    found = flags(collection(), [seen(rows)])
    assert [(one.models, one.what) for one in found] == [(("m1",), "holds NaN or infinity")]


@pytest.mark.parametrize("name", sorted(DEMOS))
def test_the_built_in_collections_raise_no_false_alarm(name: str) -> None:
    found = uws.collect(PREFIX + name)
    raised = flags(found, [look(uws.gram(found, layer)) for layer in found.layers if not layer.factor])
    if name in ("untrained", "noise", "faint-spike"):
        # None of them was trained, and no test here sees the directions that are too faint to be seen.
        assert [(one.models, one.what) for one in raised] == [((COLLECTION,), "looks as if never trained")]
    elif name == "equal-cosines":
        assert [(one.models, one.what) for one in raised] == [((COLLECTION,), "looks silently initialised again")]
    elif name == "reinitialised":
        assert [one.what for one in raised] == ["looks re-initialised"] * 4
    else:
        assert raised == ()
