"""The command line, as people and scripts use it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from uws_core import run
from uws_core.cli.main import main
from uws_core.passes import layer_scan
from uws_core.store.results import Store, default_store

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("results_folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        weights = {
            f"blocks.{i}.{part}.weight": torch.randn(12, 8, generator=generator) for i in (0, 1) for part in "qv"
        }
        save_file(weights | {"norm.bias": torch.zeros(8)}, place / f"model-{number}.safetensors")
    return place


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_of_several_architectures_is_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        save_file(
            {"w": torch.randn(3, 2, generator=torch.Generator().manual_seed(number))},
            folder / f"x-{number}.safetensors",
        )
    assert main(["ls", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "5 models, 4 layers" in text
    assert "architectures here" in text
    assert " 12 x 8: 5 models, 4 layers" in text
    assert "x 3 x 2: 2 models, 1 layer" in text
    assert main(["ls", str(folder), "--architecture", "x 3 x 2", "--json"]) == 0
    (listed,) = json_lines(capsys.readouterr().out)
    assert listed["labels"] == ["x-0", "x-1"]
    assert [len(item["models"]) for item in listed["architectures"]] == [5, 2]
    assert main(["scan", str(folder), "--architecture", "nothing"]) == 1
    assert "no architecture is called 'nothing'" in capsys.readouterr().err


def test_ls_tells_models_layers_and_what_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "5 models, 4 layers" in text
    assert "blocks.0.q.weight  12 x 8" in text
    assert "left out (1):\n  norm.bias: it is a vector of 8 entries" in text
    assert "computed" not in text
    main(["scan", str(folder), "--layers", "0.q"])
    capsys.readouterr()
    assert main(["ls", str(folder), "--json"]) == 0
    (told,) = json_lines(capsys.readouterr().out)
    assert [layer["name"] for layer in told["layers"] if layer["computed"]] == ["blocks.0.q.weight"]
    assert told["fingerprint"] == uws.collect(folder).fingerprint
    assert told["left_out"][0]["what"] == "norm.bias"


def test_scan_fills_the_store_of_the_app_and_reads_nothing_twice(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is stored comes first to a program, but not to a reader.
    assert main(["scan", str(folder), "--layers", "1.v"]) == 0
    capsys.readouterr()
    assert main(["scan", str(folder)]) == 0
    first = capsys.readouterr()
    assert len(run.stored_grams(uws.collect(folder), store=default_store())) == 4
    monkeypatch.setattr(layer_scan, "compute_batch", lambda *given: pytest.fail("weights were read again"))
    assert main(["scan", str(folder)]) == 0
    assert capsys.readouterr().out == first.out
    head, *rows = first.out.splitlines()
    assert head.split() == ["layer", "shape", "models", "rank", "effective_rank", "first_share", "ceiling"]
    assert [row.split()[0] for row in rows] == [layer.name for layer in uws.collect(folder).layers]


def test_the_price_is_told_before_anything_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["scan", str(folder), "--layers", "0.q"])
    capsys.readouterr()
    assert main(["scan", str(folder), "--dry-run"]) == 0
    told = capsys.readouterr()
    # Three layers of 12 x 8 weights of five models are left, four bytes each.
    assert "4 layers of 5 models, 1 of them stored; 5.62 KiB to read" in told.err
    assert told.out == ""
    assert len(run.stored_grams(uws.collect(folder), store=default_store())) == 1


def test_results_that_the_store_cannot_keep_are_told_before_anything_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_CACHE_LIMIT", "6KiB")
    assert main(["scan", str(folder), "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "The results of 4 layers of 5 models take" in told
    assert "Raise UWS_CACHE_LIMIT above" in told
    monkeypatch.setenv("UWS_CACHE_LIMIT", "7MiB")
    assert main(["scan", str(folder), "--dry-run"]) == 0
    assert "UWS_CACHE_LIMIT" not in capsys.readouterr().err


def test_ls_opens_no_result(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(["scan", str(folder)])
    capsys.readouterr()
    monkeypatch.setattr(Store, "get", lambda *given: pytest.fail("a result was opened"))
    assert main(["ls", str(folder)]) == 0
    assert capsys.readouterr().out.count("computed") == 4


def test_scan_as_json_says_what_the_library_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(folder), "--json", "--noise", "--share", "60%"]) == 0
    rows = {row["layer"]: row for row in json_lines(capsys.readouterr().out)}
    collection = uws.collect(folder)
    assert rows.keys() == set(collection.by_name)
    for name, row in rows.items():
        seen = uws.spectrum(uws.gram(collection, name))
        assert row["rank"] == seen.rank_for(0.6).k
        assert row["effective_rank"] == pytest.approx(seen.effective_rank, rel=1e-6)
        assert row["above"] == 0, "independent noise"
        noise = uws.null_band(uws.gram(collection, name))
        assert row["z"] == pytest.approx(noise.concentration(0.6).z, rel=1e-3)
        assert (row["axis"], row["models"], row["ceiling"]) == ("models", 5, 4)


def test_layers_are_chosen_by_full_and_short_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(folder), "--json", "--layers", "*.v", "--layers", "blocks.0.*"]) == 0
    names = {row["layer"] for row in json_lines(capsys.readouterr().out)}
    assert names == {"blocks.0.q.weight", "blocks.0.v.weight", "blocks.1.v.weight"}
    assert main(["scan", str(folder), "--layers", "*.v", "--layers", "blocks.0.qq*"]) == 1
    said = capsys.readouterr().err
    assert "'blocks.0.qq*'; it has 4, among them blocks.0.q.weight" in said


@pytest.mark.parametrize(("axis", "ceiling"), [("in", 8), ("out", 12)])
def test_the_side_axes(folder: Path, capsys: pytest.CaptureFixture[str], axis: str, ceiling: int) -> None:
    assert main(["scan", str(folder), "--axis", axis, "--layers", "0.q", "--json", "--noise"]) == 0
    (row,) = json_lines(capsys.readouterr().out)
    assert (row["axis"], row["ceiling"]) == (axis, ceiling)
    seen = uws.spectrum(uws.side_gram(uws.collect(folder), "blocks.0.q.weight", axis=axis))
    assert row["effective_rank"] == pytest.approx(seen.effective_rank, rel=1e-6)


def test_a_layer_that_fails_costs_itself_and_the_code_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {f"blocks.{i}.{part}.weight": torch.full((12, 8), torch.nan) for i in (0, 1) for part in "qv"}
    for number in range(4):
        weights = broken | {"blocks.1.v.weight": torch.randn(12, 8)}
        save_file(weights, folder / f"model-{number}.safetensors")
    assert main(["scan", str(folder), "--layers", "1.*", "--json"]) == 3
    told = capsys.readouterr()
    assert [row["layer"] for row in json_lines(told.out)] == ["blocks.1.v.weight"]
    assert "blocks.1.q.weight: 1 of 5 models have finite weights here" in told.err
    assert "layers that failed: 1, done and stored: 1" in told.err
    assert main(["scan", str(folder), "--layers", "1.q"]) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--budget", "100"], "raise the budget"),
        (["--scheduler", "tcp://127.0.0.1:1"], "No Dask scheduler answers"),
        (["--device", "cuda:99"], "cuda"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str], said: str
) -> None:
    monkeypatch.setattr("uws_core.cluster._TIMEOUT_SECONDS", 1)
    assert main(["scan", str(folder), *more]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["scan"], ["scan", ".", "--budget", "lots"], ["scan", ".", "--share", "2"], ["dance"]]
)
def test_what_is_not_understood_exits_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["no/such/folder"], ["what is this"], ["tests/no-such-thing.safetensors", "."]])
def test_a_place_that_is_none_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", *words]) == 1
    said = capsys.readouterr().err
    assert words[0] in said
    assert "demo:NAME" in said


MAGIC = {"parquet": b"PAR1", "html": b"<!doctype html>", "zip": b"PK\x03\x04"}


@pytest.mark.parametrize("form", sorted(MAGIC))
def test_export_writes_each_form(folder: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The printed forms inside the bundle need a browser and have their own tests.
    monkeypatch.setattr("uws_core.export.print_obstacle", lambda: "no browser in this test")
    place = tmp_path / f"out.{form}"
    assert main(["export", str(folder), "--to", str(place)]) == 0
    content = place.read_bytes()
    assert content.startswith(MAGIC[form])
    if form == "zip":
        assert "provenance.json" in zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert sorted(file.name for file in tmp_path.iterdir() if "out" in file.name) == [place.name]


def test_export_of_one_layer_is_its_scree_and_of_several_one_row_each(folder: Path, tmp_path: Path) -> None:
    collection = uws.collect(folder)
    assert main(["export", str(folder), "--layers", "0.q", "--to", str(tmp_path / "one.parquet"), "--draws", "0"]) == 0
    seen = uws.spectrum(uws.gram(collection, "blocks.0.q.weight"))
    assert pl.read_parquet(tmp_path / "one.parquet")["variance"].to_list() == pytest.approx(list(seen.variances[:4]))
    assert main(["export", str(folder), "--to", str(tmp_path / "all.csv")]) == 0
    frame = pl.read_csv(tmp_path / "all.csv", comment_prefix="#")
    assert frame["layer"].to_list() == [layer.name for layer in collection.layers]
    assert frame["noise_rank"].null_count() == 0
    assert "left out: norm.bias" in (tmp_path / "all.csv").read_text()
    assert main(["export", str(folder), "--sum", "--to", str(tmp_path / "sum.csv")]) == 0
    whole = run.whole_network([uws.gram(collection, layer) for layer in collection.layers])
    shares = pl.read_csv(tmp_path / "sum.csv", comment_prefix="#")["share"].to_list()
    assert shares == pytest.approx(list(uws.spectrum(whole).ratio[:4]), rel=1e-5)


@pytest.mark.parametrize(
    ("place", "said"), [("x.docx", "csv, parquet"), ("x", "found ''"), ("no/folder/x.csv", "exists")]
)
def test_export_says_where_it_cannot_write(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, said: str
) -> None:
    assert main(["export", str(folder), "--to", str(tmp_path / place)]) == 1
    assert said in capsys.readouterr().err


def test_results_are_carried_to_another_machine(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["store", "copy", str(folder), "--to", str(tmp_path / "carried")]) == 1
    assert "run `scan` on it first" in capsys.readouterr().err
    main(["scan", str(folder)])
    main(["scan", "demo:finetuned", "--layers", "pos_embed"])
    assert main(["store", "copy", str(folder), "--to", str(tmp_path / "carried")]) == 0
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "elsewhere"))
    capsys.readouterr()
    assert main(["store", "merge", str(tmp_path / "carried"), "--json"]) == 0
    assert json_lines(capsys.readouterr().out) == [{"merged": 4}]
    assert len(run.stored_grams(uws.collect(folder), store=default_store())) == 4
    assert len(default_store().keys()) == 4, "only that collection's"
    assert main(["store", "merge", str(tmp_path / "nothing")]) == 1


def test_the_store_is_told_checked_and_pruned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["scan", str(folder)])
    capsys.readouterr()
    assert main(["store", "stats"]) == 0
    assert f"{default_store().path}: 4 results" in capsys.readouterr().out
    file = next(default_store().path.glob("??/??/*.val"))
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["store", "check", "--json"]) == 1
    (told,) = json_lines(capsys.readouterr().out)
    assert (told["whole"], len(told["dropped"])) == (3, 1)
    assert main(["store", "check"]) == 0
    assert main(["store", "prune", "--unused", "1"]) == 0
    assert len(default_store().keys()) == 3
    assert main(["store", "prune", "--all"]) == 0
    assert default_store().keys() == ()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    place = tmp_path / "many"
    place.mkdir()
    for number in range(3):
        save_file({f"blocks.{i}.w": torch.randn(64, 64) for i in range(3000)}, place / f"model-{number}.safetensors")
    command = [sys.executable, "-m", "uws_core", "scan", str(place), "--json"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    first = json.loads(running.stdout.readline())
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "continues from there" in err
    names = {first["layer"], *(row["layer"] for row in json_lines(out))}
    collection = uws.collect(place)
    assert names <= run.stored_grams(collection, store=Store(os.environ["UWS_CACHE"])).keys() < set(collection.by_name)


def test_the_module_runs_as_a_program_and_loads_what_the_command_needs() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "uws_core", "--help"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0
    assert "Exit codes: 0 done" in ended.stdout
    assert "train coefficients in a shared basis" in ended.stdout
    loaded = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
    assert "uws_core.cli.main" in loaded
    assert not {"torch", "scipy", "plotly"} & loaded
