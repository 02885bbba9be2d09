"""The examples of README and docs run, and their links lead somewhere."""

import re
import shlex
import zipfile
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import uws_core as uws
from tests.test_tinylora import network
from tests.written import model, sharded, written
from uws_core.cli.main import parser
from uws_core.zoo.demo import DEMOS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
# Those in python run as they stand; those in py want something beside them, which their own test makes.
PLAIN = re.findall(r"```py\n(.*?)```", TEXT, flags=re.S)
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run_and_say_something(number, capsys, results_folder):
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_every_format_opens(tmp_path, monkeypatch, capsys, results_folder):
    _write_formats(tmp_path)
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in PLAIN if "kohya-adapters" in code]
    exec(compile(example, "README formats", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5
    assert all("3 models" in line and "of 2 directions carry 90 %" in line for line in said), said


def test_the_report_is_written(tmp_path, monkeypatch, capsys, results_folder):
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in PLAIN if "uws.report" in code]
    exec(compile(example, "README report", "exec"), {})
    with zipfile.ZipFile(capsys.readouterr().out.strip()) as whole:
        assert "report.html" in whole.namelist()


def test_models_are_merged(tmp_path, monkeypatch, capsys, results_folder):
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in PLAIN if "uws.merge" in code]
    exec(compile(example, "docs merge", "exec"), {})
    verdict, folder = capsys.readouterr().out.splitlines()
    assert "of the mean's length from the mean" in verdict
    ranks = {
        t.shape[0] for name, t in load_file(Path(folder) / "adapter_model.safetensors").items() if "lora_A" in name
    }
    assert ranks == {8}


def test_models_are_compressed_and_rebuilt(tmp_path, monkeypatch, capsys, results_folder):
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in PLAIN if "draft = uws.compress" in code]
    exec(compile(example, "docs compress", "exec"), {})
    verdict, adapter = capsys.readouterr().out.splitlines()
    assert "its own SVD at the same bytes" in verdict
    models = uws.collect("demo:lora")
    with torch.no_grad():
        images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
        computed = PeftModel.from_pretrained(network(models, models.labels[0]), adapter)(images)
        original = PeftModel.from_pretrained(network(models, models.labels[0]), models.refs[0].repo)(images)
    # A third of the update is lost, and the heads are the same.
    assert 0.01 < float((computed - original).norm() / original.norm()) < 1


def test_the_collections_named_are_there():
    assert set(re.findall(r"`demo:([a-z-]+)`", TEXT)) <= set(DEMOS)


def _write_formats(place: Path) -> None:
    ends = {
        "peft": ("base_model.model.unet.q.{}.weight", "lora_A", "lora_B"),
        "kohya": ("lora_unet_q.{}.weight", "lora_down", "lora_up"),
        "diffusers": ("unet.q.{}.weight", "lora_A", "lora_B"),
        "comfyui": ("diffusion_model.q.{}.weight", "lora_A", "lora_B"),
    }
    chance = torch.Generator().manual_seed(0)
    for dialect, (name, down, up) in ends.items():
        for i in range(3):
            factors = {
                name.format(down): torch.randn(2, 6, generator=chance),
                name.format(up): torch.randn(8, 2, generator=chance),
            }
            config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4} if dialect == "peft" else None
            written(place / f"{dialect}-adapters" / f"m{i}", factors, config)
    (place / "sharded-checkpoints").mkdir()
    for i in range(3):
        sharded(place / "sharded-checkpoints" / f"m{i}", model(i))


def test_there_are_examples():
    assert EXAMPLES


def test_local_links_lead_somewhere():
    links = [
        (page, link) for page in PAGES for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 195


def test_the_two_commands_are_those_of_the_makefile():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert {"run", "test", "bench", "soak"} <= set(targets)
    named = {first or second for first, second in re.findall(r"`make ([a-z]+)|^make ([a-z]+)", TEXT, flags=re.M)}
    assert named
    assert named <= set(targets)


def test_every_command_line_is_understood():
    lines = re.findall(r"^(?:UWS_\S+ )*uws (.+)$", TEXT, flags=re.M)
    assert len(lines) > 5
    for line in lines:
        options = parser().parse_args(shlex.split(re.split(r" >| #", line)[0]))
        assert callable(options.act), line


def test_the_exit_codes_are_those_of_the_program():
    documented = re.findall(r"\b(0|1|2|3|130) (?:done|not|the command|stopped)", TEXT.partition("Exit codes:")[2])
    assert documented == re.findall(r"\b(0|1|2|3|130) (?:done|not|the command|stopped)", parser().description)
