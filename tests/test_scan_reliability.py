"""A real scan that is killed, starved and meddled with: it goes on where it was, and keeps nothing that is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core import run
from uws_core.errors import SourceError, UnreadableFile
from uws_core.nouns.models import Collection
from uws_core.passes.options import ComputeOptions
from uws_core.store.results import Store

ROOT = Path(__file__).parents[1]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits are POSIX")


def models(folder: Path, *, layers: int, rows: int = 64, seed: int = 0) -> Path:
    """Four models of so many layers."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for number in range(4):
        weights = {f"blocks.{i}.weight": torch.randn(rows, 64, generator=generator) for i in range(layers)}
        save_file(weights, folder / f"model-{number}.safetensors")
    return folder


def scanning(folder: Path, results: Path, *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "uws_core", "scan", str(folder), "--json", "--quiet"]
    # One thread each: these layers are small, and several processes would wait for each other's threads.
    environment = {**os.environ, "UWS_CACHE": str(results), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def killed_scans(tmp_path: Path, *, times: int, layers: int, seed: int) -> None:
    """Kill a scan with -9 again and again; what it had is never lost, never computed twice, and right in the end."""
    chance = random.Random(seed)
    folder, results = models(tmp_path / "models", layers=layers), tmp_path / "results"
    collection = uws.collect(folder)
    kept: set[str] = set()
    for _ in range(times):
        before = set(results.glob("??/??/*.val"))
        process = scanning(folder, results)
        assert process.stdout is not None
        with process.stdout:
            # The known ones come first; then it works, for as long as chance will have it.
            for _ in range(len(kept) + 1):
                process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
        process.communicate()
        with Store(results) as store:
            assert store.notice is None
            assert store.check().dropped == ()
            now = set(run.stored_grams(collection, store=store))
        assert kept <= now, "a finished layer was lost"
        if len(before) == len(kept):
            assert before <= set(results.glob("??/??/*.val")), "a finished layer was computed and stored again"
        kept = now
    with Store(results) as store:
        in_the_end = {gram.layer.name: gram for gram in uws.scan(collection, store=store)}
    assert in_the_end.keys() == set(collection.by_name)
    for name in sorted(kept):
        assert (in_the_end[name].values == uws.gram(collection, name).values).all()


@POSIX
def test_a_killed_scan_goes_on_where_it_was(tmp_path: Path) -> None:
    killed_scans(tmp_path, times=2, layers=400, seed=0)


@POSIX
@pytest.mark.slow
def test_sixty_killed_scans_lose_nothing(tmp_path: Path) -> None:
    killed_scans(tmp_path, times=60, layers=8000, seed=1)


@POSIX
def test_a_disk_that_fills_up_costs_what_is_stored_and_no_more(tmp_path: Path) -> None:
    folder, results = models(tmp_path / "models", layers=120), tmp_path / "results"
    Store(results).close()
    # No file may grow beyond 100 blocks, so the index is full after a while: the same error as on a full disk.
    starved = scanning(folder, results, "bash", "-c", 'ulimit -f 100; exec "$@"', "bash")
    out, err = starved.communicate(timeout=120)
    assert starved.returncode == 3, err
    assert "UWS_CACHE" in err
    assert len({json.loads(line)["layer"] for line in out.splitlines()}) == 120, "every layer was told all the same"
    collection = uws.collect(folder)
    with Store(results) as store:
        stored = run.stored_grams(collection, store=store)
        assert store.check().dropped == ()
    assert 0 < len(stored) < 120
    fed = scanning(folder, results)
    out, err = fed.communicate(timeout=120)
    assert fed.returncode == 0, err
    with Store(results) as store:
        assert len(run.stored_grams(collection, store=store)) == 120


@POSIX
def test_two_scans_share_one_store(tmp_path: Path) -> None:
    folder, results = models(tmp_path / "models", layers=60), tmp_path / "results"
    both = [scanning(folder, results) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert len(out.splitlines()) == 60
    with Store(results) as store:
        assert len(run.stored_grams(uws.collect(folder), store=store)) == 60
        assert store.check().dropped == ()


def test_a_file_that_is_gone_is_named_and_the_layers_before_it_are_kept(tmp_path: Path) -> None:
    folder = models(tmp_path / "models", layers=12)
    collection = uws.collect(folder)
    with Store(tmp_path / "results") as store:
        grams = uws.scan(collection, store=store)
        next(grams)
        (folder / "model-1.safetensors").unlink()
        with pytest.raises(SourceError, match=r"model-1\.safetensors"):
            list(grams)
        assert len(run.stored_grams(collection, store=store)) == 8, "those that were read together with the first"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Other weights of the same names and shapes, in files of the same size."""
    return models(tmp_path / "other", layers=12, rows=512, seed=9)


def exchange(folder: Path, other: Path, name: str) -> None:
    """Put another file in the place of a model's, as a training run that saves again does."""
    shutil.copy(other / name, folder / f".{name}.part")
    (folder / f".{name}.part").replace(folder / name)


def test_a_file_exchanged_between_layers_is_noticed(tmp_path: Path, other: Path) -> None:
    folder = models(tmp_path / "models", layers=12, rows=512)
    collection = uws.collect(folder)
    with Store(tmp_path / "results") as store:
        grams = uws.scan(collection, store=store)
        next(grams)
        assert len(run.stored_grams(collection, store=store)) < 12
        exchange(folder, other, "model-2.safetensors")
        with pytest.raises(UnreadableFile, match=r"model-2\.safetensors: the files changed"):
            list(grams)
        assert_nothing_wrong(collection, store, tmp_path)


@pytest.mark.parametrize("when", [0.0, 0.5, 0.99])
def test_a_file_exchanged_within_a_layer_is_noticed(tmp_path: Path, other: Path, when: float) -> None:
    folder = models(tmp_path / "models", layers=12, rows=512)
    collection = uws.collect(folder)
    waiting = [None]

    def report(fraction: float, message: str) -> None:
        # A layer that is asked for alone tells of its slabs.
        if fraction > when and waiting:
            waiting.clear()
            exchange(folder, other, "model-2.safetensors")

    small_slabs = ComputeOptions(budget=2 * 4 * 64 * 4 * 16)
    with Store(tmp_path / "results") as store:
        with pytest.raises(UnreadableFile, match=r"model-2\.safetensors: the files changed"):
            list(uws.scan(collection, collection.layers[:1], store=store, options=small_slabs, report=report))
        assert not waiting
        assert run.stored_grams(collection, store=store) == {}
        assert_nothing_wrong(collection, store, tmp_path)


def assert_nothing_wrong(collection: Collection, store: Store, tmp_path: Path) -> None:
    """Whatever is stored for the collection is what the original files give."""
    again = uws.collect(models(tmp_path / "again", layers=12, rows=512))
    assert again.fingerprint == collection.fingerprint
    for name, gram in run.stored_grams(collection, store=store).items():
        truth = uws.gram(again, name)
        np.testing.assert_allclose(gram.values, truth.values, rtol=1e-5, atol=1e-5 * truth.values.max())
