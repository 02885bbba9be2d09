"""Kills, full disks, many at once: nothing finished is lost and nothing wrong is kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
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


# Many at once.


def test_threads_share_one_store(place: Store) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for step in range(20):
            place.put(f"{number}/{step}", f"{number} {step}".encode() * 50)
            place.put("shared", f"{number} {step}".encode())
            if place.get(f"{number}/{step}") != f"{number} {step}".encode() * 50 or place.get("shared") is None:
                wrong.append(f"{number}/{step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(place.keys()) == 161
    assert place.check().dropped == ()


WRITER = """
import random, sys
from uws_core.store.results import Store
place, seed = Store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for step in range(int(sys.argv[3])):
    key = f"{seed}/{step % 50}"
    place.put(key, random.Random(f"{key} {step}").randbytes(20_000))
    assert place.get(key) is not None
"""


def writer(folder: Path, seed: int, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(seed), str(steps)]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout:
        assert started.stdout.readline() == "ready\n"
    return started


def test_processes_share_one_store(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    both = [writer(folder, seed, 100) for seed in (1, 2)]
    assert [process.wait(60) for process in both] == [0, 0]
    with Store(folder) as place:
        assert len(place.keys()) == 100
        assert place.check().dropped == ()


OPENER = """
import sys, time
from uws_core.store.results import Store
time.sleep(max(float(sys.argv[2]) - time.time(), 0.0))
place = Store(sys.argv[1])
print(len(place.keys()), place.notice is not None)
"""


def test_processes_that_open_a_damaged_store_together_repair_it_once(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    with Store(folder) as place:
        for number in range(300):
            place.put(f"{number}", bytes(1000))
    (folder / "cache.db").write_bytes(b"no database at all" * 1000)
    command = [sys.executable, "-c", OPENER, str(folder), str(time.time() + 1.5)]
    opening = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = sorted(process.communicate(timeout=60)[0].strip() for process in opening)
    assert told == ["300 False"] * 3 + ["300 True"]


def killed_while_writing(folder: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    for kill in range(times):
        process = writer(folder, kill % 3, 10**9)
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Store(folder) as place:
            assert place.notice is None
            check = place.check()
            assert check.dropped == (), "a row whose value is not whole"
            place.put("after", f"{kill}".encode())
            assert place.get("after") == f"{kill}".encode()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_process_leaves_a_store_that_opens(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "results", times=6, seed=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_two_hundred_killed_processes_leave_a_store_that_opens(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "results", times=200, seed=1)


# A full disk, made by a limit on the size of files: the same error at the same calls.

FULL_DISK = """
import resource, signal, sys
from uws_core.errors import StoreError
from uws_core.store.results import Store
place = Store(sys.argv[1])
place.put("before", b"kept")
place.put("replaced", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
room = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), room[1]))
for key in ("large", "replaced"):
    try:
        place.put(key, bytes(3_000_000))
    except StoreError as error:
        assert "UWS_CACHE" in str(error), error
    else:
        raise SystemExit("a put beyond the room succeeded")
assert place.get("before") == b"kept"
assert place.get("replaced") == b"old"
assert place.get("large") is None
resource.setrlimit(resource.RLIMIT_FSIZE, room)
place.put("after", b"there is room again")
assert place.get("after") == b"there is room again"
"""


# There is room for values but none for the index to grow.
FULL_INDEX = """
import resource, signal, sys
from uws_core.errors import StoreError
from uws_core.store.results import Store
place, kept = Store(sys.argv[1]), []
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
room = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, room[1]))
try:
    for number in range(2000):
        place.put(f"{number}", bytes(100))
        kept.append(f"{number}")
except StoreError as error:
    assert "UWS_CACHE" in str(error), error
else:
    raise SystemExit("the index grew beyond the room")
assert kept and all(place.get(key) == bytes(100) for key in kept)
resource.setrlimit(resource.RLIMIT_FSIZE, room)
place.put("after", b"there is room again")
assert place.keys() == tuple(sorted([*kept, "after"]))
assert len(list(place.path.glob("??/??/*.val"))) == len(kept) + 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on files are POSIX")
def test_a_full_index_is_said_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_INDEX, str(tmp_path / "results")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="limits on files are POSIX")
@pytest.mark.parametrize("room", [0, 1_000_000])
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, room: int) -> None:
    folder = tmp_path / "results"
    command = [sys.executable, "-c", FULL_DISK, str(folder), str(room)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    with Store(folder) as place:
        assert place.keys() == ("after", "before", "replaced")
        assert len(value_files(place)) == 3, "no half-written value is left behind"
