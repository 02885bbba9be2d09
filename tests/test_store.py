"""The store on real folders: bytes come back, room is kept, and a folder that will not do is named."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uws_core.errors import StoreError
from uws_core.nouns.cost import bytes_from, bytes_text
from uws_core.store import disk
from uws_core.store import results as store
from uws_core.store.results import Store, default_limit, default_path, default_store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as made:
        yield made


def value_files(place: Store) -> list[Path]:
    return sorted(disk.value_files(place.path))


# Bytes in, bytes out.


@settings(max_examples=12)
@given(st.dictionaries(st.text(min_size=1), st.binary(max_size=3000), max_size=5))
def test_what_is_put_comes_back_and_nothing_else_does(tmp_path_factory: pytest.TempPathFactory, given: dict) -> None:
    folder = tmp_path_factory.mktemp("results") / "store"
    with Store(folder) as place:
        for key, value in given.items():
            place.put(key, value)
        assert place.keys() == tuple(sorted(given))
        assert all(place.get(key) == value and key in place for key, value in given.items())
        assert place.get("never put") is None
    with Store(folder) as again:
        assert {key: again.get(key) for key in given} == given
        assert again.keys() == tuple(sorted(given))


def test_putting_again_replaces_the_value_and_its_file(place: Store) -> None:
    place.put("a", b"old")
    place.put("a", b"new")
    assert place.get("a") == b"new"
    assert len(value_files(place)) == 1


@pytest.mark.parametrize(("key", "value"), [(1, b""), (("a",), b""), (b"a", b""), ("a", "text"), ("a", None), ("a", 1)])
def test_only_text_keys_and_bytes_are_taken(place: Store, key: object, value: object) -> None:
    with pytest.raises((TypeError, AttributeError)):
        place.put(key, value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a str|is bytes"):
        place._cache.set(key, value)
    assert place.keys() == ()
    assert value_files(place) == []


def test_keys_by_prefix_are_exact(place: Store) -> None:
    for key in ("gram/1/aa/x", "gram/1/aa/y", "gram/1/ab/x", "gram/10/aa/x", "side/1/aa/x", "gram/1/a%/x"):
        place.put(key, b"v")
    assert place.keys("gram/1/aa/") == ("gram/1/aa/x", "gram/1/aa/y")
    assert place.keys("gram/1/a%") == ("gram/1/a%/x",)
    assert len(place.keys()) == 6


def test_statistics_count_bytes_on_disk(place: Store) -> None:
    place.put("a", bytes(100_000))
    place.put("b", bytes(50_000))
    stats = place.stats()
    on_disk = sum(file.stat().st_size for file in place.path.rglob("*") if file.is_file())
    assert stats.entries == 2
    assert stats.bytes == on_disk
    assert stats.path == place.path


# Room.


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    place = Store(tmp_path / "results", limit=2_000_000)
    for number in range(15):
        place.put(f"{number:02}", bytes(100_000))
    assert place.get("00") is not None
    for number in range(15, 25):
        place.put(f"{number:02}", bytes(100_000))
    kept = place.keys()
    assert place.stats().bytes < 2_300_000
    assert "00" in kept, "used a moment ago"
    assert "01" not in kept
    assert "24" in kept
    assert len(value_files(place)) == len(kept)


def test_a_value_above_the_limit_is_refused_with_the_way_out(tmp_path: Path) -> None:
    place = Store(tmp_path / "results", limit=1_000_000)
    place.put("small", bytes(1000))
    with pytest.raises(StoreError, match=r"977 KiB.*977 KiB.*UWS_CACHE_LIMIT"):
        place.put("large", bytes(1_000_000))
    assert place.keys() == ("small",)


def test_pruning_by_prefix_by_use_and_by_size(place: Store) -> None:
    for key in ("a/1", "a/2", "b/1"):
        place.put(key, bytes(1000))
    time.sleep(0.05)
    place.get("a/1")
    assert place.prune("a/", unused_seconds=0.04) == 1
    assert place.keys() == ("a/1", "b/1")
    assert place.prune(down_to=1500) == 1
    assert place.keys() == ("a/1",), "b/1 was used longer ago"
    assert place.prune() == 1
    assert value_files(place) == []


# The folder.


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_folder_is_private(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    for folder in (tmp_path / "new" / "deep", tmp_path / "open"):
        Store(folder).close()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex.*UWS_CACHE"):
        Store(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/results.*write permission.*UWS_CACHE"):
        Store(tmp_path / "file" / "results")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"Permission denied.*UWS_CACHE"):
        Store(tmp_path / "results")


def test_the_environment_names_folder_and_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("UWS_CACHE_LIMIT", "3 MB")
    found = default_store()
    assert (found.path, found.limit) == (tmp_path / "mine", 3_000_000)
    assert default_store() is found
    monkeypatch.setenv("UWS_CACHE_LIMIT", "plenty")
    with pytest.raises(StoreError, match=r"UWS_CACHE_LIMIT.*'plenty'"):
        default_limit()
    monkeypatch.delenv("UWS_CACHE_LIMIT")
    assert default_limit() == 4 * 2**30
    monkeypatch.delenv("UWS_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_path() == tmp_path / "xdg" / "uws"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".cache" / "uws"


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1048576", 2**20), ("4GiB", 4 * 2**30), ("500 MB", 500_000_000), ("1.5g", 3 * 2**29), ("2 TiB", 2**41)],
)
def test_amounts_of_bytes_are_read(text: str, count: int) -> None:
    assert bytes_from(text) == count


@pytest.mark.parametrize("text", ["", "-1", "4 apples", "GiB", "1e9", "4GiB4"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="4GiB"):
        bytes_from(text)


def test_amounts_are_written_with_three_digits() -> None:
    assert [bytes_text(n) for n in (0, 999, 1000, 1536 * 2**20, 5 * 2**40)] == [
        "0 bytes",
        "999 bytes",
        "0.977 KiB",
        "1.5 GiB",
        "5 TiB",
    ]


def test_the_default_limit_is_stated() -> None:
    assert bytes_text(store.LIMIT) == "4 GiB"
