from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.written import model, reason
from uws_core.collection import collect
from uws_core.errors import OutsideRoot
from uws_core.nouns.models import ModelRef


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve models of one architecture."""
    place = tmp_path / "runs"
    place.mkdir()
    for i in range(12):
        save_file(model(i), place / f"m{i}.safetensors")
    return place


class TestList:
    def test_is_in_the_order_given_and_named_by_what_differs(self, tmp_path: Path):
        for i, place in enumerate(["x/run", "y/run"]):
            (tmp_path / place).mkdir(parents=True)
            save_file(model(i), tmp_path / place / "model.safetensors")
        found = collect([tmp_path / "y" / "run", str(tmp_path / "x" / "run")], name="two")
        assert (found.name, found.labels) == ("two", ("y/run", "x/run"))

    def test_a_place_named_twice_is_one_model(self, folder: Path):
        found = collect([folder / "m0.safetensors", folder / "m1.safetensors", folder / "m0.safetensors"])
        assert found.labels == ("m0", "m1")
        assert "named twice" in reason(found.left_out, str(folder / "m0.safetensors"))

    def test_references_with_a_commit_are_checked(self, folder: Path):
        found = collect(folder)
        assert collect(list(found.refs)).fingerprint == found.fingerprint
        stale = ModelRef(found.refs[0].repo, found.refs[1].commit)
        again = collect([stale, *found.refs[1:]])
        assert "changed since" in reason(again.left_out, "m0")


class TestRoots:
    def test_nothing_outside_is_opened(self, folder: Path, tmp_path: Path):
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(OutsideRoot, match="UWS_ROOTS"):
            collect(folder, roots=[other])
        with pytest.raises(OutsideRoot, match="UWS_ROOTS"):
            collect([folder / "m0.safetensors", folder / "m1.safetensors"], roots=[other])
        with pytest.raises(OutsideRoot, match="UWS_ROOTS"):
            collect(folder / ".." / "other" / ".." / "runs", roots=[other])

    def test_links_out_are_left_out_only_there(self, folder: Path, tmp_path: Path):
        outside = tmp_path / "outside" / "inner"
        outside.mkdir(parents=True)
        for place in (outside / "a.safetensors", outside / "model.safetensors"):
            save_file(model(50), place)
        (folder / "link.safetensors").symlink_to(outside / "a.safetensors")
        (folder / "linked").symlink_to(outside, target_is_directory=True)
        (folder / "half").mkdir()
        (folder / "half" / "model.safetensors").symlink_to(outside / "a.safetensors")
        for i, name in enumerate(["one", "two"]):
            (tmp_path / "tree" / name).mkdir(parents=True)
            save_file(model(51 + i), tmp_path / "tree" / name / "a.safetensors")
        (folder / "tree").symlink_to(tmp_path / "tree", target_is_directory=True)
        outsiders = {"link", "linked", "half", "tree/one", "tree/two"}
        assert outsiders <= set(collect(folder).labels)
        kept = collect(folder, roots=[folder])
        assert len(kept) == 12
        for name in outsiders:
            assert "lies outside the folders" in reason(kept.left_out, name)
