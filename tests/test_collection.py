import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.written import model, reason
from uws_core.collection import collect, fingerprint
from uws_core.errors import CollectionError, UnreadableFile
from uws_core.nouns.models import ModelRef
from uws_core.sources import discovery
from uws_core.sources.opening import open_source
from uws_core.zoo.demo import DEMOS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve models of one architecture."""
    place = tmp_path / "runs"
    place.mkdir()
    for i in range(12):
        save_file(model(i), place / f"m{i}.safetensors")
    return place


class TestFolder:
    def test_is_a_model_a_file_in_natural_order(self, folder: Path):
        found = collect(folder)
        assert found.name == "runs"
        assert found.labels == tuple(f"m{i}" for i in range(12))
        assert [layer.name for layer in found.layers] == ["blocks.0.q.weight", "blocks.1.q.weight", "head.weight"]
        assert found.by_name["head.weight"].shape == (10, 4)
        for i, ref in enumerate(found.refs):
            assert torch.equal(open_source(ref).read("head.weight"), model(i)["head.weight"])

    def test_relative_and_home_paths_and_text_are_the_same_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(folder.parent)
        monkeypatch.setenv("HOME", str(folder.parent))
        assert collect("runs").refs == collect(folder).refs == collect("~/runs").refs

    def test_may_hold_model_folders_at_any_usual_depth(self, tmp_path: Path):
        for i, place in enumerate(["a/seed2", "a/seed10", "b/seed1"]):
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / "config.json").write_text("{}")
            (tmp_path / place / "optimizer.pt").write_bytes(b"state")
            save_file(model(i), tmp_path / place / "model.safetensors")
        save_file(model(3), tmp_path / "single.safetensors")
        found = collect(tmp_path)
        assert found.labels == ("a/seed2", "a/seed10", "b/seed1", "single")
        assert [note.what for note in found.left_out] == ["norm.bias"]

    def test_a_trainers_folder_is_its_final_model_and_its_checkpoints(self, tmp_path: Path):
        place = tmp_path / "run"
        for i, inner in enumerate(["", "checkpoint-500", "checkpoint-1000"]):
            (place / inner).mkdir(parents=True, exist_ok=True)
            (place / inner / "config.json").write_text("{}")
            save_file(model(i), place / inner / "model.safetensors")
        assert collect(place).labels == ("checkpoint-500", "checkpoint-1000", "run")
        shutil.copytree(place, tmp_path / "run2")
        outer = collect(tmp_path)
        assert outer.labels == ("run", "run2")
        assert "inside the model run" in reason(outer.left_out, "run/checkpoint-500")

    def test_a_file_and_a_folder_of_one_name_are_told_apart(self, folder: Path):
        (folder / "m3").mkdir()
        save_file(model(33), folder / "m3" / "model.safetensors")
        assert {"m3", "m3.safetensors"} <= set(collect(folder).labels)

    def test_a_circle_of_links_ends(self, folder: Path):
        (folder / "again").symlink_to(folder, target_is_directory=True)
        found = collect(folder)
        assert len(found) == 12
        assert "searched already" in reason(found.left_out, "again")

    def test_a_disk_named_by_mistake_is_noticed(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(discovery, "MOST_ENTRIES", 10)
        with pytest.raises(UnreadableFile, match="name a folder nearer"):
            collect(folder)


class TestLeftOut:
    def test_a_damaged_file_is_named_and_the_rest_works(self, folder: Path):
        (folder / "m4.safetensors").write_bytes((folder / "m4.safetensors").read_bytes()[:-5])
        (folder / "x.safetensors").write_text("hello, this is no model")
        found = collect(folder)
        assert len(found) == 11
        assert "truncated or changed" in reason(found.left_out, "m4")
        assert "no safetensors file" in reason(found.left_out, "x")

    def test_a_file_that_may_not_be_read_is_named(self, folder: Path):
        if os.geteuid() == 0:
            (folder / "m4.safetensors").unlink()
            (folder / "m4.safetensors").symlink_to(folder / "nowhere.safetensors")
            # A folder without rights cannot be made as root.
            found = collect(folder)
            assert len(found) == 11
            assert "nowhere.safetensors, which is not there" in reason(found.left_out, "m4.safetensors")
            return
        (folder / "m4.safetensors").chmod(0)
        assert "Permission" in reason(collect(folder).left_out, "m4")

    def test_another_architecture_is_left_out_as_a_model(self, folder: Path):
        save_file({"conv.weight": torch.ones(3, 3)}, folder / "m2.safetensors")
        save_file(model(3, depth=2) | {"blocks.0.q.weight": torch.ones(9, 4)}, folder / "m3.safetensors")
        save_file({k: torch.ones(2, 2) for k in model()}, folder / "m5.safetensors")
        found = collect(folder)
        assert set(found.labels) == {f"m{i}" for i in range(12)} - {"m2", "m5"}
        assert "shares 0 of the 3 layers of the 10 other models" in reason(found.left_out, "m2")
        assert "3 more bear the same name in another shape" in reason(found.left_out, "m5")

    def test_a_layer_that_one_lacks_is_left_out_as_a_layer(self, folder: Path):
        save_file(model(2, head=3), folder / "m2.safetensors")
        tensors = model(7, depth=3)
        del tensors["blocks.0.q.weight"]
        save_file(tensors, folder / "m7.safetensors")
        found = collect(folder)
        assert len(found) == 12
        assert [layer.name for layer in found.layers] == ["blocks.1.q.weight"]
        assert reason(found.left_out, "head.weight") == "10 x 4 in 11 of 12 models; 3 x 4 in m2"
        assert reason(found.left_out, "blocks.0.q.weight") == "6 x 4 in 11 of 12 models; missing in m7"
        assert reason(found.left_out, "blocks.2.q.weight") == "6 x 4 in 1 of 12 models (m7)"

    def test_vectors_are_listed_once_with_their_models(self, folder: Path):
        save_file(model(2) | {"extra": torch.ones(3)}, folder / "m2.safetensors")
        found = collect(folder)
        assert reason(found.left_out, "norm.bias") == "it is a vector of 4 entries, not a matrix"
        assert reason(found.left_out, "extra").endswith("(in 1 of 12 models: m2)")

    def test_formats_that_are_not_read_are_listed(self, folder: Path):
        for name in ("a.gguf", "b.bin", "training_args.bin"):
            (folder / name).write_bytes(b"x")
        found = collect(folder)
        assert "GGUF" in reason(found.left_out, "a.gguf")
        assert "run code" in reason(found.left_out, "b.bin")
        assert not [note for note in found.left_out if "training_args" in note.what]

    def test_every_tensor_of_every_model_is_a_layer_or_listed(self, folder: Path):
        save_file(model(2, head=3) | {"odd": torch.ones(2, 2, dtype=torch.int32)}, folder / "m2.safetensors")
        found = collect(folder)
        spoken_of = {layer.name for layer in found.layers} | {note.what for note in found.left_out}
        for i in range(12):
            assert set(model(i)) | {"odd"} <= spoken_of


class TestTooLittle:
    def test_an_empty_folder(self, tmp_path: Path):
        with pytest.raises(CollectionError, match="no model that can be read"):
            collect(tmp_path)

    def test_no_folder_at_all(self, tmp_path: Path):
        with pytest.raises((CollectionError, UnreadableFile), match="nowhere"):
            collect(tmp_path / "nowhere")

    def test_one_model_says_what_to_do(self, tmp_path: Path):
        save_file(model(), tmp_path / "only.safetensors")
        with pytest.raises(CollectionError, match=r"one model \(only\).*Choose the folder above"):
            collect(tmp_path)
        with pytest.raises(CollectionError, match=r"one model \(only\)"):
            collect(tmp_path / "only.safetensors")

    def test_nothing_in_common(self, tmp_path: Path):
        save_file({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, tmp_path / "1.safetensors")
        save_file({"b": torch.ones(2, 3), "a": torch.ones(2, 2)}, tmp_path / "2.safetensors")
        save_file({"b": torch.ones(2, 2), "a": torch.ones(3, 2)}, tmp_path / "3.safetensors")
        with pytest.raises(CollectionError, match="no matrix that all of them have"):
            collect(tmp_path)

    def test_the_reason_stands_in_the_message(self, tmp_path: Path):
        (tmp_path / "a.safetensors").write_bytes(b"bad")
        with pytest.raises(CollectionError, match="a safetensors file begins with"):
            collect(tmp_path)


class TestBase:
    def test_is_opened_and_its_layers_named(self, folder: Path, tmp_path: Path):
        save_file(model(99, head=7), tmp_path / "base.safetensors")
        found = collect(folder, base=tmp_path / "base.safetensors")
        assert found.base is not None
        assert found.base.commit
        assert found.base_layers == {"blocks.0.q.weight", "blocks.1.q.weight"}
        assert "head.weight" in reason(found.left_out, "base: 1 of 3 layers")
        assert found.fingerprint == collect(folder).fingerprint

    def test_one_without_a_common_layer_is_refused(self, folder: Path, tmp_path: Path):
        save_file({"w": torch.ones(2, 2)}, tmp_path / "base.safetensors")
        with pytest.raises(CollectionError, match="is no base of these models"):
            collect(folder, base=tmp_path / "base.safetensors")


class TestFingerprint:
    def test_is_of_contents_in_order(self, folder: Path, tmp_path: Path):
        shutil.copytree(folder, tmp_path / "copy")
        first, second = collect(folder), collect(tmp_path / "copy")
        assert first.fingerprint == second.fingerprint
        save_file(model(50), tmp_path / "copy" / "m3.safetensors")
        assert collect(tmp_path / "copy").fingerprint != first.fingerprint

    def test_order_and_part_matter(self):
        one, two = ModelRef("a", "1"), ModelRef("b", "2")
        prints = {fingerprint([one, two]), fingerprint([two, one]), fingerprint([one, ModelRef("b", "2", "x")])}
        assert len(prints) == 3


@pytest.mark.parametrize("name", DEMOS)
def test_the_built_in_collections_open(name: str):
    found = collect(f"demo:{name}")
    assert len(found) == (12 if name == "mixed" else 40)
    assert found.name == f"demo:{name}"
    assert len(found.table["task"]) == len(found)
    assert None not in found.table["task"]
    assert len(found.layers) >= 3
    assert (found.base is not None) == (DEMOS[name].base is not None)
    assert pickle.loads(pickle.dumps(found)) == found


def test_an_unknown_built_in_name_lists_those_there_are():
    with pytest.raises(CollectionError, match="demo:finetuned"):
        collect("demo:nothing")


def test_listing_a_collection_imports_no_torch():
    code = (
        "import sys; from uws_core.collection import collect; c = collect('demo:finetuned'); "
        "assert len(c) == 40; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
