"""Second opinion on adapters: PEFT merges each one into a tiny base, and the change must be what is read here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from uws_core.nouns.loader import Fate
from uws_core.nouns.models import LowRank, ModelRef
from uws_core.sources.base import Source
from uws_core.sources.opening import open_source

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=32, max_position_embeddings=16, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_embd=12, n_layer=2, n_head=2, vocab_size=32, n_positions=16)
    return transformers.GPT2LMHeadModel(config)


class Convolutions(nn.Module):
    """Kernels of several sizes, and a linear end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 6, 1)
        self.line = nn.Conv1d(6, 5, 3)
        self.last = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def saved(base: nn.Module, config: object, folder: Path) -> nn.Module:
    """An adapter on `base` with nothing left at zero, written to `folder`."""
    model = peft.get_peft_model(base, config)
    chance = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if any(part in name for part in ("lora_", "hada_", "lokr_")) and "magnitude" not in name:
            value.data = torch.randn(value.shape, generator=chance).to(value.dtype)
    model.save_pretrained(folder)
    return model


def dense(update: LowRank | Tensor) -> Tensor:
    assert isinstance(update, LowRank)
    return update.scale * (update.up.double() @ update.down.double())


def check_against_merge(make: Callable[[], nn.Module], config: object, folder: Path) -> Source:
    torch.manual_seed(0)
    base = make().double()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = saved(base, config, folder)
    after = model.merge_and_unload().state_dict()
    source = open_source(ModelRef(str(folder), ""))
    updates = {layer.name: layer for layer in source.layers() if layer.name in source.low_rank}
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == set(updates)
    for name, layer in updates.items():
        theirs = (after[name] - before[name]).flatten(1)
        assert layer.shape == tuple(theirs.shape)
        # The adapter is stored in single precision; both sides multiply out what is stored.
        torch.testing.assert_close(dense(source.read(name)), theirs, rtol=1e-5, atol=1e-5)
    return source


LORA = {
    "plain": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "rank and alpha patterns": {
        "r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "up_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 2, r".*\.0\..*up_proj": 3},
        "alpha_pattern": {"model.layers.0.self_attn.v_proj": 32, r"layers\.[1-9]\.mlp\.(up|down)_proj": 1},
    },
    "every linear layer": {"r": 2, "target_modules": "all-linear"},
    "embedding": {"r": 3, "lora_alpha": 5, "target_modules": ["embed_tokens", "q_proj"]},
    "alpha of zero": {"r": 3, "lora_alpha": 0, "target_modules": ["q_proj"]},
    "head saved whole": {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "bias": {"r": 2, "target_modules": ["q_proj"], "lora_bias": True, "bias": "none"},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in LORA if name not in ("alpha of zero", "bias")])
def test_lora_is_what_peft_merges(tmp_path: Path, name: str):
    source = check_against_merge(llama, peft.LoraConfig(**LORA[name]), tmp_path)
    fates = source.report().counts
    assert fates[Fate.UNKNOWN] == fates[Fate.UNMATCHED] == 0


def test_an_alpha_of_zero_is_no_update(tmp_path: Path):
    saved(llama(), peft.LoraConfig(**LORA["alpha of zero"]), tmp_path)
    source = open_source(ModelRef(str(tmp_path), ""))
    assert {one.scale for one in source.report().scales} == {0.0}


def test_a_bias_update_is_listed(tmp_path: Path):
    saved(llama_with_bias(), peft.LoraConfig(**LORA["bias"]), tmp_path)
    source = open_source(ModelRef(str(tmp_path), ""))
    assert [note for note in source.left_out if note.what.endswith("lora_B.bias") and "vector" in note.reason]


def llama_with_bias() -> nn.Module:
    model = llama()
    for layer in model.model.layers:
        layer.self_attn.q_proj.bias = nn.Parameter(torch.zeros(16))
    return model


def test_transposed_weights_are_updated_as_they_are_stored(tmp_path: Path):
    config = peft.LoraConfig(r=3, lora_alpha=5, fan_in_fan_out=True, target_modules=["c_attn", "c_proj", "c_fc"])
    source = check_against_merge(gpt2, config, tmp_path)
    assert {layer.shape for layer in source.layers() if layer.name.endswith("c_attn.weight")} == {(12, 36)}


@pytest.mark.parametrize("kind", ["lora", "loha", "loha with cores", "lokr", "lokr factored twice", "lokr with a core"])
def test_convolutions_and_products_are_what_peft_merges(tmp_path: Path, kind: str):
    modules = ["first", "second", "last"]
    configs = {
        "lora": lambda: peft.LoraConfig(r=3, lora_alpha=5, target_modules=[*modules, "line"]),
        "loha": lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=[*modules, "line"]),
        "loha with cores": lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=modules, use_effective_conv2d=True),
        "lokr": lambda: peft.LoKrConfig(r=2, alpha=5, target_modules=modules),
        "lokr factored twice": lambda: peft.LoKrConfig(
            r=1, alpha=5, target_modules=modules, decompose_both=True, rank_pattern={"first": 2}
        ),
        "lokr with a core": lambda: peft.LoKrConfig(r=1, alpha=5, target_modules=modules, use_effective_conv2d=True),
    }
    source = check_against_merge(Convolutions, configs[kind](), tmp_path)
    assert source.report().counts[Fate.UNMATCHED] == 0


def test_dora_keeps_the_low_rank_part_and_says_so(tmp_path: Path):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=6, use_dora=True, target_modules=["q_proj"])
    model = saved(llama(), config, tmp_path)
    source = open_source(ModelRef(str(tmp_path), ""))
    for layer in (one for one in source.layers() if one.name in source.low_rank):
        module = model.get_submodule("base_model.model." + layer.name.removesuffix(".weight"))
        theirs = module.scaling["default"] * (module.lora_B["default"].weight @ module.lora_A["default"].weight)
        torch.testing.assert_close(dense(source.read(layer.name)).float(), theirs)
    assert any("DoRA" in note for note in source.report().notes)
    assert sum(note.what.endswith("lora_magnitude_vector") for note in source.left_out) == 2


def test_a_raw_state_with_several_adapters_is_one_model_each(tmp_path: Path):
    from safetensors.torch import save_file

    from uws_core.collection import collect

    torch.manual_seed(0)
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"]), adapter_name="style")
    model.add_adapter("tone", peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj"]))
    for value in model.parameters():
        value.data = torch.randn(value.shape)
    states = {name: value.clone() for name, value in model.state_dict().items()}
    (tmp_path / "both").mkdir()
    save_file(states, tmp_path / "both" / "adapter_model.safetensors")
    (tmp_path / "both" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 8}')
    found = collect(tmp_path / "both")
    assert found.labels == ("both:style", "both:tone")
    own = model.base_model.model.model.layers[0].self_attn.q_proj
    for ref, name in zip(found.refs, ("style", "tone"), strict=True):
        read = open_source(ref).read("model.layers.0.self_attn.q_proj.weight")
        torch.testing.assert_close(read.up, own.lora_B[name].weight.detach())
        torch.testing.assert_close(read.down, own.lora_A[name].weight.detach())
    listed = {key.key for key in open_source(found.refs[0]).report().keys}
    assert listed == set(states)


def test_a_named_adapter_in_its_own_folder_opens(tmp_path: Path):
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"]), adapter_name="style")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path)
    by_part = open_source(ModelRef(str(tmp_path), "", "style"))
    by_folder = open_source(ModelRef(str(tmp_path / "style"), ""))
    by_file = open_source(ModelRef(str(tmp_path / "style" / "adapter_model.safetensors"), ""))
    assert by_part.layers() == by_folder.layers() == by_file.layers()
    assert by_part.digest() == by_folder.digest() == by_file.digest()


def test_a_compiled_or_parallel_model_has_the_same_layers(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    saved(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"]), tmp_path)
    plain = open_source(ModelRef(str(tmp_path), ""))
    expected = plain.layers()
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for wrapper in ("_orig_mod.", "module."):
        renamed = {name.replace("base_model.model.", f"base_model.model.{wrapper}"): v for name, v in tensors.items()}
        save_file(renamed, tmp_path / "adapter_model.safetensors")
        assert open_source(ModelRef(str(tmp_path), "")).layers() == expected
        save_file({wrapper + name: v for name, v in tensors.items()}, tmp_path / "adapter_model.safetensors")
        assert open_source(ModelRef(str(tmp_path), "")).layers() == expected
