"""Pickled files, read only by choice and only through the weights-only loader."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.contracts import SourceContract, Written
from uws_core.collection import collect
from uws_core.errors import UnreadableFile
from uws_core.nouns.models import LayerKey, ModelRef
from uws_core.passes.gram import gram
from uws_core.passes.side import side_gram
from uws_core.sources.opening import open_source

pytestmark = pytest.mark.filterwarnings("ignore")


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at(folder: Path, tensors: dict[str, Tensor], name: str = "model") -> ModelRef:
    folder.mkdir(exist_ok=True, parents=True)
    save_file(tensors, folder / f"{name}.safetensors")
    return ModelRef(str(folder / f"{name}.safetensors"), "")


class TestPickled(SourceContract):
    @pytest.fixture(params=["model.bin", "model.pt"])
    def written(self, tmp_path: Path, request: pytest.FixtureRequest) -> Written:
        tensors = {"a.weight": some(5, 4), "b.weight": some(3, 2).bfloat16(), "c.weight": some(6, 3).T}
        torch.save(tensors | {"bias": some(4), "step": torch.tensor(3)}, tmp_path / request.param)
        return Written(ModelRef(str(tmp_path / request.param), "", "?pickled"), {**tensors, "c.weight": some(6, 3).T})

    def test_holds_no_file_open(self, written: Written):
        # Mapped memory holds the file, not a handle of it; what counts is that handles do not pile up.
        super().test_holds_no_file_open(written)

    def test_is_never_read_unless_it_was_chosen(self, tmp_path: Path):
        for i in range(2):
            torch.save({"a.weight": some(5, 4, seed=i)}, tmp_path / f"m{i}.bin")
        with pytest.raises(Exception, match="run code when opened"):
            collect(tmp_path)
        found = collect(tmp_path, pickled=True)
        assert found.labels == ("m0", "m1")
        assert torch.equal(open_source(found.refs[1]).read("a.weight"), some(5, 4, seed=1))
        with pytest.raises(Exception, match="run code when opened"):
            open_source(ModelRef(found.refs[0].repo, ""))

    def test_passes_give_what_they_give_of_the_same_weights_in_safetensors(self, tmp_path: Path):
        for i in range(4):
            tensors = {"a.weight": some(70, 40, seed=i), "b.weight": some(30, 50, seed=9 + i).bfloat16().T}
            (tmp_path / "pickled").mkdir(exist_ok=True)
            torch.save(tensors, tmp_path / "pickled" / f"m{i}.pt")
            at(tmp_path / "safe", {name: value.contiguous() for name, value in tensors.items()}, f"m{i}")
        pickled, safe = collect(tmp_path / "pickled", pickled=True), collect(tmp_path / "safe")
        assert [key.name for key in pickled.layers] == ["a.weight", "b.weight"]
        for key in safe.layers:
            assert (gram(pickled, key.name).values == gram(safe, key.name).values).all()
            there, here = (side_gram(one, key.name, axis="out").values for one in (pickled, safe))
            assert (there == here).all()

    def test_safetensors_are_preferred_where_both_are(self, tmp_path: Path):
        for i in range(2):
            at(tmp_path / f"m{i}", {"a.weight": some(5, 4, seed=i)})
            torch.save({"a.weight": some(5, 4, seed=9)}, tmp_path / f"m{i}" / "pytorch_model.bin")
        assert [ref.part for ref in collect(tmp_path, pickled=True).refs] == ["", ""]

    def test_code_inside_is_not_run(self, tmp_path: Path):
        target = tmp_path / "ran"

        class Hostile:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return exec, (f"open({str(target)!r}, 'w').close()",)

        torch.save({"a.weight": some(2, 2), "x": Hostile()}, tmp_path / "bad.bin")
        with pytest.raises(UnreadableFile, match="weights-only loader refuses it"):
            open_source(ModelRef(str(tmp_path / "bad.bin"), "", "?pickled"))
        assert not target.exists()

    @pytest.mark.parametrize("raw", [b"", b"hello", b"PK\x03\x04" + bytes(200), b"\x80\x02}q\x00."])
    def test_what_is_no_model_is_refused(self, tmp_path: Path, raw: bytes):
        (tmp_path / "bad.bin").write_bytes(raw)
        with pytest.raises(Exception, match=r"bad\.bin") as caught:
            open_source(ModelRef(str(tmp_path / "bad.bin"), "", "?pickled"))
        assert type(caught.value).__module__ == "uws_core.errors"

    def test_weights_inside_a_training_state_are_found(self, tmp_path: Path):
        torch.save({"epoch": 3, "state_dict": {"module.a.weight": some(5, 4)}}, tmp_path / "last.ckpt")
        source = open_source(ModelRef(str(tmp_path / "last.ckpt"), "", "?pickled"))
        assert source.layers() == (LayerKey("a.weight", (5, 4)),)

    def test_shards_through_their_index(self, tmp_path: Path):
        tensors = {f"w{i}.weight": some(4, 3, seed=i) for i in range(4)}
        names = [f"pytorch_model-0000{i + 1}-of-00002.bin" for i in range(2)]
        for i, name in enumerate(names):
            torch.save({key: tensors[key] for key in list(tensors)[2 * i : 2 * i + 2]}, tmp_path / name)
        weight_map = {key: names[i // 2] for i, key in enumerate(tensors)}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        source = open_source(ModelRef(str(tmp_path), "", "pytorch_model.bin.index.json?pickled"))
        for name, value in tensors.items():
            assert torch.equal(source.read(name), value)
        weight_map["w0.weight"] = "../secret.bin"
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(Exception, match="outside the model's folder"):
            open_source(ModelRef(str(tmp_path), "", "pytorch_model.bin.index.json?pickled"))

    def test_a_changed_file_is_noticed(self, tmp_path: Path):
        for i in range(2):
            torch.save({"a.weight": some(5, 4, seed=i)}, tmp_path / f"m{i}.bin")
        found = collect(tmp_path, pickled=True)
        torch.save({"a.weight": some(5, 4, seed=7)}, tmp_path / "m0.bin")
        with pytest.raises(UnreadableFile, match="changed since"):
            open_source(found.refs[0])

    def test_the_same_weights_as_safetensors_read_the_same(self, tmp_path: Path):
        save_file({"a.weight": some(5, 4)}, tmp_path / "a.safetensors")
        torch.save(load_file(tmp_path / "a.safetensors"), tmp_path / "a.bin")
        first = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
        second = open_source(ModelRef(str(tmp_path / "a.bin"), "", "?pickled"))
        assert torch.equal(first.read("a.weight"), second.read("a.weight"))

    def test_what_is_no_plain_tensor_is_listed(self, tmp_path: Path):
        odd = {
            "a.weight": some(5, 4),
            "b.weight": some(5, 4).to_sparse(),
            "c.weight": torch.quantize_per_tensor(some(5, 4), 0.1, 0, torch.qint8),
            "epoch": 3,
        }
        torch.save(odd, tmp_path / "m.bin")
        source = open_source(ModelRef(str(tmp_path / "m.bin"), "", "?pickled"))
        assert [layer.name for layer in source.layers()] == ["a.weight"]
        assert [key.key for key in source.report().keys] == list(odd)
        reasons = {note.what: note.reason for note in source.left_out}
        assert "torch.sparse_coo" in reasons["b.weight"]
        assert "quantised" in reasons["c.weight"]
        assert "int, no tensor" in reasons["epoch"]
        assert source.digest() == open_source(ModelRef(str(tmp_path / "m.bin"), "", "?pickled")).digest()

    def test_what_lies_beside_the_weights_in_a_training_state_is_listed(self, tmp_path: Path):
        state = {"epoch": 3, "optimizer": {"lr": 1.0}, "state_dict": {"a.weight": some(5, 4)}}
        torch.save(state, tmp_path / "last.ckpt")
        source = open_source(ModelRef(str(tmp_path / "last.ckpt"), "", "?pickled"))
        assert {note.what for note in source.left_out} == {"epoch", "optimizer"}
        assert {key.key for key in source.report().keys} == {"epoch", "optimizer", "a.weight"}

    def test_a_file_that_its_index_does_not_name_is_listed(self, tmp_path: Path):
        for name in ("pytorch_model-00001-of-00001.bin", "extra.bin"):
            torch.save({"a.weight": some(5, 4)}, tmp_path / name)
        weight_map = {"a.weight": "pytorch_model-00001-of-00001.bin"}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        source = open_source(ModelRef(str(tmp_path), "", "pytorch_model.bin.index.json?pickled"))
        assert [note.what for note in source.left_out] == ["extra.bin"]
