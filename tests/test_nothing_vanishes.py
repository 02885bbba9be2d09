"""Every entry of a folder is used or named with a true reason; the Hub client's cache opens as what it holds."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.written import reason
from uws_core.collection import collect
from uws_core.nouns.models import Collection
from uws_core.sources.opening import open_source


def some(seed: int) -> dict[str, torch.Tensor]:
    return {"q.weight": torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(2):
        save_file(some(i), tmp_path / f"m{i}.safetensors")
    return tmp_path


def two_models(folder: Path) -> Collection:
    found = collect(folder)
    assert found.labels == ("m0", "m1")
    return found


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x.pth.tar", "archive"), ("__0_0.distcp", "distributed torch checkpoint"), ("x.nemo", "NeMo"),
        ("x.pkl", "pickled"), ("x.joblib", "pickled"), ("x.npy", "numpy"), ("x.npz", "numpy"), ("x.zip", "archive"),
        ("x.tgz", "archive"), ("x.gguf", "GGUF"), ("x.safetensors.part", "unfinished"),
        ("x.bin.incomplete", "unfinished"),
        ("x.safetensors.crdownload", "unfinished"), ("X.SAFETENSORS", "rename"), ("x.SafeTensors", "rename"),
        ("X.GGUF", "GGUF"), ("X.PTH", "pickled"), ("x.keras", "Keras"), ("x.pdparams", "Paddle"),
        ("x.tflite", "TensorFlow"),
    ],
)  # fmt: skip
def test_weights_of_other_formats_are_named(folder: Path, name: str, why: str):
    (folder / name).write_bytes(b"1234567890")
    assert why in reason(two_models(folder).left_out, name)


def test_files_and_folders_without_weights_are_named(folder: Path):
    (folder / "README.md").write_text("words")
    (folder / "empty" / "deeper").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "logs" / "events.log").write_text("words")
    left_out = two_models(folder).left_out
    assert reason(left_out, folder.name) == "no weights are in it: README.md"
    assert reason(left_out, "empty") == "no weights are in it: deeper"
    assert reason(left_out, "logs") == "no weights are in it: logs"


@pytest.mark.parametrize("target", ["nowhere.safetensors", "../blobs/abc"])
def test_a_link_that_leads_nowhere_is_named(folder: Path, target: str):
    (folder / "m2.safetensors").symlink_to(target)
    assert f"a link to {target}, which is not there" in reason(two_models(folder).left_out, "m2.safetensors")


def test_a_pipe_is_named_and_not_opened(folder: Path):
    os.mkfifo(folder / "m2.safetensors")
    assert "neither a file nor a folder" in reason(two_models(folder).left_out, "m2.safetensors")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n", "pointer, .* 4,976,698,672"),
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", "HTML page titled 'Sign in'"),
        (b"\n<html lang='en'>" + b" " * 50, "HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML text"),
        (b'{"error": "Repository not found"}', "JSON text"),
        (b"Entry not found, really", "a text that begins with 'Entry not found"),
        (b"GGUF" + bytes(60), "a GGUF file under another name"),
        (b"PK\x03\x04" + bytes(60), "a zip archive"),
        (b"\x80\x02}q\x00." + bytes(60), "a pickled file"),
        (b"\x1f\x8b" + bytes(60), "gzip"),
        (bytes(4096), "begins with zeros alone"),
        (b"", "the download did not begin"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", [True, False])
def test_a_file_that_is_no_weights_is_named_as_what_it_is(folder: Path, content: bytes, why: str, inside: bool):
    place = folder / "m2" / "model.safetensors" if inside else folder / "m2.safetensors"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    assert re.search(why, reason(two_models(folder).left_out, "m2"))


def test_a_pickled_file_that_is_a_pointer_is_named_so(folder: Path):
    (folder / "m2.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    found = collect(folder, pickled=True)
    assert "a git-lfs pointer" in reason(found.left_out, "m2")


def cache(root: Path, repo: str, *commits: str, main: str = "", seed: int = 0) -> Path:
    """A repository as the Hub client caches it."""
    top = root / f"models--{repo.replace('/', '--')}"
    (top / "blobs").mkdir(parents=True)
    for i, commit in enumerate(commits):
        snapshot = top / "snapshots" / commit
        snapshot.mkdir(parents=True)
        save_file(some(10 * seed + i), top / "blobs" / f"{i:064d}")
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{i:064d}")
        (snapshot / "config.json").write_text("{}")
    if main:
        (top / "refs").mkdir()
        (top / "refs" / "main").write_text(main)
    return top


class TestHubCache:
    def test_repositories_open_by_name_with_their_commits(self, tmp_path: Path):
        cache(tmp_path, "org/a", "a" * 40, seed=1)
        cache(tmp_path, "org/b-c", "b" * 40, seed=2)
        cache(tmp_path, "gpt2", "c" * 40, seed=3)
        (tmp_path / "datasets--org--d").mkdir()
        (tmp_path / "models--org--gone" / "snapshots").mkdir(parents=True)
        (tmp_path / "models--org--bare" / "snapshots" / ("d" * 40)).mkdir(parents=True)
        found = collect(tmp_path)
        assert set(found.labels) == {"gpt2", "org/a", "org/b-c"}
        assert dict(zip(found.labels, found.table["commit"], strict=True))["org/a"] == "a" * 40
        assert "data" in reason(found.left_out, "datasets--org--d")
        assert "no snapshot" in reason(found.left_out, "org/gone")
        assert "no weights file of snapshot dddddddddddd" in reason(found.left_out, "org/bare")

    def test_several_snapshots_are_told_apart_by_commit(self, tmp_path: Path):
        cache(tmp_path, "org/a", "a" * 40, "b" * 40)
        assert collect(tmp_path).labels == ("org/a@aaaaaaaaaaaa", "org/a@bbbbbbbbbbbb")
        assert collect(tmp_path / "models--org--a").labels == ("org/a@aaaaaaaaaaaa", "org/a@bbbbbbbbbbbb")

    def test_a_cached_repository_that_is_named_is_its_main_snapshot(self, tmp_path: Path):
        first = cache(tmp_path, "org/a", "a" * 40, "b" * 40, main="b" * 40, seed=1)
        second = cache(tmp_path, "org/b", "c" * 40, seed=2)
        found = collect([first, second])
        assert found.labels == ("a@bbbbbbbbbbbb", "b@cccccccccccc")
        assert torch.equal(open_source(found.refs[0]).read("q.weight"), some(11)["q.weight"])

    def test_a_download_that_was_not_finished_is_named(self, tmp_path: Path):
        for i in range(2):
            cache(tmp_path, f"org/m{i}", "a" * 40, seed=i)
        broken = cache(tmp_path, "org/m2", "a" * 40, seed=2)
        (broken / "blobs" / f"{0:064d}").rename(broken / "blobs" / "abc.incomplete")
        found = collect(tmp_path)
        assert len(found) == 2
        assert "its download was not finished" in reason(found.left_out, "org/m2/model.safetensors")
