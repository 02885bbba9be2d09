"""Checkpoints of transformers, compressed and rebuilt: `from_pretrained` finds all it needs and computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import uws_core as uws
from uws_core.use import rebuild as rebuilding

pytestmark = pytest.mark.usefixtures("results_folder")
WORDS = torch.tensor([[1, 5, 9, 2, 30, 7]])


def saved(place: Path, kind: str, dtype: torch.dtype = torch.float32, count: int = 3) -> Path:
    """Models of one start, each moved by noise of its own, as `save_pretrained` writes them with their tokenizer."""
    torch.manual_seed(0)
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=40, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
        )
        start = LlamaForCausalLM(config)
    else:
        start = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=32, n_embd=24, n_layer=2, n_head=4))
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    for number in range(count):
        model = type(start)(start.config)
        model.load_state_dict(start.state_dict())
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        model.to(dtype).save_pretrained(place / f"m{number}")
        PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(place / f"m{number}")
    return place


def outputs(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(WORDS).logits


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_from_pretrained_loads_a_rebuilt_checkpoint_and_its_tokenizer(kind, tmp_path):
    models = uws.collect(saved(tmp_path / "models", kind))
    written = uws.compress(models, kept=1000, method="in").write(tmp_path / "c")
    (rebuilt,) = uws.rebuild(written, tmp_path / "r", members=["m1"])
    torch.testing.assert_close(outputs(rebuilt), outputs(tmp_path / "models" / "m1"), atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(rebuilt)("w5 w9")["input_ids"] == [5, 9]
    assert (rebuilt / "generation_config.json").read_bytes() == (
        tmp_path / "models" / "m1" / "generation_config.json"
    ).read_bytes()
    # One tokenizer for all members is stored once.
    stored = [path for path in (written / "files").iterdir() if path.stat().st_size > 500]
    tokenizer = (tmp_path / "models" / "m0" / "tokenizer.json").read_bytes()
    assert sum(path.read_bytes() == tokenizer for path in stored) == 1


def test_a_lossy_checkpoint_computes_what_basis_and_coefficients_say(tmp_path):
    models = uws.collect(saved(tmp_path / "models", "llama"))
    opened = uws.open_compressed(uws.compress(models, kept=4).write(tmp_path / "c"))
    (rebuilt,) = uws.rebuild(opened, tmp_path / "r", members=["m2"])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "m2")
    original = outputs(tmp_path / "models" / "m2")
    state = model.state_dict()
    for plan in opened.plans:
        state[plan.layer.name].copy_(opened.layer("m2", plan.layer.name))
    with torch.no_grad():
        expected = model(WORDS).logits
    torch.testing.assert_close(outputs(rebuilt), expected, atol=1e-5, rtol=1e-5)
    assert (expected - original).abs().max() > 1e-3


def test_weights_come_back_in_their_own_type_or_the_requested_one(tmp_path):
    models = uws.collect(saved(tmp_path / "models", "llama", torch.bfloat16))
    written = uws.compress(models, kept=4).write(tmp_path / "c")
    for dtype, expected in (("auto", torch.bfloat16), ("float32", torch.float32)):
        (rebuilt,) = uws.rebuild(written, tmp_path / dtype, members=["m0"], dtype=dtype)
        tensors = load_file(rebuilt / "model.safetensors")
        assert tensors["model.layers.0.self_attn.q_proj.weight"].dtype == expected
        config = json.loads((rebuilt / "config.json").read_text())
        assert config["dtype"] == str(expected).removeprefix("torch.")
        assert AutoModelForCausalLM.from_pretrained(rebuilt).dtype == expected


def test_a_large_checkpoint_comes_back_in_shards(tmp_path, monkeypatch):
    models = uws.collect(saved(tmp_path / "models", "llama"))
    written = uws.compress(models, kept=1000).write(tmp_path / "c")
    monkeypatch.setattr(rebuilding, "SHARD_BYTES", 20_000)
    (rebuilt,) = uws.rebuild(written, tmp_path / "r", members=["m1"])
    assert len(list(rebuilt.glob("model-*.safetensors"))) > 2
    torch.testing.assert_close(outputs(rebuilt), outputs(tmp_path / "models" / "m1"), atol=1e-4, rtol=1e-4)


def test_the_folder_opens_as_a_collection_whose_layers_are_the_rebuilt_ones(tmp_path):
    models = uws.collect(saved(tmp_path / "models", "gpt2"))
    opened = uws.open_compressed(uws.compress(models, kept=4, method="two-sided").write(tmp_path / "c"))
    collection = uws.collect(tmp_path / "c")
    assert collection.labels == ("c:m0", "c:m1", "c:m2")
    assert [layer.name for layer in collection.layers] == [layer.name for layer in models.layers]
    assert collection.transposed == models.transposed
    layer = "transformer.h.1.mlp.c_fc.weight"
    stack = torch.stack([opened.layer(f"m{number}", layer) for number in range(3)]).double().flatten(1)
    stack -= stack.mean(dim=0)
    np.testing.assert_allclose(uws.gram(collection, layer).values, (stack @ stack.T).numpy(), rtol=1e-4, atol=1e-5)
    changed = uws.collect([tmp_path / "models" / "m0", *collection.refs])
    assert len(changed) == 4
