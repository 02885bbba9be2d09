"""Very many models: opened once, watched cheaply, in memory and open files that do not grow with their number."""

from __future__ import annotations

import gc
import os
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import uws_core as uws
from uws_core.errors import UnreadableFile
from uws_core.passes import open_models
from uws_core.sources import opening
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.source_cache import MODEL_BYTES, SourceCache


def many(folder: Path, *, models: int, layers: int = 1) -> Path:
    """Models of tiny layers, written long ago as far as the file system tells of the content."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    weights = {f"blocks.{i}.up.weight": np.zeros((2, 3), dtype=np.float32) for i in range(layers)}
    save_file(weights, folder / "first")
    raw = (folder / "first").read_bytes()
    (folder / "first").unlink()
    head = len(raw) - layers * 24
    for number in range(models):
        values = rng.normal(size=layers * 6).astype(np.float32).tobytes()
        (folder / f"m{number}.safetensors").write_bytes(raw[:head] + values)
    return folder


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written this minute count as written long ago."""
    monkeypatch.setattr("uws_core.sources.files.blob.SETTLED_NS", 0)
    opening._source_cache.clear()


@contextmanager
def digests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is digested meanwhile."""
    seen: list[str] = []
    digest = Tensors.digest
    with monkeypatch.context() as patch:
        patch.setattr(Tensors, "digest", lambda self: seen.append(self.blobs[0].name) or digest(self))
        yield seen


@pytest.mark.usefixtures("old")
def test_the_end_of_a_layer_looks_and_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = uws.collect(many(tmp_path / "models", models=4))
    with digests(monkeypatch) as seen, open_models.open_models(collection.refs):
        # Nothing kept any more: what was opened is still known.
        opening._source_cache.clear()
        seen.clear()
    assert seen == []
    path = Path(collection.refs[1].repo)
    with pytest.raises(UnreadableFile, match=r"m1.*changed"), open_models.open_models(collection.refs):
        path.write_bytes(path.read_bytes()[:-4] + b"else")
    with digests(monkeypatch) as seen, pytest.raises(UnreadableFile, match="changed"):
        opening.open_source(collection.refs[1])
    assert seen == ["m1.safetensors"]


@pytest.mark.usefixtures("old")
def test_a_file_put_in_the_place_of_another_is_noticed_whatever_its_times(tmp_path: Path) -> None:
    collection = uws.collect(many(tmp_path / "models", models=3))
    path = Path(collection.refs[0].repo)
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-4] + b"else")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UnreadableFile, match="changed"), open_models.open_models(collection.refs):
        other.replace(path)


@pytest.mark.usefixtures("old")
def test_models_of_one_layout_share_it(tmp_path: Path) -> None:
    collection = uws.collect(many(tmp_path / "models", models=63, layers=40))
    first, *rest = (opening.open_source(ref) for ref in collection.refs)
    assert all(source._tensors.spans is first._tensors.spans for source in rest)
    assert [source.ref for source in rest] == list(collection.refs[1:])
    assert rest[0].read("blocks.7.up.weight").ne(rest[1].read("blocks.7.up.weight")).all()
    opening._source_cache.clear()
    gc.collect()
    tracemalloc.start()
    try:
        for ref in collection.refs[:3]:
            opening.open_source(ref)
        before, _ = tracemalloc.get_traced_memory()
        for ref in collection.refs[3:]:
            opening.open_source(ref)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(opening._source_cache) == 63
    assert (after - before) / 60 < MODEL_BYTES


@pytest.mark.usefixtures("old")
def test_what_is_kept_is_bounded_and_the_least_recently_used_goes(tmp_path: Path) -> None:
    collection = uws.collect(many(tmp_path / "models", models=4))
    models = [opening.open_source(ref) for ref in collection.refs]
    kept = SourceCache(3 * MODEL_BYTES)
    for model in models[:3]:
        kept.keep(model)
    assert kept.get(collection.refs[0]) is models[0]
    kept.keep(models[3])
    assert len(kept) == 3
    assert [kept.get(ref) is not None for ref in collection.refs] == [True, False, True, True]


@pytest.mark.usefixtures("old")
def test_threads_that_open_more_than_is_kept_all_get_their_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = uws.collect(many(tmp_path / "models", models=8))
    monkeypatch.setattr(opening, "_source_cache", SourceCache(5 * MODEL_BYTES))
    wrong: list[BaseException] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work() -> None:
        try:
            for _ in range(60):
                for ref in collection.refs:
                    assert opening.open_source(ref).ref == ref
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def opened_with_few_files(folder: Path, monkeypatch: pytest.MonkeyPatch, *, models: int) -> float:
    """Scan two tiny layers while 256 files may be open; returns the MiB that opening took and keeps."""
    resource = pytest.importorskip("resource", reason="limits are POSIX")
    many(folder, models=models, layers=2)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with digests(monkeypatch) as seen:
            start = resident()
            collection = uws.collect(folder)
            grown = resident() - start
            for layer in collection.layers:
                assert uws.gram(collection, layer).n == models
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(seen) == models, "a model was opened and digested again"
    return grown / 2**20


def resident() -> int:
    """The bytes of memory of this process, or 0 where the system does not tell so."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if told.exists() else 0


@pytest.mark.usefixtures("old")
def test_more_than_a_thousand_models_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened_with_few_files(tmp_path / "models", monkeypatch, models=1200) < 40


@pytest.mark.slow
@pytest.mark.usefixtures("old")
def test_ten_thousand_models_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened_with_few_files(tmp_path / "models", monkeypatch, models=10_000) < 150
