"""Several architectures at one place: how they are told apart, named, and chosen."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from uws_core.analysis.architectures import described, matching
from uws_core.collection import architectures, collect
from uws_core.errors import CollectionError, OutsideRoot
from uws_core.nouns.models import LayerKey
from uws_core.zoo import mixed
from uws_core.zoo.demo import DEMOS, prepare

POLICY = {"net.0.weight": (64, 8), "net.2.weight": (64, 64), "net.4.weight": (4, 64)}
WIDE = {"net.0.weight": (256, 8), "net.2.weight": (256, 256), "net.4.weight": (256, 256), "net.6.weight": (4, 256)}


def written(path: Path, shapes: dict[str, tuple[int, int]], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    save_file({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Twelve small policies, seven wide ones a folder each, a training run, and a stranger."""
    for seed in range(12):
        written(tmp_path / "PPO" / f"seed-{seed}.safetensors", POLICY, seed)
    for seed in range(7):
        written(tmp_path / "wide" / str(seed) / "model.safetensors", WIDE, seed)
    for step in (1000, 500):
        written(tmp_path / "runs" / "a" / f"checkpoint-{step}" / "model.safetensors", {"w": (5, 3)}, step)
    written(tmp_path / "alone.safetensors", {"x": (3, 3)})
    return tmp_path


def test_every_group_of_two_is_listed_the_largest_first(place: Path):
    found = architectures(place)
    assert [str(item) for item in found] == [
        "PPO 64 x 64: 12 models, 3 layers",
        "wide 256 x 256: 7 models, 4 layers",
        "runs/a 5 x 3: 2 models, 1 layer",
    ]
    assert found[2].models == ("runs/a/checkpoint-500", "runs/a/checkpoint-1000")
    assert {layer.name: layer.shape for layer in found[1].layers} == WIDE


def test_each_is_collected_by_its_id_or_title(place: Path):
    for item in architectures(place):
        for name in (item.id, item.title, item.title.upper(), item.title.split()[0]):
            collection = collect(place, architecture=name)
            assert collection.labels == item.models
            assert collection.layers == item.layers
    assert collect(place).labels == architectures(place)[0].models


def test_models_of_the_others_are_left_out_with_the_name_of_theirs(place: Path):
    reasons = {note.what: note.reason for note in collect(place, architecture="wide").left_out}
    assert reasons["PPO/seed-3"] == "another architecture: PPO 64 x 64"
    assert reasons["alone"] == "another architecture, of which no other model is here"


def test_an_unknown_one_is_refused_with_a_list_of_those_that_are_there(place: Path):
    with pytest.raises(CollectionError, match=r"no architecture is called 'x'.*PPO 64 x 64: 12 models"):
        collect(place, architecture="x")


def test_an_id_stays_when_models_are_added(place: Path):
    before = architectures(place)
    shutil.copytree(place / "wide" / "0", place / "wide" / "99")
    after = architectures(place)
    assert [item.id for item in after] == [item.id for item in before]
    assert len(after[1].models) == 8


def test_a_pair_is_compared_where_the_commonest_kind_has_none(tmp_path: Path):
    for i in range(3):
        written(tmp_path / f"adapter-{i}.safetensors", adapter(f"module{i}"))
    for i in range(2):
        written(tmp_path / f"whole-{i}.safetensors", POLICY, i)
    assert [item.models for item in architectures(tmp_path)] == [("whole-0", "whole-1")]
    assert collect(tmp_path).labels == ("whole-0", "whole-1")


def adapter(module: str) -> dict[str, tuple[int, int]]:
    name = f"base_model.model.{module}"
    return {f"{name}.lora_A.weight": (2, 8), f"{name}.lora_B.weight": (8, 2)}


def test_a_place_of_one_architecture_lists_it_alone_and_a_place_without_pairs_none(tmp_path: Path):
    written(tmp_path / "a.safetensors", POLICY)
    written(tmp_path / "b.safetensors", {"x": (3, 3)})
    assert architectures(tmp_path) == ()
    written(tmp_path / "c.safetensors", POLICY, 1)
    assert [item.models for item in architectures(tmp_path)] == [("a", "c")]


def test_nothing_outside_the_roots_is_looked_at(place: Path, tmp_path_factory: pytest.TempPathFactory):
    with pytest.raises(OutsideRoot):
        architectures(place, roots=[tmp_path_factory.mktemp("elsewhere")])


def test_a_cache_of_the_hub_gives_its_architectures(tmp_path: Path):
    for owner, shapes in (("lab", POLICY), ("uni", WIDE)):
        for i in range(2):
            snapshot = tmp_path / f"models--{owner}--net-{i}" / "snapshots" / f"{i:040x}"
            written(snapshot / "model.safetensors", shapes, i)
    assert [item.models for item in architectures(tmp_path)] == [
        ("lab/net-0", "lab/net-1"),
        ("uni/net-0", "uni/net-1"),
    ]


class TestDescribed:
    def test_equal_titles_are_told_apart(self):
        groups = [
            ("checkpoint", ("a", "b"), [LayerKey("x", (3, 3))]),
            ("checkpoint", ("c", "d"), [LayerKey("y", (3, 3))]),
        ]
        first, second = described(groups)
        assert first.title != second.title
        assert first.title.startswith("3 x 3 (")

    @pytest.mark.parametrize(
        ("labels", "title"),
        [
            (("ppo/a-1", "ppo/a-2"), "ppo/a 4 x 2"),
            (("seed-1", "seed-2"), "4 x 2"),
            (("x1", "x2"), "4 x 2"),
            (("lab/one", "uni/two"), "4 x 2"),
            (("my model-1", "my model-2"), "my 4 x 2"),
        ],
    )
    def test_a_title_is_the_common_beginning_and_the_commonest_shape(self, labels: tuple[str, ...], title: str):
        layers = [LayerKey("a", (4, 2)), LayerKey("b", (4, 2)), LayerKey("c", (90, 90))]
        assert described([("checkpoint", labels, layers)])[0].title == title

    def test_adapters_say_so_and_count_no_factor_views(self):
        layers = [LayerKey("q", (4, 4)), LayerKey("q:A", (2, 4)), LayerKey("q:B", (4, 2))]
        (item,) = described([("adapter", ("a", "b"), layers)])
        assert str(item) == "adapters 4 x 4: 2 models, 1 layer"

    @given(st.text(max_size=40))
    def test_any_text_may_be_looked_up(self, text: str):
        known = described([("checkpoint", ("a", "b"), [LayerKey("x", (3, 3))])])
        assert matching(text, known) in (None, *known)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(DEMOS["mixed"], tmp_path_factory.mktemp("demos")).folder


class TestMixed:
    def test_has_four_architectures_in_one_tree(self, built: Path):
        assert [str(item) for item in architectures(built)] == [
            "vit 32 x 32: 12 models, 20 layers",
            "mlp 32 x 64: 8 models, 3 layers",
            "adapters 32 x 32: 8 models, 18 layers",
            "run 48 x 64: 6 models, 3 layers",
        ]

    def test_the_run_is_in_the_order_of_its_steps(self, built: Path):
        run = collect(built, architecture="run")
        assert run.labels == tuple(f"run/checkpoint-{step}" for step in mixed.STEPS)
        assert run.table["step"] == mixed.STEPS
        assert "step" not in collect(built, architecture="vit").table

    def test_its_small_networks_have_learned(self):
        digits = mixed.load_file(mixed.DATA / "digits.safetensors")
        images = digits["images"].reshape(len(digits["images"]), -1) / 16 - 0.5
        for step, weights in mixed.training_run(mixed.MLP, seed=0, steps=(0, 400)):
            values = images
            for i in range(3):
                values = values @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]
                values = np.maximum(values, 0) if i < 2 else values
            score = float((values.argmax(axis=1) == digits["digits"]).mean())
            assert score < 0.25 if step == 0 else score > 0.9
