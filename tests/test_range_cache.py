"""Kept bytes: what was written comes back, damage is a gap, the limit holds, and no name from outside is a path."""

import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uws_core.sources.hub.range_cache import RangeCache

CONTENT = bytes(i * 7 % 251 for i in range(1000))


def filled(slices: RangeCache, start: int, stop: int, key: str = "file") -> tuple[bytes, list[tuple[int, int]]]:
    target = bytearray(b"?" * (stop - start))
    missing = slices.fill(key, start, memoryview(target))
    return bytes(target), missing


def keep(slices: RangeCache, start: int, stop: int, key: str = "file") -> None:
    slices.keep(key, start, memoryview(CONTENT[start:stop]), size=len(CONTENT))


@pytest.fixture
def slices(tmp_path: Path) -> RangeCache:
    return RangeCache(tmp_path / "kept", 10_000)


def test_nothing_is_kept_at_first(slices: RangeCache):
    assert filled(slices, 5, 9) == (b"????", [(5, 9)])
    assert slices.size("file") is None


def test_parts_overlaps_and_gaps_come_out_right(slices: RangeCache):
    keep(slices, 10, 30)
    keep(slices, 20, 40)
    keep(slices, 60, 70)
    data, missing = filled(slices, 0, 100)
    assert missing == [(0, 10), (40, 60), (70, 100)]
    assert data[10:40] + data[60:70] == CONTENT[10:40] + CONTENT[60:70]
    assert filled(slices, 15, 35) == (CONTENT[15:35], [])
    assert slices.size("file") == len(CONTENT)


def test_files_are_apart(slices: RangeCache):
    keep(slices, 0, 10)
    assert filled(slices, 0, 10, key="other")[1] == [(0, 10)]


def test_a_damaged_slice_is_a_gap_and_goes(slices: RangeCache, tmp_path: Path):
    keep(slices, 0, 10)
    keep(slices, 10, 20)
    (path,) = (tmp_path / "kept").glob("*/0-10-*")
    path.write_bytes(b"0123456789")
    assert filled(slices, 0, 20)[1] == [(0, 10)]
    assert not path.exists()
    (path,) = (tmp_path / "kept").glob("*/10-20-*")
    path.write_bytes(CONTENT[10:15])
    assert filled(slices, 10, 20)[1] == [(10, 20)]


def test_rows_of_a_slice_are_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content, checked = bytes(range(256)) * 4096, list[int]()
    slices, check = RangeCache(tmp_path, 2**23), zlib.crc32
    slices.keep("file", 0, memoryview(content), size=len(content))
    monkeypatch.setattr(zlib, "crc32", lambda data: checked.append(len(data)) or check(data))
    for start in range(0, len(content), 4096):
        assert filled(slices, start, start + 4096) == (content[start : start + 4096], [])
    assert checked == [len(content)]
    # What another process finds is checked by it.
    assert filled(RangeCache(tmp_path, 2**23), 0, 1)[1] == []
    assert checked == [len(content)] * 2


def test_a_half_written_slice_does_not_exist(slices: RangeCache, tmp_path: Path):
    keep(slices, 0, 10)
    (path,) = (tmp_path / "kept").glob("*/0-10-*")
    path.rename(path.with_name(f".{path.name}-1-1"))
    assert filled(slices, 0, 10)[1] == [(0, 10)]


def test_the_least_recently_used_go_first_and_the_limit_holds(tmp_path: Path):
    slices = RangeCache(tmp_path, 1000)
    for i in range(9):
        keep(slices, i * 100, i * 100 + 100)
    for age, path in enumerate(sorted(tmp_path.glob("*/[0-9]*"), key=lambda p: int(p.name.split("-")[0]))):
        os.utime(path, (1000 + age, 1000 + age))
    filled(slices, 0, 100)
    keep(slices, 900, 1000)
    slices.keep("more", 0, memoryview(bytes(150)), size=150)
    assert sum(path.stat().st_size for path in tmp_path.glob("*/[0-9]*")) <= 1000
    assert filled(slices, 0, 100)[1] == []
    assert filled(slices, 100, 200)[1] == [(100, 200)]
    assert filled(slices, 0, 150, key="more")[1] == []


def test_what_would_fill_a_quarter_is_not_kept(tmp_path: Path):
    slices = RangeCache(tmp_path, 1000)
    keep(slices, 0, 251)
    assert filled(slices, 0, 251)[1] == [(0, 251)]


def test_room_taken_by_an_earlier_process_counts(tmp_path: Path):
    for i in range(9):
        keep(RangeCache(tmp_path, 1000), i * 100, i * 100 + 100)
    for path in tmp_path.glob("*/[0-9]*"):
        os.utime(path, (1000, 1000))
    RangeCache(tmp_path, 1000).keep("new", 0, memoryview(bytes(200)), size=200)
    assert sum(path.stat().st_size for path in tmp_path.glob("*/[0-9]*")) <= 1000


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, ""])
def test_no_key_leaves_the_folder(tmp_path: Path, key: str):
    slices = RangeCache(tmp_path / "kept", 1000)
    slices.keep(key, 0, memoryview(b"abc"), size=3)
    assert filled(slices, 0, 3, key=key) == (b"abc", [])
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_place_that_cannot_be_written_is_logged_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "kept").write_text("a file")
    slices = RangeCache(tmp_path / "kept", 1000)
    keep(slices, 0, 10)
    assert "cannot be kept" in caplog.text
    assert filled(slices, 0, 10)[1] == [(0, 10)]


def test_only_the_owner_may_look(slices: RangeCache, tmp_path: Path):
    keep(slices, 0, 10)
    (home,) = (tmp_path / "kept").iterdir()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_many_threads_keep_and_read(tmp_path: Path):
    slices = RangeCache(tmp_path, 600)

    def work(i: int) -> bool:
        start = i * 37 % 900
        keep(slices, start, start + 100)
        data, missing = filled(slices, start, start + 100)
        held = bytearray(CONTENT[start : start + 100])
        for first, stop in missing:
            held[first - start : stop - start] = b"?" * (stop - first)
        return data == bytes(held)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 999), st.integers(1, 200)), max_size=12), st.integers(0, 990), st.integers(1, 400)
)
def test_whatever_was_kept_comes_back_and_the_rest_is_missing(kept: list[tuple[int, int]], start: int, length: int):
    from tempfile import TemporaryDirectory

    stop = min(start + length, 1000)
    with TemporaryDirectory() as folder:
        slices = RangeCache(Path(folder), 10_000)
        known = set()
        for first, count in kept:
            last = min(first + count, 1000)
            keep(slices, first, last)
            known |= set(range(first, last))
        data, missing = filled(slices, start, stop)
    absent = {i for first, last in missing for i in range(first, last)}
    assert absent == set(range(start, stop)) - known
    assert all(data[i - start] == CONTENT[i] for i in range(start, stop) if i not in absent)
