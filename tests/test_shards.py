import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.written import matrices, sharded, weights
from uws_core.errors import OutsideRoot, SourceError, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.shards import layout_of, placed, safe_name
from uws_core.sources.opening import open_source

# Some thousands over all tests here; the wide profile takes ten times as many, and new ones each time.
HOSTILE = settings(max_examples=max(400, 5 * settings.default.max_examples))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


names = st.text(st.characters(codec="utf-8"), max_size=12) | st.lists(
    st.sampled_from(["..", ".", "a", "/", "\\", "b.safetensors", "C:", "\0", "~", "%2e%2e"]), max_size=5
).map("/".join)


@HOSTILE
@given(names)
def test_a_name_that_passes_stays_below_any_folder(name: str):
    import posixpath

    try:
        safe_name(name)
    except OutsideRoot:
        return
    joined = posixpath.normpath(posixpath.join("/root/model", name))
    assert joined == "/root/model" or joined.startswith("/root/model/")
    assert "\\" not in name
    assert "\0" not in name


@HOSTILE
@given(st.dictionaries(st.text(max_size=5), names, min_size=1, max_size=4))
def test_an_index_leads_to_files_of_its_own_folder_or_nowhere(weight_map: dict[str, str]):
    there = {"b.safetensors", "sub/b.safetensors", "../b.safetensors", *weight_map.values()}
    try:
        found = placed(json.dumps({"weight_map": weight_map}).encode(), names=there)
    except (OutsideRoot, UnreadableFile):
        return
    assert all("/" not in file and file.endswith(".safetensors") for file in found)
    assert {name for tensors in found.values() for name in tensors} == set(weight_map)


@HOSTILE
@given(st.binary(max_size=60) | anything.map(lambda found: json.dumps(found).encode()))
def test_any_index_is_read_or_refused(index: bytes):
    with pytest.raises((UnreadableFile, OutsideRoot)):
        placed(index, names={"model.safetensors"})


class TestLayout:
    def test_the_index_wins(self):
        found = layout_of(["a.safetensors.index.json", "a-00001-of-00001.safetensors", "other.safetensors"])
        assert found.index == "a.safetensors.index.json"

    def test_one_of_two_indexes_is_named(self):
        names = ["a.safetensors.index.json", "b.safetensors.index.json", "a.safetensors"]
        with pytest.raises(UnsupportedFormat, match="2 indexes"):
            layout_of(names)
        assert layout_of(names, "b.safetensors.index.json").index == "b.safetensors.index.json"

    @pytest.mark.parametrize("name", ["model", "adapter_model", "diffusion_pytorch_model"])
    def test_the_usual_name_wins_over_others(self, name: str):
        assert layout_of(["ema.safetensors", f"{name}.safetensors"]).files == (f"{name}.safetensors",)

    def test_a_missing_shard_is_counted(self):
        with pytest.raises(UnreadableFile, match="2 of 3 shards"):
            layout_of(["m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors"])

    def test_nothing_to_read_says_so(self):
        with pytest.raises(UnsupportedFormat, match="no safetensors file"):
            layout_of(["README.md"])


class TestHostileIndex:
    @pytest.mark.parametrize(
        "file",
        ["../secret.safetensors", "/etc/secret.safetensors", "a/../../secret.safetensors", "..\\secret.safetensors",
         "C:\\secret.safetensors", "sub/secret.safetensors", "secret\n.safetensors", "/etc/passwd", "passwd"],
    )  # fmt: skip
    def test_names_that_leave_the_folder_are_refused(self, tmp_path: Path, file: str):
        save_file(weights(), tmp_path / "secret.safetensors")
        folder = sharded(tmp_path / "model", weights())
        index = {"weight_map": dict.fromkeys(weights(), file)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(OutsideRoot, match="outside the model's folder"):
            open_source(ModelRef(str(folder), ""))

    def test_a_link_out_of_the_folder_is_not_followed_through_an_index(self, tmp_path: Path):
        folder = sharded(tmp_path / "model", weights())
        shard = folder / "model-00001-of-00003.safetensors"
        shard.rename(tmp_path / "secret.safetensors")
        shard.symlink_to(tmp_path / "secret.safetensors")
        with pytest.raises(OutsideRoot, match="through a link"):
            open_source(ModelRef(str(folder), ""))

    def test_the_links_of_a_hub_cache_are_followed(self, tmp_path: Path):
        snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        sharded(snapshot, weights())
        blobs = tmp_path / "models--a--b" / "blobs"
        blobs.mkdir()
        for i, file in enumerate(sorted(snapshot.iterdir())):
            file.rename(blobs / f"{i}")
            file.symlink_to(blobs / f"{i}")
        source = open_source(ModelRef(str(snapshot), ""))
        assert torch.equal(source.read("head.weight"), weights()["head.weight"])

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ({"weight_map": {"x": "model-00009-of-00009.safetensors"}}, "not there"),
            ({"weight_map": {"x": "model-00001-of-00003.safetensors"}}, "expects 'x' here"),
            ({"weight_map": {}}, "no weight_map"),
            ({"weight_map": {"x": 3}}, "something other than file names"),
            ([1, 2], "no weight_map"),
        ],
    )
    def test_an_index_that_does_not_fit_its_files_is_refused(self, tmp_path: Path, index: object, message: str):
        folder = sharded(tmp_path / "model", weights())
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UnreadableFile, match=message):
            open_source(ModelRef(str(folder), ""))

    def test_a_tensor_in_two_shards_is_refused(self, tmp_path: Path):
        folder = sharded(tmp_path / "model", weights())
        shutil.copyfile(folder / "model-00001-of-00003.safetensors", folder / "model-00002-of-00003.safetensors")
        (folder / "model.safetensors.index.json").unlink()
        with pytest.raises(UnreadableFile, match="also stands in"):
            open_source(ModelRef(str(folder), ""))

    @pytest.mark.parametrize("part", ["../other.safetensors", "/etc/x.safetensors", "a//b.safetensors"])
    def test_a_part_stays_in_its_folder(self, tmp_path: Path, part: str):
        save_file(weights(), tmp_path / "other.safetensors")
        folder = sharded(tmp_path / "model", weights())
        with pytest.raises(SourceError, match="plain relative path"):
            open_source(ModelRef(str(folder), "", part))


def test_any_split_into_shards_reads_the_same(tmp_path: Path):
    tensors = weights()
    for shards in range(1, 6):
        source = open_source(ModelRef(str(sharded(tmp_path / str(shards), tensors, shards)), ""))
        for name, value in matrices(tensors).items():
            assert torch.equal(source.read(name), value)
