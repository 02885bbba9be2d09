"""Saved collections opened again: the same here, elsewhere and later, or it is said what changed."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.hub_fixtures import files, standin, tensors
from tests.hub_standin import HubStandIn
from uws_core.collection import collect
from uws_core.errors import CollectionError, OutsideRoot
from uws_core.nouns.hub import HubQuery
from uws_core.store.saved_collections import save

__all__ = ["standin"]


# --- opened again, here and elsewhere


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of four models with attributes, and their base."""
    folder = tmp_path / "here" / "runs"
    folder.mkdir(parents=True)
    for i in range(4):
        save_file(tensors(i), folder / f"m{i}.safetensors")
    (folder / "models.csv").write_text("model,task\n" + "".join(f"m{i},t{i % 2}\n" for i in range(4)))
    save_file(tensors(9), tmp_path / "here" / "base.safetensors")
    return folder


def test_a_folder_moved_with_its_file_is_the_same_collection(runs: Path, tmp_path: Path):
    made = collect(runs, base=runs.parent / "base.safetensors", name="mine")
    save(made, runs.parent / "mine.uws.toml")
    shutil.move(tmp_path / "here", tmp_path / "there")
    found = collect(tmp_path / "there" / "mine.uws.toml")
    assert (found.name, found.fingerprint, found.labels) == ("mine", made.fingerprint, made.labels)
    assert (found.table, found.layers, found.base_layers) == (made.table, made.layers, made.base_layers)
    assert found.left_out == made.left_out


def test_a_query_saved_on_one_machine_is_the_same_collection_on_another(standin: HubStandIn, tmp_path: Path):
    for i in range(4):
        standin.add(f"lab/task{i}", files(i), downloads=i, tags=["license:mit"])
    query = HubQuery(globs=("lab/task*",), limit=3)
    made = collect(query, base="lab/task0")
    save(made, tmp_path / "tasks.uws.toml", query=str(query))
    # The branches move on, a better model appears, the Hub counts: the collection stays what it was.
    for i in range(4):
        standin.add(f"lab/task{i}", files(10 + i), downloads=100)
    standin.add("lab/task9", files(9), downloads=1000)
    code = (
        "import sys; from uws_core.collection import collect; c = collect(sys.argv[1]);"
        "print(c.fingerprint, len(c.left_out), dict(c.table))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tasks.uws.toml")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"HF_HOME": str(tmp_path / "hub")},
    )
    assert done.stdout.strip() == f"{made.fingerprint} {len(made.left_out)} {dict(made.table)}"
    assert made.table["downloads"] == (3, 2, 1)


def test_a_built_in_collection_is_the_same_wherever_the_package_lies(tmp_path: Path):
    made = collect("demo:finetuned")
    save(made, tmp_path / "demo.uws.toml")
    found = collect(tmp_path / "demo.uws.toml", roots=[tmp_path])
    assert (found.fingerprint, found.base, found.table) == (made.fingerprint, made.base, made.table)


def test_a_model_that_changed_or_went_is_left_out_and_said(runs: Path, tmp_path: Path):
    path = runs.parent / "mine.uws.toml"
    save(collect(runs), path)
    save_file(tensors(7), runs / "m1.safetensors")
    (runs / "m2.safetensors").unlink()
    found = collect(path)
    reasons = {note.what: note.reason for note in found.left_out}
    assert found.labels == ("m0", "m3")
    assert "changed since the collection was made" in reasons["m1"]
    assert "m2.safetensors" in reasons["m2"]
    assert reasons["runs"] == "not as it was saved: 2 of its 4 models could be opened"


def test_a_base_that_went_is_left_out_and_said(runs: Path):
    path = runs.parent / "mine.uws.toml"
    save(collect(runs, base=runs.parent / "base.safetensors"), path)
    (runs.parent / "base.safetensors").unlink()
    found = collect(path)
    assert found.base is None
    assert [note.what for note in found.left_out if "base" in note.reason] == ["the base model"]


def test_a_file_from_elsewhere_opens_nothing_outside_the_roots(runs: Path, tmp_path: Path):
    inside = tmp_path / "inside"
    inside.mkdir()
    made = collect(runs, base=runs.parent / "base.safetensors")
    save(made, inside / "mine.uws.toml")
    with pytest.raises(CollectionError, match="lies outside the folders that may be read"):
        collect(inside / "mine.uws.toml", roots=[inside])
    with pytest.raises(OutsideRoot):
        collect(inside / "mine.uws.toml", roots=[runs])
    assert len(collect(inside / "mine.uws.toml", roots=[tmp_path])) == 4
    some = collect(inside / "mine.uws.toml", roots=[inside, runs])
    assert (len(some), some.base) == (4, None)


def test_a_file_from_elsewhere_opens_no_pickle(tmp_path: Path):
    for i in range(3):
        torch.save(tensors(i), tmp_path / f"m{i}.bin")
    made = collect(tmp_path, pickled=True)
    save(made, tmp_path / "mine.uws.toml")
    with pytest.raises(CollectionError, match="a pickled file, which is read only on request"):
        collect(tmp_path / "mine.uws.toml")
    assert collect(tmp_path / "mine.uws.toml", pickled=True).fingerprint == made.fingerprint


def test_attributes_that_were_edited_are_kept(runs: Path):
    made = collect(runs)
    edited = replace(made, table={"task": ("x", None, "y", "z"), "new": (1, 2, 3, 4)})
    save(edited, runs / "mine.uws.toml")
    assert dict(collect(runs / "mine.uws.toml").table) == dict(edited.table)


def test_vocabularies_of_different_sizes_stay_compared_in_the_rows_they_share(tmp_path: Path):
    for i in range(3):
        save_file(tensors(i) | {"embed.weight": torch.ones(10 + i, 4)}, tmp_path / f"m{i}.safetensors")
    made = collect(tmp_path, common_rows=True)
    save(made, tmp_path / "mine.uws.toml")
    assert collect(tmp_path / "mine.uws.toml").layers == made.layers


def test_a_column_that_was_taken_away_does_not_come_back_from_the_hub(standin: HubStandIn, tmp_path: Path):
    for i in range(2):
        standin.add(f"lab/m{i}", files(i), tags=["license:mit"])
    made = collect(["lab/m0", "lab/m1"])
    assert "license" in made.table
    save(replace(made, table={"mine": ("x", "y")}), tmp_path / "mine.uws.toml")
    assert dict(collect(tmp_path / "mine.uws.toml").table) == {"mine": ("x", "y")}
