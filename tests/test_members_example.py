"""The examples of README and docs/members.md with a small real transformer: adapters, basis, a new task, serving it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

import uws_core as uws

transformers = pytest.importorskip("transformers")
ROOT = Path(__file__).parents[1]
WORDS = 32


def counting(step: int, generator: torch.Generator) -> torch.Tensor:
    """Eight sentences that count in steps of `step`; each task has another step."""
    starts = torch.randint(0, WORDS, (8, 1), generator=generator)
    return (starts + step * torch.arange(12)) % WORDS


def train(model: nn.Module, step: int, generator: torch.Generator, *, steps: int, rate: float) -> float:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        batch = counting(step, generator)
        optimizer.zero_grad()
        loss = model(batch, labels=batch).loss
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def write_base_and_adapters(place: Path) -> None:
    """A two-layer GPT-2 that has seen every way to count, and six PEFT adapters, one for each."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=WORDS, n_positions=16)
    base = transformers.GPT2LMHeadModel(config)
    for step in (1, 4, 2, 6, 3, 5) * 3:
        train(base, step, generator, steps=3, rate=0.01)
    base.save_pretrained(place / "base")
    for step in range(1, 7):
        fresh = transformers.GPT2LMHeadModel.from_pretrained(place / "base")
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
        model = get_peft_model(fresh, lora)
        train(model, step, generator, steps=25, rate=0.02)
        model.save_pretrained(place / "adapters" / f"task-{step}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("transformer")
    write_base_and_adapters(place)
    return place


def example_of(page: str) -> str:
    (example,) = [
        code
        for code in re.findall(r"```py\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
        if "serving.attach" in code
    ]
    return example


@pytest.mark.filterwarnings("ignore")
def test_adapters_become_a_basis_in_which_a_new_task_is_trained_and_served(
    made, tmp_path, monkeypatch, capsys, results_folder
):
    for part in ("base", "adapters"):
        (tmp_path / part).symlink_to(made / part)
    monkeypatch.chdir(tmp_path)
    batches = [counting(7, torch.Generator().manual_seed(seed)) for seed in range(10)]
    names: dict[str, object] = {"batches": batches}
    exec(compile(example_of("README.md"), "README", "exec"), names)
    verdict, tokens = capsys.readouterr().out.splitlines()
    # The basis comes from other steps of counting, which is what the new task is.
    assert verdict.startswith("Better than a random basis on `task`")
    served, losses = names["served"], {}
    assert isinstance(served, uws.serving.Served)
    tuned = PeftModel.from_pretrained(transformers.GPT2LMHeadModel.from_pretrained("base").eval(), "task-7")
    with torch.no_grad():
        for name in (None, "task-7"):
            with served.using(name):
                found = served.model(batches[0], labels=batches[0])
                losses[name] = float(found.loss)
        torch.testing.assert_close(found.logits, tuned(batches[0]).logits, rtol=1e-4, atol=1e-4)
    assert losses["task-7"] < 0.9 * losses[None]
    assert len(json.loads(tokens)) == 3


@pytest.mark.filterwarnings("ignore")
def test_adapters_become_a_basis_that_serves_and_trains(made, tmp_path, monkeypatch, capsys, results_folder):
    for part in ("base", "adapters"):
        (tmp_path / part).symlink_to(made / part)
    monkeypatch.chdir(tmp_path)
    example = example_of("docs/members.md")
    names: dict[str, object] = {}
    torch.manual_seed(0)
    exec(compile(example, "docs members", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    served, tokens = names["served"], names["tokens"]
    assert isinstance(served, uws.serving.Served)
    assert served.members == (*(f"task-{step}" for step in range(1, 7)), "task-7")
    # What the basis holds of a member is what PEFT computes with it, rebuilt.
    for name, place in zip(served.members, uws.rebuild("basis", "rebuilt"), strict=True):
        base = transformers.GPT2LMHeadModel.from_pretrained("base").eval()
        with torch.no_grad(), served.using(name):
            wanted = PeftModel.from_pretrained(base, place)(tokens).logits
            torch.testing.assert_close(served.model(tokens).logits, wanted, rtol=1e-4, atol=1e-4)
    # The new task learned something that the base does not know, with nothing but cores.
    batch = counting(7, torch.Generator().manual_seed(2))
    with torch.no_grad():
        losses = []
        for name in (None, "task-7"):
            with served.using(name):
                losses.append(float(served.model(batch, labels=batch).loss))
    assert losses[1] < 0.9 * losses[0], losses
    assert float(printed[3]) < losses[0]
