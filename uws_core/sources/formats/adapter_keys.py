"""The names that trainers give to the tensors of an adapter, as tables: a prefix names the writer, a suffix the part.

A module gets one name whoever trained it: `lora_unet_down_blocks_0_attentions_0_proj_in` and
`unet.down_blocks.0.attentions.0.proj_in` are the same layer, `unet.down_blocks.0.attentions.0.proj_in`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from uws_core.sources.formats.tensor_names import LONGEST, unwrapped


class Role(StrEnum):
    """The part that a tensor plays in an adapter's update of one module."""

    DOWN = "down"
    UP = "up"
    MID = "mid"
    # The same two as mlx-lm stores them: (inputs, r) and (r, outputs).
    INPUT_DOWN = "lora_a"
    OUTPUT_UP = "lora_b"
    # KaSA's diagonal between the two.
    DIAGONAL = "lora_diag"
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
    TRAINING = "state of training"
    OTHER = "other method"
    UNKNOWN = "unknown part"
    WEIGHT = "whole weight"
    # Under its own name beside the updates: trained whole, or the base's.
    SAVED = "saved weight"


@dataclass(frozen=True, slots=True)
class Key:
    """One parsed key: its writer, its module, its part, and its adapter ("" where a file has one).

    `method` names the method, or the part, that is not read, for the roles OTHER and UNKNOWN.
    """

    dialect: str
    module: str
    role: Role
    adapter: str = ""
    tensor: str = "weight"
    method: str = ""
    # The key up to the part, as it is written: other keys that begin so belong to the same module.
    stem: str = field(default="", compare=False)

    @property
    def layer(self) -> str:
        """The name of the layer that the tensor is, or is part of: as in the base model's own files."""
        return f"{self.module}.{self.tensor}"


_NAMED = r"(?:\.(?P<adapter>[^.]+))?"
# Suffix, role, the dialect it speaks for when the prefix is silent. The first that fits counts.
_SUFFIXES: Final[tuple[tuple[str, Role, str], ...]] = (
    (r"\.loras\.(?P<adapter>[^.]+)\.lora_A", Role.DOWN, "adapterhub"),
    (r"\.loras\.(?P<adapter>[^.]+)\.lora_B", Role.UP, "adapterhub"),
    (rf"\.lora_A{_NAMED}\.weight", Role.DOWN, "peft"),
    (rf"\.lora_B{_NAMED}\.weight", Role.UP, "peft"),
    (rf"\.lora_embedding_A{_NAMED}", Role.EMBED_DOWN, "peft"),
    (rf"\.lora_embedding_B{_NAMED}", Role.EMBED_UP, "peft"),
    (rf"\.lora_diag{_NAMED}", Role.DIAGONAL, "peft"),
    (rf"\.lora_magnitude_vector{_NAMED}(?:\.weight)?", Role.MAGNITUDE, "peft"),
    (rf"\.lora_[AB]{_NAMED}\.bias", Role.BIAS, "peft"),
    (rf"\.(?:lora_velora_embed|ranknum){_NAMED}", Role.TRAINING, "peft"),
    # loralib and LitGPT store parameters; AdaLoRA does too, and has a `lora_E` beside them that stops the reading.
    (r"\.lora_A(?:\.(?P<adapter>(?!weight)[^.]+))?", Role.DOWN, "loralib"),
    (r"\.lora_B(?:\.(?P<adapter>(?!weight)[^.]+))?", Role.UP, "loralib"),
    (r"\.lora_a\.weight", Role.DOWN, "torchtune"),
    (r"\.lora_b\.weight", Role.UP, "torchtune"),
    (r"\.lora_a", Role.INPUT_DOWN, "mlx"),
    (r"\.lora_b", Role.OUTPUT_UP, "mlx"),
    (r"\.lora_down\.weight", Role.DOWN, "kohya"),
    (r"\.lora_up\.weight", Role.UP, "kohya"),
    (r"\.lora_mid\.weight", Role.MID, "kohya"),
    (r"\.lora\.down\.weight", Role.DOWN, "diffusers"),
    (r"\.lora\.up\.weight", Role.UP, "diffusers"),
    (r"\.lora_linear_layer\.down\.weight", Role.DOWN, "diffusers"),
    (r"\.lora_linear_layer\.up\.weight", Role.UP, "diffusers"),
    (r"\.processor\.(?P<xlabs>(?:qkv|proj)_lora[12]?)\.down\.weight", Role.DOWN, "xlabs"),
    (r"\.processor\.(?P<xlabs>(?:qkv|proj)_lora[12]?)\.up\.weight", Role.UP, "xlabs"),
    (r"_lora\.down\.weight", Role.DOWN, "diffusers"),
    (r"_lora\.up\.weight", Role.UP, "diffusers"),
    (r"\.adapter(?:_(?P<split>[a-z0-9]+))?\.linear_in\.weight", Role.DOWN, "megatron"),
    (r"\.adapter(?:_(?P<split>[a-z0-9]+))?\.linear_out\.weight", Role.UP, "megatron"),
    *((rf"\.{role}{_NAMED}", role, "") for role in Role if role.startswith(("hada_", "lokr_"))),
    (r"\.(?:alpha|network_alpha|lora_alpha)", Role.ALPHA, ""),
    # LyCORIS's own factor of an update, trained with it.
    (r"\.scalar", Role.SCALAR, ""),
    (r"\.(?:dora_scale|magnitude)", Role.MAGNITUDE, ""),
    (r"\.diff", Role.DIFF, "comfyui"),
    (r"\.(?:diff_b|w_norm|b_norm)", Role.BIAS, "comfyui"),
    (r"(?:\.base_layer)+\.(?:weight|bias|.+_(?:proj|weight|bias))", Role.BASE, "peft"),
    (r"\.original_module\.(?:.+)", Role.BASE, "peft"),
    (r"\.modules_to_save(?:\.(?P<adapter>[^.]+))?\.(?P<own>weight|bias)", Role.WEIGHT, "peft"),
)
_SUFFIX: Final = tuple((re.compile(suffix + r"\Z"), role, dialect) for suffix, role, dialect in _SUFFIXES)

# Parts of methods that are not read, and the name of the method. Each pattern is a whole component of a name.
_METHODS: Final[Mapping[str, str]] = {
    r"lora_E": "AdaLoRA",
    r"oft_(?:[rRsS]|blocks|diag)": "OFT",
    r"boft_(?:[RPs]|blocks)": "BOFT",
    r"(?:a1|a2|b1|b2|bm1|bm2)(?=\.weight$)|glora_\w+": "GLoRA",
    r"(?:q_layer|p_layer)(?=\.weight$)|lambda_layer|base_(?:q|p|lambda)": "T-LoRA",
    r"ia3_l|on_input": "(IA)3",
    r"vera_\w+": "VeRA",
    r"pvera_\w+": "PVeRA",
    r"randlora_\w+": "RandLoRA",
    r"fourierft_\w+": "FourierFT",
    r"waveft_\w+": "WaveFT",
    r"hra_\w+": "HRA",
    r"vblora_\w+": "VB-LoRA",
    r"road_(?:theta|alpha)": "RoAd",
    r"c3a_\w+": "C3A",
    r"shira_\w+": "SHiRA",
    r"(?:miss|bone)_\w+": "MiSS",
    r"delora_\w+": "DeLoRA",
    r"gralora_\w+": "GraLoRA",
    r"hira_\w+": "HiRA",
    r"lily_\w+": "LILY",
    r"osf_\w+": "OSF",
    r"poly_lora_\w+|poly_router": "Poly",
    r"unilora_\w+": "UniLoRA",
    r"tinylora_\w+": "TinyLoRA",
    r"psoft_\w+": "PSOFT",
    r"adamss_\w+": "AdaMSS",
    r"beft_\w+": "BEFT",
    r"deft_\w+": "DEFT",
    r"frod_\w+": "FRoD",
    r"peanut_\w+": "PEANuT",
    r"prompt_embeddings|prompt_encoder|prefix_encoder|adaption_\w+": "prompts",
    r"trainable_tokens_\w+": "trainable tokens",
    r"adapter_(?:down|up)|phm_\w+": "bottleneck adapters",
    r"set_weight": "a replaced weight",
}
_METHOD: Final = tuple((re.compile(rf"(?:^|\.)(?:{part})(?=\.|$)"), name) for part, name in _METHODS.items())
# Methods whose parts have names that a whole model may have too.
_AMBIGUOUS: Final = frozenset({"GLoRA", "prompts", "DEFT", "LILY", "OSF", "a replaced weight", "bottleneck adapters"})
_TELLING_PARTS: Final = "|".join(part for part, name in _METHODS.items() if name not in _AMBIGUOUS)
# A part that begins so and is none of those above belongs to an update that is not understood.
_UNKNOWN_PART: Final = re.compile(r"\.(?P<part>lora_?[A-Za-z]\w*(?:\.[\w-]+)*|lora\.[\w.-]+|(?:hada|lokr)_[\w.]+)$")

# What no model but an adapter has in its names. RWKV's own low-rank layers (`w_lora.lora.0.weight`) are none of these.
_SIGNS: Final = re.compile(
    r"^base_model\.model\."
    r"|^(?:lora|oft|boft|loha|lokr|glora|tlora)_(?:unet|te\d?|transformer|prior|dit|llm|text_encoder)\d*[._]|^lycoris_"
    r"|(?i:(?:^|[._])lora_?(?:a|b|[a-z]+_[ab]|down|up|mid|diag|magnitude_vector)(?=[._]|$))"
    r"|lora\d?\.(?:down|up)\.|\.lora_linear_layer\."
    r"|\.loras\.[^.]+\.|\.adapter(?:_[a-z0-9]+)?\.linear_(?:in|out)\."
    r"|lora_latent_mapping|(?:^|\.)(?:hada_[wt]|lokr_[wt])\d|\.diff$|\.adapters\.[^.]+\.adapter_(?:down|up)\."
    rf"|(?:^|\.)(?:{_TELLING_PARTS})(?=\.|$)"
)


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
    ("oft_unet_", "kohya", "unet."),
    ("oft_te1_", "kohya", "text_encoder."),
    ("oft_te2_", "kohya", "text_encoder_2."),
    ("oft_te_", "kohya", "text_encoder."),
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
# Writers that use the names of the base's own modules, so that no prefix speaks for another.
_OWN_NAMES: Final = frozenset({"adapterhub", "loralib", "torchtune", "mlx", "xlabs", "megatron"})
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
    """The meaning of a key, or None when no trainer known here writes such a name.

    `peft` says that a PEFT configuration lies beside, so that a prefix such as `transformer.` is part of the model.
    """
    if len(key) > LONGEST:
        return None
    key = unwrapped(key)
    for suffix, role, dialect in _SUFFIX:
        if match := suffix.search(key):
            groups = match.groupdict()
            writer, module = _module(key[: match.start()], dialect, peft=peft)
            if groups.get("xlabs"):
                # The layer of FLUX that XLabs' processor updates: stream 1 is the image's, stream 2 the text's.
                name, _, stream = groups["xlabs"].partition("_lora")
                if stream:
                    module = f"{module}.{'img' if stream == '1' else 'txt'}_attn.{name}"
                else:
                    # The queries, keys and values are the first rows of `linear1`; the projection is all of `linear2`.
                    module = f"{module}.linear1.qkv" if name == "qkv" else f"{module}.linear2"
            if groups.get("split"):
                module = f"{module}.{groups['split']}"
            adapter, tensor = groups.get("adapter") or "", groups.get("own") or "weight"
            return Key(writer, module, role, adapter, tensor, stem=key[: match.start()]) if module else None
    for part, method in _METHOD:
        if match := part.search(key):
            return _not_read(key, match.start(), Role.OTHER, method, peft=peft)
    if match := _UNKNOWN_PART.search(key):
        return _not_read(key, match.start(), Role.UNKNOWN, match["part"], peft=peft)
    # A weight saved with the adapter under its own name; only PEFT does that.
    module, _, tensor = key.removeprefix("base_model.model.").rpartition(".")
    is_saved = key.startswith("base_model.model.") and module
    return Key("peft", module, Role.SAVED, tensor=tensor) if is_saved else None


def is_telling(key: str) -> bool:
    """Whether a key has a name that no model but an adapter has."""
    return _SIGNS.search(key) is not None


def are_telling(keys: Iterable[str]) -> bool:
    """Whether the keys of a file have a name, or a set of names, that no model but an adapter has."""
    keys = list(keys)
    if any(map(is_telling, keys)):
        return True
    # One such name says nothing, `b1.weight` may be anybody's; the four matrices of GLoRA do.
    ends = ((key.rpartition(".a1.")[0], key) for key in keys if key.endswith(".a1.weight"))
    return any({f"{module}.{end}.weight" for end in ("a2", "b1", "b2")} <= set(keys) for module, _ in ends)


def spelled(name: str) -> str:
    """A name written with underscores for dots, with its dots: `mid_block_attentions_0` is `mid_block.attentions.0`."""
    words, found, at = name.split("_"), list[str](), 0
    while at < len(words):
        ends = range(min(at + _MOST_WORDS, len(words)), at + 1, -1)
        stop = next((end for end in ends if "_".join(words[at:end]) in _JOINED), at + 1)
        found.append("_".join(words[at:stop]))
        at = stop
    return ".".join(found)


def _not_read(key: str, end: int, role: Role, method: str, *, peft: bool) -> Key | None:
    """A part of a method, or of a module, that is not read."""
    dialect, module = _module(key[:end], "peft" if peft else "", peft=peft)
    return Key(dialect, module, role, method=method) if module else Key(dialect, key, role, method=method)


def _module(name: str, spoken: str, *, peft: bool) -> tuple[str, str]:
    if spoken in _OWN_NAMES and not name.startswith("base_model.model."):
        return spoken, f"unet.{name}" if spoken == "xlabs" else name
    for prefix, dialect, ours in _PREFIXES[:1] if peft else _PREFIXES:
        if name.startswith(prefix):
            rest = unwrapped(name[len(prefix) :])
            return dialect, ours + (spelled(rest) if dialect == "kohya" else _plain(rest))
    return "peft" if peft else spoken or "unknown", _plain(name)


def _plain(name: str) -> str:
    """Without the processor that early diffusers versions put the matrices into: `attn1.processor.to_out`."""
    return re.sub(r"\.to_out\Z", ".to_out.0", name.replace(".processor", "")) if ".processor." in name else name
