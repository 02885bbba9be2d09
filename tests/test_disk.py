"""The results folder, damaged and tampered with: a value comes back whole or not at all, and nothing planted runs."""

from __future__ import annotations

import os
import pickle
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from uws_core.store import disk
from uws_core.store.results import Store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as made:
        yield made


def value_files(place: Store) -> list[Path]:
    return sorted(disk.value_files(place.path))


def rows(place: Store, sql: str, *values: object) -> list[tuple[object, ...]]:
    """SQL on the index behind the store's back."""
    connection = sqlite3.connect(place.path / "cache.db")
    try:
        with connection:
            return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


# Damage.


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove", "lengthen"])
def test_a_damaged_value_is_a_miss_and_can_be_put_again(place: Store, harm: str) -> None:
    place.put("a", random.Random(0).randbytes(5000))
    place.put("b", b"whole")
    (file,) = [file for file in value_files(place) if file.stat().st_size > 4000]
    raw = file.read_bytes()
    if harm == "remove":
        file.unlink()
    else:
        flipped = raw[:2500] + bytes([raw[2500] ^ 1]) + raw[2501:]
        file.write_bytes({"flip": flipped, "truncate": raw[:2500], "empty": b"", "lengthen": raw + b"x"}[harm])
    assert place.get("a") is None
    assert place.get("b") == b"whole"
    place.put("a", b"computed again")
    assert place.get("a") == b"computed again"


def test_two_exchanged_values_are_both_misses(place: Store) -> None:
    place.put("a", b"of a")
    place.put("b", b"of b")
    first, second = value_files(place)
    first_raw, second_raw = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_raw)
    second.write_bytes(first_raw)
    assert (place.get("a"), place.get("b")) == (None, None)


def test_check_finds_what_is_damaged_and_removes_old_orphans(place: Store) -> None:
    for key in ("a", "b", "c"):
        place.put(key, key.encode() * 100)
    (bad,) = [file for file in value_files(place) if b"bbb" in file.read_bytes()]
    bad.write_bytes(b"nonsense")
    fresh, old = (place.path / "ab" / "cd" / f"{name:028x}.val" for name in (1, 2))
    for orphan in (fresh, old):
        orphan.parent.mkdir(parents=True, exist_ok=True)
        orphan.write_bytes(b"left by a killed process")
    os.utime(old, (0, 0))
    found = place.check()
    assert (found.whole, found.dropped, found.orphans) == (2, ("b",), 1)
    assert fresh.exists(), "its writer may be about to add the row"
    assert place.keys() == ("a", "c")
    assert place.check().dropped == ()


@pytest.mark.parametrize("harm", ["nonsense", "cut", "zeroed page", "settings", "no table", "gone"])
def test_a_damaged_index_is_set_aside_and_made_anew_from_the_values(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "results"
    expected = {f"gram/{number}": random.Random(number).randbytes(2000) for number in range(300)}
    with Store(folder) as place:
        for key, value in expected.items():
            place.put(key, value)
    index = folder / "cache.db"
    raw = index.read_bytes()
    assert len(raw) > 40_000
    (folder / "damaged-20200101-000000.db").write_bytes(b"an older one")
    if harm == "settings":
        rows(place, "UPDATE Settings SET value = 'x' WHERE key IN ('cull_limit', 'count', 'size')")
        rows(place, "INSERT INTO Settings VALUES ('disk_evil', 1)")
    elif harm == "no table":
        rows(place, "DROP TABLE Cache")
    elif harm == "gone":
        index.unlink()
    else:
        harmed = {"nonsense": b"no database" * 1000, "cut": raw[:20_000]}
        index.write_bytes(harmed.get(harm, raw[:8192] + bytes(16384) + raw[24576:]))
    with Store(folder) as again:
        assert {key: again.get(key) for key in expected} == expected
        if harm in ("nonsense", "cut", "zeroed page", "settings"):
            assert "damaged" in str(again.notice)
            assert "300 results were found again" in str(again.notice)
            assert len(list(folder.glob("damaged-*"))) == 1
        again.put("new", b"works")
        assert len(again._cache) == 301, "the count that decides what has to go"
    with Store(folder) as later:
        assert later.notice is None
        assert later.get("new") == b"works"


@pytest.mark.parametrize("open_still", [True, False])
def test_an_index_that_breaks_under_an_open_store_costs_misses_only(place: Store, open_still: bool) -> None:
    for number in range(200):
        place.put(f"{number}", bytes(1000))
    if not open_still:
        place.close()
    (place.path / "cache.db").write_bytes(b"no database at all" * 1000)
    assert place.get("7") in (None, bytes(1000))
    assert place.get("8") in (None, bytes(1000))
    place.put("new", b"works")
    assert place.get("new") == b"works"


def test_opening_a_store_beside_its_first_writer_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "results"
    write, others = disk.BytesDisk.store, []

    def between(self: disk.BytesDisk, *given: object, **options: object) -> tuple[int, int, str, None]:
        written = write(self, *given, **options)  # type: ignore[arg-type]
        if not others:
            others.append(None)
            # The value has its file and no row yet.
            others.append(Store(folder))
        return written

    with Store(folder) as first:
        monkeypatch.setattr(disk.BytesDisk, "store", between)
        first.put("a", b"value")
        assert len(others) == 2
        assert first.get("a") == b"value"
        assert others[1].get("a") == b"value"


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_repair_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    folder = tmp_path / "results"
    expected = {f"{number}": f"value {number}".encode() for number in range(20)}
    with Store(folder) as place:
        for key, value in expected.items():
            place.put(key, value)
    if harm == "gone":
        (folder / "cache.db").unlink()
    else:
        (folder / "cache.db").write_bytes(b"no database" * 1000)
    unframed, seen = disk.unframed, []

    def killed(raw: bytes) -> tuple[str, bytes] | None:
        seen.append(raw)
        if len(seen) > 5:
            raise KeyboardInterrupt
        return unframed(raw)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "unframed", killed)
        with pytest.raises(KeyboardInterrupt):
            Store(folder)
    with Store(folder) as again:
        assert {key: again.get(key) for key in expected} == expected
        assert len(value_files(again)) == 20
        assert "whole again, with 20 results" in str(again.notice)
        assert again.check().orphans == 0
    with Store(folder) as later:
        assert later.notice is None
        assert len(later.keys()) == 20


def test_a_transaction_that_could_not_end_does_not_block_the_next(place: Store) -> None:
    place.put("a", b"value")
    # What a commit on a full disk leaves behind.
    place._cache._sql("BEGIN IMMEDIATE")
    place._cache._sql("DELETE FROM Cache")
    place.put("b", b"value")
    assert place.keys() == ("a", "b")


def test_the_index_is_not_mapped_into_memory(place: Store) -> None:
    # Cut short by another process, a mapped file ends this one with SIGBUS.
    assert place._cache._sql("PRAGMA mmap_size").fetchall() == [(0,)]


def test_a_folder_removed_under_an_open_store_is_made_anew(place: Store) -> None:
    place.put("a", b"value")
    subprocess.run(["rm", "-r", str(place.path)], check=True)
    assert place.get("a") is None
    place.put("b", b"value")
    assert place.get("b") == b"value"
    with Store(place.path) as other:
        assert other.get("b") == b"value"


# Tampering.


class _Bomb:
    """What unpickling this does can be seen."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("column", ["value", "file", "key"])
def test_a_planted_pickle_does_not_run(place: Store, tmp_path: Path, column: str) -> None:
    trace = tmp_path / "it ran"
    bomb = pickle.dumps(_Bomb(trace))
    place.put("victim", b"value")
    if column == "value":
        rows(place, "UPDATE Cache SET mode = 4, filename = NULL, value = ?", bomb)
    elif column == "file":
        value_files(place)[0].write_bytes(bomb)
        rows(place, "UPDATE Cache SET mode = 4")
    else:
        rows(place, "UPDATE Cache SET key = ?, raw = 0", bomb)
    assert place.get("victim") is None
    assert place.keys() in ((), ("victim",))
    place.check()
    place.prune()
    assert len(place._cache) == 0, "the row is gone"
    assert not trace.exists()
    # Nor by way of the keys, which the store itself never asks diskcache for.
    rows(place, "INSERT INTO Cache (key, raw, mode) VALUES (?, 0, 4)", bomb)
    with pytest.raises(disk.Refused, match="key"):
        list(place._cache)
    assert not trace.exists()
    # The plant itself works: another reader of the same row would have run it.
    pickle.loads(bomb)
    assert trace.exists()


def test_a_row_cannot_name_a_file_outside_the_folder(place: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(disk.framed("victim", b"a whole value, but not ours"))
    place.put("victim", b"value")
    rows(place, "UPDATE Cache SET filename = '../secret.txt'")
    assert place.get("victim") is None
    place.put("victim", b"again")
    rows(place, "UPDATE Cache SET filename = ?", str(secret))
    place.prune()
    assert secret.exists()
