"""What a command says at its end, and its exit code: what was kept, what was not, and who is to blame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core import run
from uws_core.cli.main import main
from uws_core.errors import StoreError
from uws_core.nouns.cost import Throughput
from uws_core.passes import layer_scan, options, throughput
from uws_core.store.results import Store, default_store

pytestmark = pytest.mark.usefixtures("results_folder")
ROOT = Path(__file__).parents[1]
LAYERS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        weights = {f"blocks.{i}.q.weight": torch.randn(12, 8, generator=generator) for i in range(LAYERS)}
        save_file(weights, place / f"model-{number}.safetensors")
    return place


@pytest.mark.parametrize("axis", ["models", "in"])
def test_what_the_store_cannot_keep_is_not_called_stored(
    folder: Path, axis: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_CACHE_LIMIT", "100")
    code = main(["scan", str(folder), "--json", "--quiet", "--axis", axis])
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == LAYERS, "results are told all the same"
    if axis == "models":
        assert code == 1
        # Layers of one shape fail alike and share a line; a result's size depends on the number of blocks.
        assert "blocks.0.q.weight" in told.err
        assert "One result of" in told.err
        assert "layers that failed: 4, done and stored: 0" in told.err
    else:
        assert code == 3
        assert "4 of 4 results are not kept" in told.err


def test_results_that_later_ones_push_out_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["scan", str(folder), "--layers", "0.q", "--quiet"]) == 0
    one = sum(file.stat().st_size for file in default_store().path.glob("*/*/*.val"))
    monkeypatch.setenv("UWS_CACHE_LIMIT", str(one + 100))
    monkeypatch.setattr("uws_core.cli.compute.store_limit_problem", lambda *_, **__: "")
    capsys.readouterr()
    assert main(["scan", str(folder), "--quiet"]) == 3
    assert "results are not kept" in capsys.readouterr().err


def test_a_cluster_that_is_away_costs_only_what_is_not_stored(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uws_core.cluster._TIMEOUT_SECONDS", 1)
    away = ["scan", str(folder), "--json", "--quiet", "--scheduler", "tcp://127.0.0.1:1"]
    assert main(["scan", str(folder), "--layers", "[01].q", "--quiet"]) == 0
    capsys.readouterr()
    assert main(away) == 3
    told = capsys.readouterr()
    assert [json.loads(line)["short"] for line in told.out.splitlines()] == ["0.q", "1.q"]
    assert told.err.count("No Dask scheduler answers") == 1
    assert main(["scan", str(folder), "--quiet"]) == 0
    assert main(away) == 0, "nobody has to be asked"


def test_side_axes_know_what_is_stored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["scan", str(folder), "--axis", "in", "--quiet"]
    assert main([*asked, "--layers", "2.q"]) == 0
    capsys.readouterr()
    assert main([*asked, "--layers", "2.q", "--budget", "1"]) == 0, "it is there"
    capsys.readouterr()
    assert main([*asked, "--dry-run", "--json"]) == 0
    told = capsys.readouterr()
    assert "1 of them stored, axis in" in told.err
    cost = json.loads(told.out)
    assert cost["layers"] == LAYERS - 1
    assert cost["bytes"] == 2 * 3 * 5 * 12 * 8 * 4


def test_left_out_models_are_counted_before_a_scan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = folder / "model-3.safetensors"
    bad.write_bytes(bad.read_bytes()[:-100])
    assert main(["scan", str(folder), "--quiet"]) == 0
    assert "1 models and tensors are left out; `ls` names each" in capsys.readouterr().err


def test_adapters_are_scanned_without_their_factor_views(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "all.csv"
    assert main(["export", "demo:lora", "--sum", "--draws", "0", "--quiet", "--json", "--to", str(place)]) == 0
    written = json.loads(capsys.readouterr().out)
    lora = uws.collect("demo:lora")
    assert written["layers"] == [key.name for key in lora.layers if not key.factor]
    assert written["file"] == str(place)
    share = pl.read_csv(place, comment_prefix="#")["share"][0]
    whole = uws.spectrum(run.whole_network(uws.scan(lora)))
    assert share == pytest.approx(whole.variances[0] / whole.total, rel=1e-6)
    assert main(["export", "demo:lora", "--sum", "--axis", "in", "--to", str(place)]) == 1


def test_export_takes_the_side_axes(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "in.csv"
    asked = ["export", str(folder), "--layers", "1.q", "--axis", "in", "--quiet", "--draws", "20", "--to", str(place)]
    assert main(asked) == 0
    seen = uws.spectrum(uws.side_gram(uws.collect(folder), "blocks.1.q.weight", axis="in"))
    frame = pl.read_csv(place, comment_prefix="#")
    assert frame["share"].to_list()[:8] == pytest.approx(seen.variances[:8] / seen.total, rel=1e-5)


def test_ls_tells_the_layers_that_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(folder), "--layers", "*.2.*", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["layers"]] == ["blocks.2.q.weight"]


@pytest.mark.parametrize("amount", ["9" * 400, "3000TiB"])
def test_absurd_amounts_are_no_amounts(folder: Path, amount: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["scan", str(folder), "--budget", amount])
    assert stopped.value.code == 2
    assert "at most 1,024 TiB" in capsys.readouterr().err


def test_a_budget_above_the_memory_of_the_machine_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "machine_memory", lambda: 2**30)
    assert main(["scan", str(folder), "--budget", "2GiB"]) == 1
    assert "more than the 1 GiB of this machine; the default is 256 MiB" in capsys.readouterr().err
    monkeypatch.setenv("UWS_BUDGET", "2GiB")
    assert main(["scan", str(folder)]) == 1
    assert "UWS_BUDGET: A memory budget of 2 GiB" in capsys.readouterr().err


def test_a_budget_that_is_none_spoils_only_what_needs_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_BUDGET", "nan")
    assert main(["ls", str(folder)]) == 0
    assert main(["scan", str(folder), "--budget", "64MiB", "--quiet"]) == 0
    assert main(["scan", str(folder)]) == 1
    assert "UWS_BUDGET" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
@pytest.mark.parametrize("axis", ["models", "in"])
def test_a_system_without_memory_costs_its_layer(
    folder: Path, error: Exception, axis: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, side = layer_scan.compute_batch, "uws_core.passes.side.side_gram"

    def short(*given: object, **named: object) -> object:
        raise error

    monkeypatch.setattr(layer_scan, "compute_batch", short)
    monkeypatch.setattr(side, short)
    assert main(["scan", str(folder), "--quiet", "--axis", axis]) == 1
    assert "the system has no memory left; lower the budget" in capsys.readouterr().err
    monkeypatch.setattr(layer_scan, "compute_batch", computed)
    assert main(["scan", str(folder), "--quiet"]) == 0


def test_another_error_of_torch_is_not_called_short_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> object:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(layer_scan, "compute_batch", broken)
    with pytest.raises(RuntimeError, match="do not fit"):
        main(["scan", str(folder), "--quiet"])


def test_no_room_for_a_measurement_leaves_the_usual_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Throughput:
        raise OSError(28, "No space left on device")

    throughput.measured_throughput.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(throughput, "_measured", full)
        assert throughput.measured_throughput() == Throughput()
    throughput.measured_throughput.cache_clear()


def test_a_folder_without_results_is_not_taken_for_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["store", "merge", str(empty)]) == 1
    assert "holds no results" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_an_output_that_cannot_be_written_is_said(folder: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "uws_core", "scan", str(folder), "--json", "--quiet"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "The output cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_nobody_reads_is_no_success(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "uws_core", "scan", str(folder), "--json", "--quiet"],
        cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr


def test_a_side_gram_that_cannot_be_kept_is_a_result_all_the_same(folder: Path, tmp_path: Path) -> None:
    collection = uws.collect(folder)
    with Store(tmp_path / "tiny", limit=10) as tiny:
        found = run.cached_side_gram(collection, "blocks.0.q.weight", axis="in", store=tiny)
        assert (found.values == uws.side_gram(collection, "blocks.0.q.weight", axis="in").values).all()
        assert tiny.keys() == ()


def test_results_can_be_dropped_without_opening_the_store(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["scan", str(folder), "--quiet"]) == 0
    store, calls = default_store(), []

    def full() -> Store:
        calls.append(None)
        if len(calls) == 1:
            raise StoreError("disk I/O error")
        return store

    monkeypatch.setattr("uws_core.cli.store.default_store", full)
    capsys.readouterr()
    assert main(["store", "prune", "--unused", "1"]) == 1
    assert len(store.keys()) == LAYERS, "without --all nothing is dropped unseen"
    calls.clear()
    assert main(["store", "prune", "--all"]) == 0
    assert list(store.path.glob("*/*/*.val")) == []
    assert store.get(store.keys()[0]) is None if store.keys() else True
