"""Results files: the numbers of a collection without its weights, and what happens to a file that is not whole."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

import uws_core as uws
from tests.hub_fixtures import standin
from tests.hub_standin import HubStandIn
from tests.planted import spiked
from uws_core import run
from uws_core.analysis.evidence import evidence
from uws_core.cli.main import main
from uws_core.errors import HubError, NoWeights, OutsideRoot, UnreadableFile
from uws_core.nouns.models import Collection
from uws_core.reporting.results_file import write_results
from uws_core.store.attached import attach, detach_all
from uws_core.store.codec import gram_key
from uws_core.store.results import Store, default_store
from uws_core.store.results_file import read_entry, read_results_file

__all__ = ["standin"]

pytestmark = pytest.mark.usefixtures("results_folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve models of two layers and a base, in a folder whose name nobody else should learn."""
    models = tmp_path / "secret place" / "models"
    models.mkdir(parents=True)
    rows = spiked(13, 24 * 10, strengths=(30.0, 20.0), seed=3).astype("float32")
    for i, row in enumerate(rows):
        layers = {"blocks.0.up.weight": row.reshape(24, 10), "blocks.1.up.weight": row[::-1].reshape(24, 10).copy()}
        save_file(layers, models.parent / "base.safetensors" if i == 12 else models / f"m{i}.safetensors")
    table = "".join(f"m{i},{'red' if i < 6 else 'blue'},{i / 4}\n" for i in range(12))
    (models / "models.csv").write_text(f"model,colour,score\n{table}")
    return models


@pytest.fixture
def exported(folder: Path, tmp_path: Path) -> tuple[Collection, Path]:
    """The collection with its weights, and its results file; the store that made it is another one from now on."""
    collection = uws.collect(folder, base=folder.parent / "base.safetensors")
    path = tmp_path / "lab.uws.zip"
    with Store(tmp_path / "elsewhere") as store:
        list(run.scan(collection, store=store))
        run.cached_factors(collection, collection.layers[0], store=store)
        write_results(path, collection, collection.layers, store=store)
    return collection, path


def test_every_number_that_needs_no_weights_is_the_same(exported: tuple[Collection, Path]):
    collection, path = exported
    opened = uws.collect(path)
    assert (opened.name, opened.labels, opened.layers) == (collection.name, collection.labels, collection.layers)
    assert dict(opened.table) == dict(collection.table)
    assert opened.left_out[0].what == "weights"
    for name in opened.by_name:
        true, kept = uws.gram(collection, name), next(uws.scan(opened, [name]))
        np.testing.assert_allclose(kept.values, true.values, rtol=0, atol=1e-15 * np.abs(true.values).max())
        for about in ("mean", "base", "zero"):
            ours, theirs = uws.spectrum(kept, about=about), uws.spectrum(true, about=about)
            np.testing.assert_allclose(ours.variances, theirs.variances, rtol=1e-12, atol=1e-12 * theirs.variances[0])
        assert uws.null_band(kept).kind == "profile"
        np.testing.assert_array_equal(uws.null_band(kept).shared.p, uws.null_band(true).shared.p)
        halves = (range(0, 12, 2), range(1, 12, 2))
        ours, theirs = (uws.shared_angles(gram, *halves, kept=2).radians for gram in (kept, true))
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
        claims = [evidence(gram, groups=collection.table["colour"], draws=19) for gram in (kept, true)]
        assert [item.verdict for item in claims[0].findings] == [item.verdict for item in claims[1].findings]
    ours, theirs = run.cached_factors(opened, opened.layers[0]), uws.factors(collection, collection.layers[0])
    np.testing.assert_allclose(
        uws.model_angles(ours, side="in", kept=2).mean_degrees,
        uws.model_angles(theirs, side="in", kept=2).mean_degrees,
        atol=1e-4,
    )


def test_what_reads_weights_says_that_there_are_none(exported: tuple[Collection, Path]):
    opened = uws.collect(exported[1])
    for read in (uws.gram, uws.factors):
        with pytest.raises(NoWeights, match=r"m0.safetensors: this needs weights.*open the models themselves"):
            read(opened, opened.layers[1])


def test_the_file_holds_no_weights_and_no_folder_names(exported: tuple[Collection, Path]):
    with zipfile.ZipFile(exported[1]) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
        manifest = json.loads(archive.read("manifest.json"))
        spectra = pl.read_csv(archive.read("spectra.csv"))
    assert b"secret place" not in everything
    assert manifest["models"][0] == {"name": "m0.safetensors", "commit": exported[0].refs[0].commit, "part": ""}
    assert manifest["fingerprint"] == exported[0].fingerprint
    assert {"torch", "numpy"} <= set(manifest["packages"])
    truth = uws.spectrum(uws.gram(exported[0], exported[0].layers[0])).ratio
    first = spectra.filter(pl.col("layer") == exported[0].layers[0].name)["share"].to_numpy()
    np.testing.assert_allclose(first, truth[: first.size], atol=1e-12)


def test_above_the_limit_blocks_stay_out_and_that_is_said(folder: Path, tmp_path: Path, capsys):
    path = tmp_path / "small.uws.zip"
    assert main(["export", str(folder), "--results", str(path), "--limit", "8KiB", "--json"]) == 0
    captured = capsys.readouterr()
    assert "the Grams of blocks: not in the results file for their size" in captured.err
    shown = json.loads(captured.out)
    assert shown["bytes"] == path.stat().st_size
    assert len(shown["layers"]) == 2
    opened = uws.collect(path)
    assert any("norms alone" in item.reason for item in opened.left_out)
    assert uws.null_band(next(uws.scan(opened, [opened.layers[0]]))).kind == "strength"


def test_the_command_line_reads_what_it_wrote(folder: Path, tmp_path: Path, monkeypatch, capsys):
    path = tmp_path / "lab.uws.zip"
    assert main(["export", str(folder), "--results", str(path), "--directions", "--quiet"]) == 0
    assert main(["scan", str(folder), "--json", "--quiet"]) == 0
    truth = capsys.readouterr().out
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "another machine"))
    (tmp_path / "secret place").rename(tmp_path / "away")
    assert main(["scan", str(path), "--json", "--quiet"]) == 0
    for ours, theirs in zip(capsys.readouterr().out.splitlines(), truth.splitlines(), strict=True):
        found, expected = json.loads(ours), json.loads(theirs)
        assert found.pop("left_out") == expected.pop("left_out") == []
        numbers = {name: value for name, value in expected.items() if isinstance(value, float)}
        assert {name: found.pop(name) for name in numbers} == pytest.approx(numbers, rel=1e-9)
        assert found == {name: value for name, value in expected.items() if name not in numbers}
    assert main(["export", str(folder), "--results", str(tmp_path / "lab.zip")]) == 1
    assert "ends in .uws.zip" in capsys.readouterr().err


def rewritten(path: Path, change: Callable[[dict], object]) -> Path:
    """The file with another manifest."""
    changed = path.with_name("changed.uws.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            manifest = json.loads(old.read(name)) if name == "manifest.json" else None
            if manifest is not None:
                change(manifest)
            new.writestr(name, old.read(name) if manifest is None else json.dumps(manifest))
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format=2), "format 2, this version reads 1; install a newer version"),
        (lambda manifest: manifest.update(math_version=99), "definitions 99.*export it again from the weights"),
        (lambda manifest: manifest.update(kind="photos"), "no results file"),
        (lambda manifest: manifest.pop("layers"), "no whole results file"),
        (lambda manifest: manifest["labels"].pop(), "no whole results file"),
        (lambda manifest: manifest["layers"][0].__setitem__(1, -3), "expected a count"),
        (lambda manifest: manifest["entries"].update({"more": "0" * 64}), "lacks 1 of its 4 results"),
    ],
)
def test_a_foreign_or_newer_file_is_refused_with_the_way_out(exported, change, message):
    with pytest.raises(UnreadableFile, match=message):
        uws.collect(rewritten(exported[1], change))


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"not an archive"])
def test_a_damaged_file_is_refused(tmp_path: Path, raw: bytes):
    path = tmp_path / "x.uws.zip"
    path.write_bytes(raw)
    with pytest.raises(UnreadableFile, match="no results file, or it is damaged"):
        uws.collect(path)


def test_a_damaged_result_is_missing_and_never_wrong(exported: tuple[Collection, Path]):
    results = read_results_file(exported[1])
    end = gram_key(results.collection, results.collection.layers[0]).rpartition("/")[2]
    assert read_entry(results, end) is not None
    raw = bytearray(exported[1].read_bytes())
    with zipfile.ZipFile(exported[1]) as archive:
        start = min(item.header_offset for item in archive.infolist() if item.filename.startswith("results/"))
    raw[start + 400] ^= 0xFF
    exported[1].write_bytes(bytes(raw))
    assert any(read_entry(results, one) is None for one in results.entries)


def test_a_file_answers_for_no_other_collection(exported: tuple[Collection, Path]):
    collection, path = exported
    uws.collect(path)
    key = gram_key(collection, collection.layers[0])
    assert key not in default_store()
    attach(read_results_file(path), own_contents=True)
    assert key in default_store()
    assert default_store().get(key) is not None
    detach_all()
    assert key not in default_store()


def test_a_results_file_of_the_hub_opens_by_name(exported, standin: HubStandIn, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    standin.add("lab/results", {"README.md": b"", "run/lab.uws.zip": exported[1].read_bytes()})
    opened = uws.collect("lab/results/run/lab.uws.zip@main")
    assert opened.labels == exported[0].labels
    with pytest.raises(HubError, match="lab/results: a file that was expected is not in the repository"):
        uws.collect("lab/results/other.uws.zip")


def test_only_files_inside_the_roots_are_opened(exported: tuple[Collection, Path], tmp_path: Path):
    (tmp_path / "inside").mkdir()
    with pytest.raises(OutsideRoot):
        uws.collect(exported[1], roots=[tmp_path / "inside"])
