from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.written import model, pair, reason, written
from uws_core.cli.main import main
from uws_core.collection import collect
from uws_core.errors import OutsideRoot
from uws_core.nouns.models import ModelRef
from uws_core.store.saved_collections import save


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

    def test_a_table_that_is_a_link_out_is_not_read(self, folder: Path, tmp_path: Path):
        (tmp_path / "secret.csv").write_text("model,secret\n" + "".join(f"m{i},s{i}\n" for i in range(12)))
        (folder / "models.csv").symlink_to(tmp_path / "secret.csv")
        assert "secret" in collect(folder).table
        kept = collect(folder, roots=[folder])
        assert dict(kept.table) == {}
        assert "not used: " in reason(kept.left_out, "models.csv")
        assert "lies outside the folders that may be read" in reason(kept.left_out, "models.csv")

    def test_a_base_with_a_shard_outside_is_refused(self, folder: Path, tmp_path: Path):
        base = folder / "base"
        base.mkdir()
        save_file(model(99), tmp_path / "secret.safetensors")
        (base / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
        models = [folder / f"m{i}.safetensors" for i in range(3)]
        assert collect(models, base=base).base is not None
        with pytest.raises(OutsideRoot, match=r"model\.safetensors lies outside"):
            collect(models, base=base, roots=[folder])
        with pytest.raises(OutsideRoot, match=r"model\.safetensors lies outside"):
            collect(models, base=base / "model.safetensors", roots=[folder])

    def test_a_saved_base_with_a_file_outside_is_left_out_and_said(self, folder: Path, tmp_path: Path):
        base = folder / "base"
        base.mkdir()
        save_file(model(99), tmp_path / "secret.safetensors")
        (base / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
        save(collect([folder / f"m{i}.safetensors" for i in range(3)], base=base), folder / "mine.uws.toml")
        found = collect(folder / "mine.uws.toml", roots=[folder])
        assert found.base is None
        assert "lies outside the folders" in reason(found.left_out, "the base model")

    @pytest.mark.parametrize("name", ["adapter_config.json", "config.json"])
    def test_a_configuration_that_is_a_link_out_takes_its_models_with_it(self, tmp_path: Path, name: str):
        for i in range(3):
            written(tmp_path / "in" / f"m{i}", {"base_model.model.q.lora_A.weight": pair(i)[1],
                                                "base_model.model.q.lora_B.weight": pair(i)[0]}, {"r": 2})  # fmt: skip
        (tmp_path / "secret.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 64}')
        (tmp_path / "in" / "m0" / name).unlink(missing_ok=True)
        (tmp_path / "in" / "m0" / name).symlink_to(tmp_path / "secret.json")
        places = [tmp_path / "in" / f"m{i}" / "adapter_model.safetensors" for i in range(3)]
        assert len(collect(places)) == 3
        kept = collect(places, roots=[tmp_path / "in"])
        assert len(kept) == 2
        assert f"{name} lies outside the folders" in reason(kept.left_out, "m0/adapter_model")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["nowhere"], "nowhere: no such file or folder here, and no model of the Hub either"),
        (["tests/none"], "tests/none: no such file or folder here; expected a folder of models"),
        (["owner/none.safetensors"], "owner/none.safetensors: no such file or folder here"),
        (["finetunes:openai-community/gpt2"], "a query to the Hub is taken alone"),
        (["demo:finetuned"], "demo:finetuned is a collection of its own; name it alone"),
    ],
)
def test_a_place_beside_one_that_is_there_is_told_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[str], said: str
) -> None:
    assert main(["ls", str(tmp_path), *others]) == 1
    assert said in capsys.readouterr().err
