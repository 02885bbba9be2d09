"""The names that trainers give to the tensors of an adapter, as tables: a prefix says who, a suffix what it is.

A module gets one name whoever trained it: `lora_unet_down_blocks_0_attentions_0_proj_in` and
`unet.down_blocks.0.attentions.0.proj_in` are the same layer, `unet.down_blocks.0.attentions.0.proj_in`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from uws_core.sources.formats.tensor_names import LONGEST, unwrapped


class Role(StrEnum):
    """What a tensor is within an adapter's update of one module."""

    DOWN = "down"
    UP = "up"
    MID = "mid"
    ALPHA = "alpha"
    SCALAR = "scalar"
    EMBED_DOWN = "embedding down"
    EMBED_UP = "embedding up"
    HADA_W1_A = "hada_w1_a"
    HADA_W1_B = "hada_w1_b"
    HADA_W2_A = "hada_w2_a"
    HADA_W2_B = "hada_w2_b"
    HADA_T1 = "hada_t1"
    HADA_T2 = "hada_t2"
    LOKR_W1 = "lokr_w1"
    LOKR_W1_A = "lokr_w1_a"
    LOKR_W1_B = "lokr_w1_b"
    LOKR_W2 = "lokr_w2"
    LOKR_W2_A = "lokr_w2_a"
    LOKR_W2_B = "lokr_w2_b"
    LOKR_T2 = "lokr_t2"
    MAGNITUDE = "magnitude"
    DIFF = "full update"
    BIAS = "bias update"
    BASE = "weights of the base"
    OTHER = "other method"
    WEIGHT = "whole weight"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, understood: who wrote it, which module it belongs to, what it is, and of which adapter ("" if one)."""

    dialect: str
    module: str
    role: Role
    adapter: str = ""
    tensor: str = "weight"

    @property
    def layer(self) -> str:
        """The name of the layer that the tensor is, or is part of: as in the base model's own files."""
        return f"{self.module}.{self.tensor}"


# The roles of parts that no model but an adapter has.
_TELLING: Final = frozenset(Role) - {
    Role.ALPHA, Role.BASE, Role.BIAS, Role.DIFF, Role.MAGNITUDE, Role.OTHER, Role.SCALAR, Role.WEIGHT
}  # fmt: skip

_NAMED = r"(?:\.(?P<adapter>[^.]+))?"
# Suffix, role, the dialect it speaks for when the prefix is silent. The first that fits counts.
_SUFFIXES: Final[tuple[tuple[str, Role, str], ...]] = (
    (rf"\.lora_A{_NAMED}\.weight", Role.DOWN, "peft"),
    (rf"\.lora_B{_NAMED}\.weight", Role.UP, "peft"),
    (rf"\.lora_embedding_A{_NAMED}", Role.EMBED_DOWN, "peft"),
    (rf"\.lora_embedding_B{_NAMED}", Role.EMBED_UP, "peft"),
    (rf"\.lora_magnitude_vector{_NAMED}(?:\.weight)?", Role.MAGNITUDE, "peft"),
    (rf"\.lora_[AB]{_NAMED}\.bias", Role.BIAS, "peft"),
    (r"\.lora_down\.weight", Role.DOWN, "kohya"),
    (r"\.lora_up\.weight", Role.UP, "kohya"),
    (r"\.lora_mid\.weight", Role.MID, "kohya"),
    (r"\.lora\.down\.weight", Role.DOWN, "diffusers"),
    (r"\.lora\.up\.weight", Role.UP, "diffusers"),
    (r"\.lora_linear_layer\.down\.weight", Role.DOWN, "diffusers"),
    (r"\.lora_linear_layer\.up\.weight", Role.UP, "diffusers"),
    (r"_lora\.down\.weight", Role.DOWN, "diffusers"),
    (r"_lora\.up\.weight", Role.UP, "diffusers"),
    *((rf"\.{role}{_NAMED}", role, "") for role in Role if role.startswith(("hada_", "lokr_"))),
    (r"\.(?:alpha|network_alpha)", Role.ALPHA, ""),
    # LyCORIS's own factor of an update, trained with it.
    (r"\.scalar", Role.SCALAR, ""),
    (r"\.dora_scale", Role.MAGNITUDE, ""),
    (r"\.diff", Role.DIFF, "comfyui"),
    (r"\.(?:diff_b|w_norm|b_norm)", Role.BIAS, "comfyui"),
    (r"\.base_layer\.(?:weight|bias)", Role.BASE, "peft"),
    (r"\.original_module\.(?:.+)", Role.BASE, "peft"),
    (r"\.modules_to_save(?:\.(?P<adapter>[^.]+))?\.(?P<own>weight|bias)", Role.WEIGHT, "peft"),
    (
        r"\.(?:lora_E|lora_A|lora_B|ranknum|vera_lambda_[bd]|ia3_l|oft_[rs]|oft_blocks|oft_diag|boft_[RPs]|hra_u|"
        rf"randlora_\w+|on_input|set_weight|token_adapter\.trainable_tokens_delta){_NAMED}",
        Role.OTHER,
        "",
    ),
)
_SUFFIX: Final = tuple((re.compile(suffix + r"\Z"), role, dialect) for suffix, role, dialect in _SUFFIXES)

# Prefix, dialect, what it is called here. The first that fits counts.
_PREFIXES: Final[tuple[tuple[str, str, str], ...]] = (
    ("base_model.model.", "peft", ""),
    ("lora_unet_", "kohya", "unet."),
    ("lora_te1_", "kohya", "text_encoder."),
    ("lora_te2_", "kohya", "text_encoder_2."),
    ("lora_te3_", "kohya", "text_encoder_3."),
    ("lora_te_", "kohya", "text_encoder."),
    ("lora_transformer_", "kohya", "transformer."),
    ("lycoris_", "kohya", ""),
    ("model.diffusion_model.", "comfyui", "unet."),
    ("diffusion_model.", "comfyui", "unet."),
    ("text_encoders.clip_l.transformer.", "comfyui", "text_encoder."),
    ("text_encoders.clip_g.transformer.", "comfyui", "text_encoder_2."),
    ("text_encoders.t5xxl.transformer.", "comfyui", "text_encoder_3."),
    ("unet.", "diffusers", "unet."),
    ("text_encoder.", "diffusers", "text_encoder."),
    ("text_encoder_2.", "diffusers", "text_encoder_2."),
    ("text_encoder_3.", "diffusers", "text_encoder_3."),
    ("transformer.", "diffusers", "transformer."),
)
# Names that hold an underscore of their own, in the models that kohya's trainer writes with underscores for dots.
_JOINED: Final = frozenset(
    """
    down_blocks up_blocks mid_block transformer_blocks single_transformer_blocks temporal_transformer_blocks
    double_blocks single_blocks joint_blocks input_blocks middle_block output_blocks context_block x_block
    context_refiner noise_refiner double_stream_blocks single_stream_blocks
    to_q to_k to_v to_out to_qkv to_add_out add_q_proj add_k_proj add_v_proj add_out_proj to_added_qkv
    proj_in proj_out q_proj k_proj v_proj o_proj out_proj gate_proj up_proj down_proj qkv_proj proj_mlp
    self_attn cross_attn img_attn txt_attn img_mlp txt_mlp img_mod txt_mod img_in txt_in time_in vector_in guidance_in
    text_model vision_model text_projection token_embedding position_embedding final_layer_norm layer_norm1 layer_norm2
    time_emb_proj time_embedding time_embed label_emb add_embedding conv_shortcut conv_in conv_out conv1 conv2
    linear_1 linear_2 ff_context norm_out norm1_context final_layer adaLN_modulation in_layers out_layers emb_layers
    skip_connection x_embedder context_embedder time_text_embed text_embedder timestep_embedder guidance_embedder
    encoder_attn layer_norm dense_h_to_4h dense_4h_to_h wi_0 wi_1 feed_forward linear_in linear_out
    """.split()  # noqa: SIM905 - ninety names are read more easily in lines than as literals
)
_MOST_WORDS: Final = max(name.count("_") for name in _JOINED) + 1


def parsed(key: str, *, peft: bool = False) -> Key | None:
    """What a key is, or None when no trainer known here writes such a name.

    `peft` says that a PEFT configuration lies beside, so that a prefix such as `transformer.` is part of the model.
    """
    if len(key) > LONGEST:
        return None
    key = unwrapped(key)
    for suffix, role, spoken in _SUFFIX:
        if found := suffix.search(key):
            named = found.groupdict()
            dialect, module = _module(key[: found.start()], spoken, peft=peft)
            own = Key(dialect, module, role, named.get("adapter") or "", named.get("own") or "weight")
            return own if module else None
    return _whole(key)


def is_telling(key: str) -> bool:
    """Whether a key is a part that no model but an adapter has."""
    # Every such name has one of these in it, and most names of whole models have none.
    likely = any(mark in key for mark in ("lora", "hada_", "lokr_"))
    return likely and (found := parsed(key)) is not None and found.role in _TELLING


def spelled(name: str) -> str:
    """A name written with underscores for dots, with its dots: `mid_block_attentions_0` is `mid_block.attentions.0`."""
    words, found, at = name.split("_"), list[str](), 0
    while at < len(words):
        ends = range(min(at + _MOST_WORDS, len(words)), at + 1, -1)
        stop = next((end for end in ends if "_".join(words[at:end]) in _JOINED), at + 1)
        found.append("_".join(words[at:stop]))
        at = stop
    return ".".join(found)


def _module(name: str, spoken: str, *, peft: bool) -> tuple[str, str]:
    for prefix, dialect, ours in _PREFIXES[:1] if peft else _PREFIXES:
        if name.startswith(prefix):
            rest = unwrapped(name[len(prefix) :])
            return dialect, ours + (spelled(rest) if dialect == "kohya" else _plain(rest))
    return "peft" if peft else spoken or "unknown", _plain(name)


def _plain(name: str) -> str:
    """Without the processor that early diffusers versions put the matrices into: `attn1.processor.to_out`."""
    return re.sub(r"\.to_out\Z", ".to_out.0", name.replace(".processor", "")) if ".processor." in name else name


def _whole(key: str) -> Key | None:
    """A weight saved with the adapter as it is; only PEFT does that."""
    module, _, tensor = key.removeprefix("base_model.model.").rpartition(".")
    return Key("peft", module, Role.WEIGHT, tensor=tensor) if key.startswith("base_model.model.") and module else None
