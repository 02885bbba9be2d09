"""What lies beside a model's weights: the configuration that sets their scale, and weights that are not read."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.hub_fixtures import standin
from tests.hub_standin import HubStandIn
from tests.written import dense, pair, reason, sharded, weights
from uws_core.collection import collect
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.shards import USUAL, layout_of
from uws_core.sources.opening import open_source

__all__ = ["standin"]

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 16}
LAYER = "model.0.q.weight"


def keys(seed: int = 0, stem: str = "base_model.model.model.0.q") -> dict[str, torch.Tensor]:
    up, down = pair(seed)
    return {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}


def put(folder: Path, names: tuple[str, ...] = ("model.safetensors",), *, config: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        save_file(keys(i), folder / name)
    if config:
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder


def scale(ref: ModelRef, layer: str = LAYER) -> float:
    return open_source(ref).read(layer).scale


class TestScale:
    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_lora_weights.safetensors", "mine.safetensors"])
    def test_is_that_of_the_configuration_beside_the_only_weights(self, tmp_path: Path, name: str):
        folder = put(tmp_path / "m", (name,))
        up, down = pair(0)
        for ref in (ModelRef(str(folder), ""), ModelRef(str(folder / name), ""), ModelRef(str(folder), "", name)):
            torch.testing.assert_close(dense(open_source(ref).read(LAYER)), 8 * (up.double() @ down.double()))
            assert not [note for note in open_source(ref).left_out if "assumed" in note.reason]

    def test_is_that_of_the_configuration_for_the_weights_that_are_chosen_among_several(self, tmp_path: Path):
        folder = put(tmp_path / "m", ("model.safetensors", "other.safetensors"))
        assert scale(ModelRef(str(folder), "")) == 8
        assert scale(ModelRef(str(folder), "", "other.safetensors")) == 8

    def test_of_a_file_among_several_is_not_guessed(self, tmp_path: Path):
        folder = put(tmp_path / "m", ("a.safetensors", "b.safetensors"))
        found = collect(folder)
        assert scale(found.refs[0]) == 1
        assert reason(found.left_out, "adapter_config.json") == (
            "not used: 2 weights files lie beside it and it does not name the file it belongs to; give each a folder "
            "of its own"
        )

    def test_of_a_whole_model_or_of_another_trainers_names_takes_no_configuration_of_peft(self, tmp_path: Path):
        folder = put(tmp_path / "m")
        save_file(weights(), folder / "model.safetensors")
        assert open_source(ModelRef(str(folder), "")).format == "checkpoint"
        up, down = pair(0)
        parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(4.0)}
        named = {f"lora_unet_mid_block_attentions_0_proj_in.{key}": value for key, value in parts.items()}
        save_file(named, folder / "model.safetensors")
        assert scale(ModelRef(str(folder), ""), "unet.mid_block.attentions.0.proj_in.weight") == 2

    def test_sets_the_commit(self, tmp_path: Path):
        folder = put(tmp_path / "m")
        before = open_source(ModelRef(str(folder), "")).digest()
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG | {"lora_alpha": 2}))
        assert open_source(ModelRef(str(folder), "")).digest() != before

    def test_is_that_of_the_configuration_on_the_hub(self, standin: HubStandIn, tmp_path: Path):
        folder = put(tmp_path / "m")
        standin.add("lab/m", {file.name: file.read_bytes() for file in folder.iterdir()})
        assert scale(ModelRef("lab/m", "")) == 8

    def test_that_is_assumed_is_said(self, tmp_path: Path):
        for i in range(2):
            put(tmp_path / "m" / str(i), config=False)
        found = collect(tmp_path / "m")
        assert scale(found.refs[0]) == 1
        assert "scale assumed 1: no alpha in the file and no adapter_config.json" in {
            note.reason for note in found.left_out
        }


class TestOthers:
    @pytest.mark.parametrize(("first", "second"), list(pairwise(USUAL)))
    def test_the_more_telling_of_two_usual_names_is_read_and_the_other_listed(
        self, tmp_path: Path, first: str, second: str
    ):
        assert layout_of([second, first]).files == (first,)
        source = open_source(ModelRef(str(put(tmp_path / "m", (first, second))), ""))
        assert reason(source.left_out, second) == (
            f"not read: the model's weights are those in {first}; name this file as the part to read it instead"
        )
        torch.testing.assert_close(source.read(LAYER).up, pair(0)[0])

    def test_a_file_beside_an_index_is_listed(self, tmp_path: Path):
        folder = sharded(tmp_path / "m", weights())
        save_file(weights(1), folder / "extra.safetensors")
        source = open_source(ModelRef(str(folder), ""))
        listed = [note for note in source.left_out if note.what.endswith(".safetensors")]
        assert [note.what for note in listed] == ["extra.safetensors"]
        assert "those in model.safetensors.index.json" in listed[0].reason

    @pytest.mark.parametrize("name", ["m.gguf", "pytorch_model.bin", "tf_model.h5"])
    def test_weights_of_other_formats_are_listed_and_what_trainers_keep_is_not(self, tmp_path: Path, name: str):
        folder = put(tmp_path / "m")
        for one in (name, "optimizer.pt", "training_args.bin"):
            (folder / one).write_bytes(b"x")
        found = open_source(ModelRef(str(folder), "")).left_out
        assert reason(found, name) == "not read: the model's weights are those in model.safetensors"
        assert not {note.what for note in found} & {"optimizer.pt", "training_args.bin"}

    def test_shards_in_another_format_are_one_line(self, tmp_path: Path):
        folder = put(tmp_path / "m")
        for i in range(30):
            (folder / f"pytorch_model-{i + 1:05d}-of-00030.bin").write_bytes(b"x")
        listed = [note.what for note in open_source(ModelRef(str(folder), "")).left_out]
        assert listed.count("pytorch_model-*-of-00030.bin") == 1
        assert len(listed) < 5

    def test_a_file_that_was_named_is_all_that_was_asked_for(self, tmp_path: Path):
        folder = put(tmp_path / "m", ("model.safetensors", "other.safetensors"))
        source = open_source(ModelRef(str(folder), "", "other.safetensors"))
        assert "model.safetensors" not in {note.what for note in source.left_out}

    def test_the_collection_shows_them(self, tmp_path: Path):
        for i in range(2):
            put(tmp_path / "m" / str(i), ("adapter_model.safetensors", "ema.safetensors"))
        assert "not read" in reason(collect(tmp_path / "m").left_out, "ema.safetensors")
