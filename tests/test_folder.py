import shutil
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from tests.contracts import SourceContract, Written
from tests.written import matrices, sharded, weights
from uws_core.errors import UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.blob import FileBlob
from uws_core.sources.opening import open_source, resolved

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


class TestOneFile(SourceContract):
    @pytest.fixture(params=FLOATS, ids=str)
    def written(self, tmp_path: Path, request: pytest.FixtureRequest) -> Written:
        tensors = weights(dtype=request.param)
        save_file(tensors, tmp_path / "model.safetensors")
        return Written(ModelRef(str(tmp_path / "model.safetensors"), ""), matrices(tensors))


class TestShards(SourceContract):
    @pytest.fixture
    def written(self, tmp_path: Path) -> Written:
        tensors = weights()
        return Written(ModelRef(str(sharded(tmp_path, tensors)), ""), matrices(tensors))


class TestShardsWithoutIndex(SourceContract):
    @pytest.fixture
    def written(self, tmp_path: Path) -> Written:
        tensors = weights()
        (sharded(tmp_path, tensors) / "model.safetensors.index.json").unlink()
        return Written(ModelRef(str(tmp_path), ""), matrices(tensors))


class TestFileInASubfolder(SourceContract):
    @pytest.fixture
    def written(self, tmp_path: Path) -> Written:
        tensors = weights()
        (tmp_path / "unet").mkdir()
        save_file(tensors, tmp_path / "unet" / "x.safetensors")
        return Written(ModelRef(str(tmp_path), "", "unet/x.safetensors"), matrices(tensors))


def test_agrees_with_the_safetensors_library_also_on_nan_and_infinity(tmp_path: Path):
    tensors = weights() | {"odd": torch.tensor([[float("nan"), float("inf")], [-0.0, float("-inf")]])}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    theirs = load_file(tmp_path / "a.safetensors")
    source = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
    for name, value in matrices(theirs).items():
        assert torch.equal(source.read(name).view(torch.int32), value.view(torch.int32))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bias", torch.ones(5), "vector of 5 entries"),
        ("cls", torch.ones(1, 1, 8), "vector of 8 entries"),
        ("scale", torch.tensor(1.0), "scalar"),
        ("ids", torch.ones(3, 3, dtype=torch.int64), "I64"),
        ("mask", torch.ones(3, 3, dtype=torch.bool), "BOOL"),
        ("none", torch.ones(0, 3), "empty"),
    ],
)
def test_what_is_no_matrix_is_listed_with_the_reason(tmp_path: Path, name: str, value: torch.Tensor, reason: str):
    save_file({name: value, "w": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    source = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
    assert [layer.name for layer in source.layers()] == ["w"]
    assert [note.what for note in source.left_out] == [name]
    assert reason in source.left_out[0].reason


def test_position_embeddings_are_a_matrix_of_positions(tmp_path: Path):
    save_file({"pos": torch.arange(24.0).reshape(1, 6, 4)}, tmp_path / "a.safetensors")
    source = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
    assert source.layers()[0].shape == (6, 4)
    assert torch.equal(source.read("pos", (1, 2)), torch.tensor([[4.0, 5, 6, 7]]))


class TestDigest:
    def test_is_of_the_content_not_of_path_name_or_time(self, tmp_path: Path):
        save_file(weights(), tmp_path / "a.safetensors")
        (tmp_path / "other").mkdir()
        shutil.copyfile(tmp_path / "a.safetensors", tmp_path / "other" / "b.safetensors")
        first, _ = resolved(ModelRef(str(tmp_path / "a.safetensors"), ""))
        second, _ = resolved(ModelRef(str(tmp_path / "other" / "b.safetensors"), ""))
        assert first.commit == second.commit

    def test_a_retrained_model_of_equal_size_has_another(self, tmp_path: Path):
        save_file(weights(0), tmp_path / "a.safetensors")
        save_file(weights(1), tmp_path / "b.safetensors")
        assert (tmp_path / "a.safetensors").stat().st_size == (tmp_path / "b.safetensors").stat().st_size
        refs = [ModelRef(str(tmp_path / name), "") for name in ("a.safetensors", "b.safetensors")]
        assert len({resolved(ref)[0].commit for ref in refs}) == 2

    def test_sees_a_change_in_any_one_tensor(self, tmp_path: Path):
        commits = set()
        for name in weights():
            changed = weights()
            changed[name] = changed[name] + 1
            save_file(changed, tmp_path / f"{name}.safetensors")
            commits.add(resolved(ModelRef(str(tmp_path / f"{name}.safetensors"), ""))[0].commit)
        assert len(commits) == len(weights())

    def test_samples_the_middle_of_a_large_tensor(self, tmp_path: Path):
        commits = set()
        for row in (None, 256):
            value = torch.zeros(512, 512)
            if row is not None:
                value[row] = 1
            save_file({"w": value}, tmp_path / f"{row}.safetensors")
            commits.add(resolved(ModelRef(str(tmp_path / f"{row}.safetensors"), ""))[0].commit)
        assert len(commits) == 2

    def test_a_file_written_twice_within_a_tick_of_the_clock_is_read_anew(self, tmp_path: Path):
        path = tmp_path / "a.safetensors"
        ref = ModelRef(str(path), "")
        for i in range(40):
            # Equal sizes, so that only the content tells one state from the next.
            save_file({"w": torch.full((2, 3) if i % 2 else (3, 2), float(i))}, path)
            now, source = resolved(ref)
            assert source.layers()[0].shape == ((2, 3) if i % 2 else (3, 2))
            assert open_source(now).ref == now
            save_file({"w": torch.full((2, 3) if i % 2 else (3, 2), -1.0 - i)}, path)
            with pytest.raises(UnreadableFile, match="changed since"):
                open_source(now)

    def test_reads_a_page_of_each_tensor_and_no_more(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        save_file({f"w{i}": torch.randn(512, 512) for i in range(4)}, tmp_path / "a.safetensors")
        source = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
        moved = []
        read = FileBlob.read

        def counted(self: FileBlob, start: int, stop: int, **options: memoryview) -> memoryview:
            moved.append(stop - start)
            return read(self, start, stop, **options)

        monkeypatch.setattr(FileBlob, "read", counted)
        source.digest()
        assert moved == [4096] * 4

    def test_a_file_that_changed_is_refused_where_the_old_state_was_asked_for(self, tmp_path: Path):
        path = tmp_path / "a.safetensors"
        save_file(weights(0), path)
        ref, _ = resolved(ModelRef(str(path), ""))
        assert open_source(ref).ref == ref
        save_file(weights(1), path)
        with pytest.raises(UnreadableFile, match="changed since the collection was made"):
            open_source(ref)


class TestDamage:
    def test_a_file_cut_anywhere_is_refused_and_named(self, tmp_path: Path):
        path = tmp_path / "cut.safetensors"
        save_file(weights(), path)
        whole = path.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        for length in [0, 3, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1]:
            path.write_bytes(whole[:length])
            with pytest.raises(UnreadableFile, match=r"cut\.safetensors"):
                open_source(ModelRef(str(path), ""))

    def test_a_file_cut_after_it_was_opened_is_noticed(self, tmp_path: Path):
        path = tmp_path / "cut.safetensors"
        save_file(weights(), path)
        source = open_source(ModelRef(str(path), ""))
        path.write_bytes(path.read_bytes()[:-300])
        last = source.layers()[-1].name
        with pytest.raises(UnreadableFile, match="ends at"):
            source.read(last)

    def test_nothing_there_is_named(self, tmp_path: Path):
        with pytest.raises(UnreadableFile, match="nowhere"):
            open_source(ModelRef(str(tmp_path / "nowhere"), ""))

    @pytest.mark.parametrize("name", ["model.gguf", "pytorch_model.bin", "flax_model.msgpack"])
    def test_other_formats_say_what_to_do(self, tmp_path: Path, name: str):
        (tmp_path / name).write_bytes(b"GGUF")
        with pytest.raises(UnsupportedFormat, match=r"safetensors|checkpoint"):
            open_source(ModelRef(str(tmp_path), ""))
        with pytest.raises(UnsupportedFormat, match=r"safetensors|checkpoint"):
            open_source(ModelRef(str(tmp_path / name), ""))

    def test_several_files_without_an_index_are_not_guessed_at(self, tmp_path: Path):
        for name in ("a", "b"):
            save_file(weights(), tmp_path / f"{name}.safetensors")
        with pytest.raises(UnsupportedFormat, match=r"'a\.safetensors', 'b\.safetensors'"):
            open_source(ModelRef(str(tmp_path), ""))


def test_reading_a_slab_of_a_large_layer_stays_within_the_slab(tmp_path: Path):
    path = tmp_path / "large.safetensors"
    save_file({"w": torch.randn(4000, 1000)}, path)
    source = open_source(ModelRef(str(path), ""))
    into = torch.empty(10, 1000, dtype=torch.float64)
    source.read("w", (0, 10), into=into)
    tracemalloc.start()
    for start in range(0, 4000, 10):
        source.read("w", (start, start + 10), into=into)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One slab is 40 kB stored; the layer is 16 MB.
    assert peak < 200_000


def test_a_cast_layer_of_many_pieces_is_cast_in_its_place(tmp_path: Path):
    value = torch.arange(1_500_000, dtype=torch.float32).reshape(1500, 1000)
    save_file({"w": value}, tmp_path / "a.safetensors")
    source = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
    assert value.nbytes > 2 * FileBlob.piece
    assert torch.equal(
        source.read("w", (100, 1500), into=torch.empty(1400, 1000, dtype=torch.float64)), value[100:].double()
    )


def test_opening_in_many_threads_at_once(tmp_path: Path):
    refs = []
    for i in range(8):
        save_file(weights(i), tmp_path / f"{i}.safetensors")
        refs.append(resolved(ModelRef(str(tmp_path / f"{i}.safetensors"), ""))[0])
    wrong = []

    def work(ref: ModelRef, seed: int) -> None:
        for _ in range(20):
            if not torch.equal(open_source(ref).read("head.weight"), weights(seed)["head.weight"]):
                wrong.append(ref)

    threads = [threading.Thread(target=work, args=(ref, seed)) for seed, ref in enumerate(refs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_numpy_reads_the_same_bytes(tmp_path: Path):
    save_file(weights(), tmp_path / "a.safetensors")
    source = open_source(ModelRef(str(tmp_path / "a.safetensors"), ""))
    theirs = load_numpy(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(source.read("head.weight").numpy(), theirs["head.weight"])
