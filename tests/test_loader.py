"""How models were read, on the command line: every key of every file, and the choices about reading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.written import model, pair, written
from uws_core.cli.main import main
from uws_core.collection import collect
from uws_core.nouns.loader import Choices, Fate
from uws_core.reporting.loader import models_of, report_of

pytestmark = pytest.mark.usefixtures("results_folder")
Read = Callable[..., tuple[int, str]]


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str]) -> Read:
    """A command line's exit code and output."""

    def said(*words: str) -> tuple[int, str]:
        code = main(list(words))
        return code, capsys.readouterr().out

    return said


def peft(seed: int, module: str = "q") -> dict[str, torch.Tensor]:
    up, down = pair(seed)
    name = f"base_model.model.blocks.0.{module}"
    return {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}


def kohya(seed: int) -> dict[str, torch.Tensor]:
    up, down = pair(seed)
    name = "lora_unet_blocks_0_q"
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(4.0)}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three adapters, one with keys of every fate, several in one file, a checkpoint, and one that is damaged."""
    place = tmp_path / "mixed"
    written(place / "one", peft(0), {"peft_type": "LORA", "r": 2, "lora_alpha": 8})
    up, _ = pair(5)
    strange = {"somebody.else": torch.zeros(3), "base_model.model.blocks.1.v.lora_B.weight": up}
    dora = {"base_model.model.blocks.0.q.lora_magnitude_vector": torch.ones(8)}
    written(place / "two", peft(1) | strange | dora, {"peft_type": "LORA", "r": 2, "lora_alpha": 8})
    written(place / "three", kohya(2))
    both = {
        f"base_model.model.blocks.0.k.lora_{side}.{name}.weight": torch.randn(2, 2) for side in "AB" for name in "xy"
    }
    written(place / "several", both)
    (place / "whole").mkdir()
    save_file(model(), place / "whole" / "model.safetensors")
    (place / "broken").mkdir()
    (place / "broken" / "model.safetensors").write_bytes(b"garbage")
    return place


def stored(place: Path) -> set[str]:
    """Every key of every file that is one."""
    names: set[str] = set()
    for file in place.rglob("*.safetensors"):
        if file.parent.name != "broken":
            with safe_open(file, "pt") as opened:
                names |= set(opened.keys())
    return names


def test_every_key_of_every_file_is_listed_also_of_those_left_out(mixed: Path, read: Read):
    code, out = read("ls", str(mixed), "--report", "--json")
    assert code == 0
    told = {one["model"]: one for one in json.loads(out)["report"]}
    assert {key["key"] for one in told.values() for key in one.get("keys", ())} == stored(mixed)
    assert told.keys() == {"one", "two", "three", "several", "whole", "broken"}
    assert "begins with 8 bytes of header length" in told["broken"]["problem"]
    fates = {key["key"]: key["fate"] for key in told["two"]["keys"]}
    assert fates["somebody.else"] == Fate.UNKNOWN
    assert fates["base_model.model.blocks.1.v.lora_B.weight"] == Fate.UNMATCHED
    assert fates["base_model.model.blocks.0.q.lora_magnitude_vector"] == Fate.IGNORED
    (scale,) = told["three"]["scales"]
    assert (scale["scale"], scale["rank"]) == (2.0, 2)
    assert "alpha 4 / rank 2" in scale["where"]
    assert "adapter_config.json: lora_alpha 8" in told["one"]["scales"][0]["where"]


def test_the_report_is_a_plain_table(mixed: Path, read: Read):
    _, out = read("ls", str(mixed), "--report")
    assert all(name in out for name in stored(mixed))
    rows = [line.split() for line in out.splitlines()]
    assert ["model", "key", "fate", "why"] in rows
    assert ["model", "layer", "rank", "scale", "where"] in rows
    assert "broken: not read: " in out
    assert "keys (" not in read("ls", str(mixed))[1]


def test_a_key_cannot_write_on_the_terminal(tmp_path: Path, read: Read):
    for i in range(2):
        save_file(model(i) | {"\x1b[2Jx\nlayer": torch.zeros(3, 3)}, tmp_path / f"m{i}.safetensors")
    _, out = read("ls", str(tmp_path), "--report")
    assert "\x1b" not in out
    assert "\\x1b[2Jx\\nlayer" in out


def test_models_that_are_compared_come_first_and_roots_hold_for_all(mixed: Path, tmp_path: Path):
    found = collect(mixed)
    models = models_of(found, mixed)
    assert [one.label for one in models][: len(found)] == list(found.labels)
    assert {one.label for one in models if not one.compared} == {"several", "three", "whole", "broken"} - set(
        found.labels
    )
    assert models_of(found) == models[: len(found)]
    with pytest.raises(Exception, match="outside the folders that may be read"):
        report_of(models[-1], roots=[tmp_path / "elsewhere"])


@pytest.fixture
def vocabularies(tmp_path: Path) -> Path:
    """Three models whose heads have different numbers of rows."""
    place = tmp_path / "vocabularies"
    place.mkdir()
    for i in range(3):
        save_file(model(i, head=10 + i), place / f"m{i}.safetensors")
    return place


@pytest.mark.parametrize("command", [["ls"], ["scan", "--quiet"]])
def test_common_rows_may_be_asked_for(vocabularies: Path, read: Read, command: list[str]):
    assert "head" not in read(*command, str(vocabularies), "--json")[1].split('"left_out"')[0]
    assert '"head.weight[:10]"' in read(*command, str(vocabularies), "--json", "--common-rows")[1]


def test_export_takes_the_choices_too(vocabularies: Path, tmp_path: Path, read: Read):
    place = tmp_path / "out.csv"
    words = ["export", str(vocabularies), "--to", str(place), "--draws", "0", "--quiet", "--common-rows"]
    assert read(*words)[0] == 0
    assert "head.weight[:10]" in place.read_text()


def test_pickled_files_are_read_only_when_asked_for(tmp_path: Path, read: Read):
    for i in range(3):
        torch.save(model(i), tmp_path / f"m{i}.pt")
    assert read("ls", str(tmp_path))[0] == 1
    code, out = read("ls", str(tmp_path), "--pickled", "--report", "--json")
    assert code == 0
    assert {key["key"] for one in json.loads(out)["report"] for key in one["keys"]} == set(model())


def test_one_dialect_may_be_asked_for(tmp_path: Path, read: Read):
    for i in range(2):
        written(tmp_path / f"p{i}", peft(i))
        written(tmp_path / f"k{i}", kohya(i))
    assert json.loads(read("ls", str(tmp_path), "--json", "--dialect", "peft")[1])["labels"] == ["p0", "p1"]
    with pytest.raises(SystemExit):
        main(["ls", str(tmp_path), "--dialect", "french"])


def test_a_choice_says_itself_and_refuses_what_is_none():
    assert not Choices()
    assert (
        str(Choices(common_rows=True, pickled=True, dialect="peft")) == "rows in common, pickled files read, peft only"
    )
    with pytest.raises(ValueError, match="one of peft, kohya, diffusers, comfyui; found 'french'"):
        Choices(dialect="french")
