"""A collection file that is handed to another machine: what lies on a disk by its place beside the file."""

import shutil
from pathlib import Path

from safetensors.torch import save_file

from tests.hub_fixtures import files, standin
from tests.hub_standin import HubStandIn
from tests.written import model
from uws_core.collection import collect
from uws_core.nouns.models import ModelRef
from uws_core.store.saved_collections import common_folder, parse_saved, portable, read_saved, save, saved_text

__all__ = ["standin"]


def runs(folder: Path) -> Path:
    """Three files of models and a model folder."""
    (folder / "runs" / "m3").mkdir(parents=True)
    for i in range(4):
        save_file(model(i), folder / "runs" / (f"m{i}.safetensors" if i < 3 else "m3/model.safetensors"))
    return folder / "runs"


def test_the_folder_of_models_is_the_one_that_holds_them_all(tmp_path: Path):
    folder = runs(tmp_path)
    made = collect(folder)
    assert common_folder(made.refs) == folder
    assert common_folder(made.refs[:1]) == folder
    assert common_folder([*made.refs, ModelRef("lab/m", "0" * 40)]) == folder
    assert common_folder([ModelRef("/a/m", ""), ModelRef("/b/m", "")]) is None
    assert common_folder([ModelRef("lab/m", "")]) is None
    assert common_folder(collect("demo:finetuned").refs) is None


def test_a_file_put_beside_the_moved_models_is_the_same_collection(tmp_path: Path):
    made = collect(runs(tmp_path / "here"))
    text = saved_text(made, beside=common_folder(made.refs), query="lab/*")
    assert str(tmp_path) not in text
    shutil.move(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / "runs" / "mine.uws.toml").write_text(text)
    found = collect(tmp_path / "there" / "runs" / "mine.uws.toml")
    assert (found.fingerprint, found.labels, found.left_out) == (made.fingerprint, made.labels, made.left_out)


def test_a_kept_file_becomes_one_that_can_be_handed_on(tmp_path: Path):
    made = collect(runs(tmp_path / "here"), base=tmp_path / "here" / "runs" / "m0.safetensors")
    (tmp_path / "shelf").mkdir()
    save(made, tmp_path / "shelf" / "mine.uws.toml", query="lab/* limit:3")
    kept = read_saved(tmp_path / "shelf" / "mine.uws.toml")
    text, folder = portable(kept)
    assert folder == tmp_path / "here" / "runs"
    assert str(tmp_path) not in text
    assert parse_saved(text, beside=folder) == kept


def test_models_of_the_hub_keep_commits_and_query(standin: HubStandIn, tmp_path: Path):
    for i in range(2):
        standin.add(f"lab/m{i}", files(i))
    made = collect(["lab/m0", "lab/m1"])
    text = saved_text(made, beside=common_folder(made.refs), query="lab/*")
    found = parse_saved(text, beside=tmp_path)
    assert tuple(found.models.values()) == made.refs
    assert (found.query, found.fingerprint) == ("lab/*", made.fingerprint)
    (tmp_path / "x.uws.toml").write_text(text)
    assert collect(tmp_path / "x.uws.toml").fingerprint == made.fingerprint
