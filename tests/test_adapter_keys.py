import json
import math
import struct
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uws_core.errors import SourceError
from uws_core.nouns.models import LowRank, ModelRef
from uws_core.sources.formats.adapter_keys import Key, Role, parsed, spelled
from uws_core.sources.opening import open_source

HOSTILE = settings(max_examples=max(300, 5 * settings.default.max_examples))


SD = [
    "conv_in", "conv_out", "time_embedding.linear_1", "mid_block.attentions.0.proj_in",
    "mid_block.resnets.1.time_emb_proj", "down_blocks.1.downsamplers.0.conv", "up_blocks.2.upsamplers.0.conv",
    "up_blocks.3.resnets.2.conv_shortcut", "down_blocks.0.resnets.0.conv2",
    *(f"down_blocks.1.attentions.0.transformer_blocks.0.{end}" for end in (
        "attn1.to_q", "attn2.to_k", "attn1.to_v", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2")),
]  # fmt: skip


FLUX = [
    *(f"double_blocks.18.{end}" for end in (
        "img_attn.qkv", "img_attn.proj", "img_mlp.0", "img_mlp.2", "img_mod.lin", "txt_attn.qkv", "txt_mod.lin")),
    "single_blocks.37.linear1", "single_blocks.0.linear2", "single_blocks.0.modulation.lin",
    "final_layer.linear", "img_in", "guidance_in",
    "transformer_blocks.0.attn.add_q_proj", "transformer_blocks.0.attn.to_add_out",
    "transformer_blocks.0.ff_context.net.0.proj", "single_transformer_blocks.1.proj_mlp",
]  # fmt: skip


@pytest.mark.parametrize("name", SD + FLUX)
def test_kohyas_underscores_become_the_dots_they_were(name: str):
    assert spelled(name.replace(".", "_")) == name


def test_the_names_of_a_text_encoder_survive_kohyas_underscores():
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=12, num_attention_heads=2, vocab_size=8
    )
    names = [name for name, module in transformers.CLIPTextModel(config).named_modules() if hasattr(module, "weight")]
    assert len(names) > 70
    for name in names:
        assert parsed(f"lora_te_{name.replace('.', '_')}.lora_up.weight") == Key(
            "kohya", f"text_encoder.{name}", Role.UP
        )


# Files made of true and nearly true names, with shapes that fit or do not.
ENDS = [
    "lora_A.weight", "lora_B.weight", "lora_A.x.weight", "lora_down.weight", "lora_up.weight", "lora_mid.weight",
    "alpha", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector", "dora_scale", "hada_w1_a", "hada_w1_b",
    "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a",
    "lokr_w2_b", "lokr_t2", "scalar", "diff", "weight", "bias", "modules_to_save.weight", "base_layer.weight", "",
    "lora_A",
]  # fmt: skip


HEADS = [
    "base_model.model.a",
    "lora_unet_a",
    "unet.a",
    "diffusion_model.a",
    "a",
    "base_model.model",
    "_orig_mod.module.a",
]


keys = st.tuples(st.sampled_from(HEADS), st.sampled_from(ENDS)).map(".".join)


shapes = st.lists(st.sampled_from([0, 1, 2, 2, 2, 3]), max_size=4).map(tuple)


contents = st.dictionaries(keys, st.tuples(shapes, st.sampled_from(["F32", "BF16", "I8"])), min_size=1, max_size=8)


CONFIGS = [
    None,
    {"r": 2},
    {"r": 2, "alpha_pattern": {"(?=a)": 1}},
    {"peft_type": "LOKR", "fan_in_fan_out": True},
]


PAIR = {"base_model.model.a.lora_A.weight": ((2, 3), "F32"), "base_model.model.a.lora_B.weight": ((3, 2), "F32")}


@HOSTILE
@given(contents, st.sampled_from(CONFIGS))
@example(PAIR | {"base_model.model.a.alpha": ((2,), "F32"), "base_model.model.b.diff": ((2, 2), "F32")}, None)
@example(PAIR, {"r": 2, "alpha_pattern": {"(?=a)": 1}})
@example({f"a.lokr_w{i}": ((2, 2), "F32") for i in (1, 2)}, {"peft_type": "LOKR"})
def test_any_adapter_is_read_with_every_key_listed_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    content: dict[str, tuple[tuple[int, ...], str]],
    config: dict[str, object] | None,
):
    folder = tmp_path_factory.mktemp("any")
    header, at = {}, 0
    for name, (shape, dtype) in content.items():
        size = math.prod(shape) * {"F32": 4, "BF16": 2, "I8": 1}[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    try:
        source = open_source(ModelRef(str(folder), ""))
    except SourceError:
        return
    # What opens can be reported and read: whatever could not be was left out before.
    assert sorted(one.key for one in source.report().keys) == sorted(content)
    for layer in source.layers():
        found = source.read(layer.name)
        if isinstance(found, LowRank):
            assert (found.up.shape[0], found.down.shape[1]) == layer.shape
            assert found.up.shape[1] == found.down.shape[0]
        else:
            assert tuple(found.shape) == layer.shape


def test_the_suffix_tables_have_no_row_that_another_hides():
    seen = {}
    for head, end in product(["base_model.model.a.b"], ENDS[:-1]):
        key = parsed(f"{head}.{end}")
        seen[end] = key.role if key else None
    assert {seen[end] for end in ENDS if end.startswith("hada")} == {role for role in Role if role.startswith("hada")}
    assert {seen[end] for end in ENDS if end.startswith("lokr")} == {role for role in Role if role.startswith("lokr")}
    assert (seen["alpha"], seen["scalar"]) == (Role.ALPHA, Role.SCALAR)
    assert seen["lora_A.x.weight"] is seen["lora_A.weight"] is Role.DOWN
